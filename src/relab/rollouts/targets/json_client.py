"""Send JSON over HTTP with bounded answers; each request has a new connection, so that it may reach another worker."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relab.core.errors import MalformedBodyError
from relab.core.json import JsonValue, canonical_json, parse_json
from relab.rollouts.errors import SubjectError, TargetUnavailableError

MAX_BYTES: Final = 4 << 20
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ALLOWED_PREFIX: Final = "ROLLOUT_"
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """An HTTP answer: its status, its JSON body (`document`, None if the body is not JSON), and the beginning of it as text."""

    status: int
    document: JsonValue
    text: str

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx and the body is JSON."""
        return 200 <= self.status < 300

    def problem(self) -> str:
        """Return the status of an error response with its `detail`, or else with the beginning of its body."""
        if isinstance(self.document, dict) and isinstance(self.document.get("detail"), str):
            return f"{self.status}: {self.document['detail']}"[:_SHOWN]
        return f"{self.status}: {self.text}"


class JsonClient:
    """Sends single requests and reads their JSON answers.

    Args:
        timeout_s: time limit of a connection, and between two parts of an answer.
        headers: sent with each request, as `with_environment` returns them.
    """

    def __init__(self, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        import httpx

        self._headers = dict(headers or {})
        # Certificates are loaded once, because that is slow.
        self._verify = httpx.create_ssl_context(trust_env=False)
        self._timeout_s = timeout_s

    def request(
        self, method: str, url: str, body: JsonValue = None, *, headers: Mapping[str, str] | None = None
    ) -> JsonAnswer:
        """Send a request and return its answer, whatever its status; redirects are not followed.

        `body` is sent as JSON; a GET without one has no body. `headers` are added to those of the client.

        Raises:
            TargetUnavailableError: there is no whole answer, it is larger than `MAX_BYTES`, or a successful one is not JSON.
        """
        import httpx

        content = None if body is None and method == "GET" else canonical_json(body).encode()
        sent = {**self._headers, **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        where = url.partition("?")[0]
        try:
            with (
                httpx.Client(verify=self._verify, timeout=self._timeout_s, trust_env=False) as client,
                client.stream(method, url, content=content, headers=sent) as answer,
            ):
                found = bytearray()
                for part in answer.iter_bytes():
                    found += part
                    if len(found) > MAX_BYTES:
                        raise TargetUnavailableError(f"{where} answers with more than {MAX_BYTES:,} bytes.")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = str(error) or type(error).__name__
            raise TargetUnavailableError(
                f"{where} does not answer: {reason}.", remedy="Start the service, or check the URL in the plan."
            ) from error
        text = bytes(found[:_SHOWN]).decode(errors="replace")
        try:
            return JsonAnswer(answer.status_code, parse_json(bytes(found)), text)
        except MalformedBodyError:
            if answer.is_success:
                raise TargetUnavailableError(f"{where} answers with something that is not JSON: {text!r}.") from None
            return JsonAnswer(answer.status_code, None, text)

    def get(self, url: str) -> JsonValue:
        """Return the JSON of a successful GET.

        Raises:
            TargetUnavailableError: there is no answer with JSON and a status of 2xx.
        """
        answer = self.request("GET", url)
        if not answer.is_success:
            raise TargetUnavailableError(f"{url.partition('?')[0]} answers {answer.problem()}.")
        return answer.document


def with_environment(headers: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return headers with `${ROLLOUT_NAME}` replaced by the environment variable of that name.

    Raises:
        SubjectError: a variable is not set, or its name does not begin with `ROLLOUT_`. Other variables could be
            secrets of this process, which a plan must not send anywhere.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if not name.startswith(_ALLOWED_PREFIX):
            raise SubjectError(f"A header of the plan uses ${{{name}}}; names must begin with {_ALLOWED_PREFIX}.")
        if name not in environment:
            raise SubjectError(f"A header of the plan uses ${{{name}}}, which is not set.", remedy=f"export {name}=…")
        return environment[name]

    return {name: _VARIABLE.sub(value, text) for name, text in headers.items()}


def at_pointer(document: JsonValue, pointer: str) -> JsonValue:
    """Return the value at a JSON pointer (RFC 6901).

    Raises:
        LookupError: the document has no such position.
    """
    value = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value[key]
        elif isinstance(value, list) and key.isdigit():
            value = value[int(key)]
        else:
            raise LookupError(pointer)
    return value


def curl(method: str, url: str, body: JsonValue, headers: Mapping[str, str] | None = None) -> str:
    """Return a curl command that sends `body` as JSON.

    `headers` are those of the plan, without secrets: the shell replaces `${ROLLOUT_NAME}` in them.
    """
    lines = [f"curl -X {method} {shlex.quote(url)}", "-H 'Content-Type: application/json'"]
    lines += [f"-H {_quoted(f'{name}: {value}')}" for name, value in (headers or {}).items()]
    lines.append(f"-d {shlex.quote(json.dumps(body))}")
    return " \\\n  ".join(lines)


def _quoted(text: str) -> str:
    if not _VARIABLE.search(text):
        return shlex.quote(text)
    escaped = re.sub(r'([\\"`]|\$(?!\{))', r"\\\1", text)
    return f'"{escaped}"'
