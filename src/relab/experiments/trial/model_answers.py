"""Rules about a cache of model answers: which answers can be replayed, and the keys of requests. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import jiter

from relab.core.json import digest
from relab.experiments.models import TrialIds

REPEAT: Final = "repeat"
REQUEST: Final = "request"

_ROUTES: Final = ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages", ":generateContent")
"""The ends of the paths whose answers depend on the request alone: OpenAI's, Anthropic's and Google's."""
_CREDENTIALS: Final = frozenset(
    ("authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")
)
_IRRELEVANT: Final = frozenset(
    ("host", "connection", "keep-alive", "te", "upgrade", "transfer-encoding", "content-length", "accept-encoding",
     "user-agent", "date", "idempotency-key", "x-request-id", "x-client-request-id", "traceparent", "tracestate", "baggage")
)  # fmt: skip
"""Headers that differ between equal requests, or that apply to a single connection only."""
_IRRELEVANT_PREFIX: Final = "x-stainless-"
_SECRET_PARAMETERS: Final = frozenset(("key", "api_key", "api-key"))
# Tuples, because a server may send lists and objects here, which a set cannot look up.
_LAST_EVENTS: Final = ("message_stop", "response.completed")
_FAILED_EVENTS: Final = ("error", "response.failed", "response.incomplete", "response.cancelled")
_UNFINISHED: Final = ("queued", "in_progress", "failed", "cancelled", "incomplete")


@dataclass(frozen=True, slots=True)
class CacheKeys:
    """Computes the cache keys of one trial's requests; requests with the same key share one answer.

    Attributes:
        upstream: the address of the model's server.
        scope: which requests have the same key. `REQUEST`: all equal requests. `REPEAT`: equal requests of trials with
            the same task, repeat number and `start`. If a trial sends a request again, the second request has another
            key than the first one.
        ids: the ids of the trial.
        start: how many times the trial has been started in this process, from 1.
    """

    upstream: str
    scope: str
    ids: TrialIds
    start: int

    def request_digest(self, path: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the digest of a request to a model, without credentials; the method `key` makes a cache key from it.

        Return None if the cache must not answer the request: its path does not belong to a known model API, it asks
        for an answer in the background, or its body is not a JSON object or has no canonical form.

        Args:
            path: the path with its query.
            headers: the headers by name.
            body: the whole body.
        """
        parts = urlsplit(path)
        if not parts.path.endswith(_ROUTES):
            return None
        try:
            content = jiter.from_json(body, allow_inf_nan=False)
        except ValueError:
            return None
        # An answer in the background is fetched later by its id.
        if not isinstance(content, dict) or content.get("background") is True:
            return None
        query = [[name, value] for name, value in parse_qsl(parts.query) if name.lower() not in _SECRET_PARAMETERS]
        kept = sorted([name.lower(), value] for name, value in headers.items() if _is_relevant(name.lower()))
        try:
            return digest([self.upstream, parts.path, query, kept, content])
        except ValueError:
            # A number beyond a double, such as 1e999, has no canonical form.
            return None

    def key(self, request_digest: str, number: int) -> str:
        """Return the cache key of a request.

        Args:
            request_digest: the digest of the request, from the method `request_digest`.
            number: the number of equal requests that this trial has made before.
        """
        parts: list[Any] = [request_digest, self.scope]
        if self.scope == REPEAT:
            parts += [self.ids.task_id, self.ids.repl_idx, self.start, number]
        return digest(parts).removeprefix("sha256:")


def forwarded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for the request to the model's server, made from the headers of the harness's request.

    Headers about the connection are left out, and the answer is requested without compression.
    """
    dropped = {
        "host",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "transfer-encoding",
        "content-length",
        "proxy-authorization",
    }
    listed = ",".join(value for name, value in headers.items() if name.lower() == "connection")
    named = {name.strip().lower() for name in listed.split(",")}
    # An uncompressed answer can be checked and replayed to any client.
    kept = {name: value for name, value in headers.items() if name.lower() not in dropped | named}
    return {name: value for name, value in kept.items() if name.lower() != "accept-encoding"} | {
        "Accept-Encoding": "identity"
    }


def is_whole_answer(status: int, content_type: str, body: bytes) -> bool:
    """Return whether an HTTP response is a complete answer of a model: no error, and not an answer that broke off."""
    if status != 200:
        return False
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        return _is_whole_stream(body)
    try:
        content = jiter.from_json(body)
    except ValueError:
        return False
    return isinstance(content, dict) and not _is_error(content) and content.get("status") not in _UNFINISHED


def _is_whole_stream(body: bytes) -> bool:
    """Return whether a stream of server-sent events has its last event, and no error."""
    is_ended = False
    for data in _event_data(body):
        if data == b"[DONE]":
            is_ended = True
            continue
        try:
            content = jiter.from_json(data)
        except ValueError:
            return False
        if not isinstance(content, dict) or _is_error(content) or content.get("type") in _FAILED_EVENTS:
            return False
        is_ended = is_ended or content.get("type") in _LAST_EVENTS
    return is_ended


def _event_data(body: bytes) -> Iterator[bytes]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            yield line[5:].strip()


def _is_error(content: Mapping[str, Any]) -> bool:
    return content.get("error") is not None or content.get("type") == "error"


def _is_relevant(name: str) -> bool:
    return name not in _CREDENTIALS | _IRRELEVANT and not name.startswith(_IRRELEVANT_PREFIX)
