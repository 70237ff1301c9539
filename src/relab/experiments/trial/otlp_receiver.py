"""Receive the OTLP traces of one trial, store them in the trial's folder and pass them on to telemetry."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import jiter
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relab.core.errors import InvalidInputError, RelabError
from relab.core.logging import get_logger
from relab.experiments.trial.http_service import BodyTooLargeError, read_body, serve
from relab.experiments.trial.otlp_exports import MAX_BODY_BYTES, MAX_TRIAL_BYTES, Encoding, SpanSink, numbered_files

MAX_TRACES: Final = 10_000
_AT_ONCE = 4
"""The largest number of request bodies in memory at a time."""
_BLOCK = 4_096
"""The disk space in bytes that even the smallest body takes."""
_TRACE_ID = re.compile("[0-9a-f]{32}")

_log = get_logger(__name__)

Clean = Callable[[bytes, Encoding], bytes]


class OtlpReceiver:
    """Receives OTLP/HTTP requests of one trial on one socket.

    Args:
        folder: the folder in which the bodies are stored, numbered in the order of their arrival. If the folder has
            bodies from an earlier attempt or from before a pause, the numbering continues after them.
        sink: is called with each stored body.
        clean: redacts secrets from a body before it is stored.

    Attributes:
        trace_ids: the trace ids of the received spans, in the order of their arrival; at most `MAX_TRACES`.
    """

    def __init__(self, folder: Path, sink: SpanSink, clean: Clean = lambda body, _encoding: body) -> None:
        self._folder = folder
        self._sink = sink
        self._clean = clean
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        earlier = numbered_files(folder)
        self._numbers = itertools.count(int(earlier[-1].stem) + 1 if earlier else 1)
        self._bytes = sum(max(path.lstat().st_size, _BLOCK) for path in earlier)
        self.trace_ids: dict[str, None] = {}

    def serve(self, listening: socket.socket) -> Callable[[], None]:
        """Receive requests on a listening socket in a thread; return a function that stops the receiver.

        When the receiver is stopped, it stores complete requests and drops incomplete requests.
        """
        return serve(listening, self.answer, name="otlp-receiver", methods=("POST",))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Receive one request, store its body and send the response."""
        is_json = "json" in request.headers.get("Content-Type", "")
        with self._room:
            status, reason = self._take(request, "json" if is_json else "protobuf")
        if status == 200:
            # An empty `ExportTraceServiceResponse`.
            kind, body = ("application/json", b"{}") if is_json else ("application/x-protobuf", b"")
        else:
            kind, body = "text/plain; charset=utf-8", reason.encode("utf-8", "replace")
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _take(self, request: BaseHTTPRequestHandler, encoding: Encoding) -> tuple[int, str]:
        try:
            # Read completely even for a wrong path: otherwise the client sees a broken connection and retries.
            body = read_body(request)
            if request.path != "/v1/traces":
                return 404, "only /v1/traces is served here"
            body = _unpacked(body, request.headers.get("Content-Encoding", ""))
            ids = _trace_ids(body, encoding)
            body = self._clean(body, encoding)
        except BodyTooLargeError:
            request.close_connection = True
            return 413, f"a body has a length of at most {MAX_BODY_BYTES:,} bytes"
        except (OSError, EOFError, ValueError, zlib.error, DecodeError) as error:
            request.close_connection = True
            return 400, f"the export cannot be read: {error}"
        return self._store(body, encoding, ids)

    def _store(self, body: bytes, encoding: Encoding, trace_ids: list[str]) -> tuple[int, str]:
        with self._lock:
            size = max(len(body), _BLOCK)
            if self._bytes + size > MAX_TRIAL_BYTES:
                return 413, f"a trial may export at most {MAX_TRIAL_BYTES:,} bytes"
            self._bytes += size
            for trace_id in trace_ids:
                if len(self.trace_ids) < MAX_TRACES:
                    self.trace_ids[trace_id] = None
            path = self._folder / f"{next(self._numbers):05}.{'json' if encoding == 'json' else 'binpb'}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            self._sink(body, encoding)
        except InvalidInputError as error:
            return 400, str(error)
        except (OSError, RelabError) as error:
            return 503, f"the export cannot be stored now: {error}"
        return 200, ""


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Return a body, decompressed if its encoding is gzip.

    Raises:
        BodyTooLargeError: the whole decompressed body is larger than `MAX_BODY_BYTES`.
        EOFError, zlib.error: the compressed body is incomplete or damaged.
    """
    if encoding.strip().lower() != "gzip":
        return body
    found: list[bytes] = []
    room = MAX_BODY_BYTES
    while body:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        found.append(member.decompress(body, room + 1))
        room -= len(found[-1])
        if room < 0:
            raise BodyTooLargeError
        if not member.eof:
            raise EOFError("the compressed body is incomplete")
        body = member.unused_data
    return b"".join(found)


def trace_ids_of(exports: Iterable[tuple[bytes, Encoding]], *, from_us: int = 0) -> list[str]:
    """Return the trace ids of spans in stored OTLP requests, in the order of their arrival; at most `MAX_TRACES`.

    A stored body that cannot be decoded was changed after it was stored; it is left out, with a warning in the log.

    Args:
        exports: `(body, encoding)` of each request.
        from_us: only spans that start at this time, in microseconds since 1970, or later.
    """
    found: dict[str, None] = {}
    for body, encoding in exports:
        try:
            found |= dict.fromkeys(_trace_ids(body, encoding, from_us=from_us))
        except (ValueError, DecodeError) as error:
            _log.warning("stored_export_not_read", error=str(error))
    return list(found)[:MAX_TRACES]


def _trace_ids(body: bytes, encoding: Encoding, *, from_us: int = 0) -> list[str]:
    """Return the trace ids of the spans in the body of an OTLP request.

    Only spans are read that start at `from_us`, in microseconds since 1970, or later.

    Raises:
        ValueError, DecodeError: the body cannot be decoded.
    """
    if encoding == "json":
        export = jiter.from_json(body)
        if not isinstance(export, dict):
            raise ValueError("the body is not a JSON object")
        groups = _objects(export, "resourceSpans")
        found = [
            (str(span.get("traceId", "")).lower(), span.get("startTimeUnixNano", 0))
            for group in groups
            for scope in _objects(group, "scopeSpans")
            for span in _objects(scope, "spans")
        ]
    else:
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            (span.trace_id.hex(), span.start_time_unix_nano)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
    return [
        trace_id
        for trace_id, start_ns in found
        if _TRACE_ID.fullmatch(trace_id) and (not from_us or _whole(start_ns) >= from_us * 1_000)
    ]


def _whole(number: object) -> int:
    """Return a number of an OTLP request in JSON, which may be a text, as an integer.

    Raises:
        ValueError: it is no integer.
    """
    if not isinstance(number, int | str):
        raise ValueError(f"{str(number)[:40]!r} is not an integer")  # noqa: TRY004 the value of a sender is wrong
    return int(number)


def _objects(parent: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{name} must be a list of objects")
    return found
