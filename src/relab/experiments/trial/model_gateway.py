"""A gateway: an HTTP server that passes a harness's requests on to a model's server, and can cache the answers.

It listens on a loopback address inside the sandbox. The harness must be configured with this address, for example by
`OPENAI_BASE_URL`. The gateway can read requests, because it receives plain HTTP. It sends them to the model's server
over TLS if the server's address begins with `https://`.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from relab.core.clock import Clock, format_time
from relab.experiments.trial.answer_cache import AnswerCache, CachedAnswer
from relab.experiments.trial.http_service import BodyTooLargeError, read_body, serve
from relab.experiments.trial.model_answers import CacheKeys, forwarded_headers, is_whole_answer

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_BYTES: Final = 64 * 1_048_576
"""A larger answer is passed on and not stored."""
TIMEOUT_S: Final = 900.0
"""How long the model's server may send nothing."""
CONNECT_TIMEOUT_S: Final = 15.0
"""The end of a trial waits for a connection that is being opened, so this time is short."""
MARK: Final = "X-Relab-Cache"
"""The response header that says `hit`, `miss` or `off`."""
_METHODS: Final = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
_MAX_LOG_LINES: Final = 20_000
_KEPT_HEADERS: Final = ("content-type", "content-encoding", "retry-after", "location", "x-request-id", "request-id")
_KEPT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-", "openai-")


class ModelGateway:
    """Passes the requests of one trial on to a model's server or, with a cache, replays stored answers.

    Args:
        upstream: the address of the server, such as `https://api.openai.com/v1`; only paths below it are passed on.
        log: the file that gets a JSON line for each request, up to `_MAX_LOG_LINES`, without headers and bodies.
        keys: computes the keys of cached answers; None if answers are not cached.
        cache: the stored answers; None if answers are not cached.
        is_clean: returns whether a body contains no secret of the harness, so that it may be stored.
        clock: the source of the times in the log.

    Attributes:
        counts: the number of requests by kind: `hit` (answered from the cache), `miss` (not found in the cache) and
            `off` (the cache is not used for them, or they are rejected).
    """

    def __init__(
        self,
        upstream: str,
        log: Path,
        *,
        keys: CacheKeys | None = None,
        cache: AnswerCache | None = None,
        is_clean: Callable[[bytes], bool] = lambda _body: True,
        clock: Clock,
    ) -> None:
        parts = urlsplit(upstream)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._base = parts.path.rstrip("/")
        self._log = log
        self._keys = keys
        self._cache = cache
        self._is_clean = is_clean
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._unanswered: dict[str, list[int]] = {}
        """The numbers of requests without an answer, as heaps; the next equal requests get these numbers."""
        self._connections = _Connections()
        self._lines = 0
        self._client: httpx.Client | None = None
        self.counts: Counter[str] = Counter()

    def serve(self, listening: socket.socket) -> Callable[[], None]:
        """Answer requests on a listening socket in threads; return a function that stops the gateway."""
        import httpx  # noqa: PLC0415 loaded only where a gateway is configured

        time_outs = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        client = self._client = httpx.Client(timeout=time_outs, follow_redirects=False)
        end = serve(listening, self.answer, name="model-gateway", methods=_METHODS, keep_alive=True)

        def stop() -> None:
            # Shut down first, because `close` does not wake a thread that waits for an answer.
            self._connections.shut_down()
            client.close()
            end()

        return stop

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Read one request, and send the answer from the cache or from the server."""
        begun = time.monotonic()
        found, status = "off", 0
        try:
            has_body = {"content-length", "transfer-encoding"} & {name.lower() for name in request.headers}
            body = read_body(request) if has_body else b""
            path = request.path
            if not path.startswith(f"{self._base}/") or ".." in path.split("?", 1)[0].split("/"):
                status = _refuse(request, 404, f"only paths below {self._base}/ are passed on")
                return
            found, status = self._exchange(request, path, body)
        except BodyTooLargeError:
            status = _refuse(request, 413, "the body is too large")
        except (ValueError, EOFError) as error:
            status = _refuse(request, 400, f"the request cannot be read: {error}")
        finally:
            self._note(request, found, status, begun)

    def _exchange(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> tuple[str, int]:
        """Answer a request from the cache or by the model's server; return `(kind, HTTP status)`.

        The kind is `hit` (answered from the cache), `miss` (not found in the cache) or `off` (the cache is not used).
        The status is 0 if the server's answer broke off, and 502 if the server cannot be reached.
        """
        headers = dict(request.headers.items())
        digest = None
        if self._keys is not None and self._cache is not None and request.command == "POST":
            digest = self._keys.request_digest(path, headers, body)
        if digest is None or self._keys is None or self._cache is None:
            return "off", self._forward(request, path, headers, body, None)
        number = self._next_number(digest)
        key = self._keys.key(digest, number)
        kept = self._cache.get(key)
        if kept is not None:
            _replay(request, kept)
            return "hit", 200
        is_answered = False
        try:
            status = self._forward(request, path, headers, body, key)
            is_answered = status == 200
        finally:
            if not is_answered:
                # The client asks again for the answer that it did not get. Equal requests may have got later numbers.
                with self._lock:
                    heapq.heappush(self._unanswered.setdefault(digest, []), number)
        return "miss", status

    def _next_number(self, digest: str) -> int:
        """Return the number of a request among the equal requests of the trial, from 0.

        It is the smallest number that no answered or open request has. `digest` is the digest of the request.
        """
        with self._lock:
            if unanswered := self._unanswered.get(digest):
                return heapq.heappop(unanswered)
            self._numbers[digest] += 1
            return self._numbers[digest] - 1

    def _forward(
        self, request: BaseHTTPRequestHandler, path: str, headers: dict[str, str], body: bytes, key: str | None
    ) -> int:
        """Send a request to the model's server, and send the answer to the harness; return the HTTP status.

        The status is 0 if the answer broke off, and 502 if the server cannot be reached. The answer is cached under
        `key` if it has status 200, is complete, reports no error (`is_whole_answer`), contains no secrets, and has at
        most `MAX_ANSWER_BYTES`. If `key` is None, nothing is cached.
        """
        import httpx  # noqa: PLC0415 loaded by `serve` before

        assert self._client is not None
        mark = "miss" if key is not None else "off"
        try:
            asked = self._client.build_request(
                request.command,
                self._origin + path,
                headers=forwarded_headers(headers),
                content=body,
                extensions={"trace": self._connections.note},
            )
            response = self._client.send(asked, stream=True)
        except (httpx.HTTPError, RuntimeError) as error:
            # A RuntimeError: the trial has ended, and with it the client.
            return _refuse(request, 502, f"the model's server cannot be reached: {type(error).__name__}: {error}")
        try:
            is_whole, pieces = _pass_on(request, response, mark)
        finally:
            response.close()
        if key is not None and pieces is not None:
            self._store(key, response, pieces)
        return response.status_code if is_whole else 0

    def _store(self, key: str, response: httpx.Response, pieces: list[bytes]) -> None:
        content_type = response.headers.get("content-type", "application/json")
        answer = CachedAnswer(content_type, pieces)
        is_kept = is_whole_answer(response.status_code, content_type, answer.body) and self._is_clean(answer.body)
        if is_kept and self._cache is not None:
            self._cache.put(key, answer)

    def _note(self, request: BaseHTTPRequestHandler, found: str, status: int, begun: float) -> None:
        with self._lock:
            self.counts[found] += 1
            self._lines += 1
            if self._lines > _MAX_LOG_LINES:
                return
            line = {
                "time": format_time(self._clock.now_us()),
                "method": request.command,
                "path": request.path.split("?", 1)[0][:1_000],
                "status": status,
                "cache": found,
                "duration_ms": round((time.monotonic() - begun) * 1_000, 1),
            }
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


class _Connections:
    """The open connections to a model's server. Shutting them down ends the requests that wait for an answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._are_shut_down = False

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Add a connection that was opened; httpx calls this method at each step of a request (extension `trace`)."""
        if event.partition(".")[2] not in {"connect_tcp.complete", "start_tls.complete"}:
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets = [*(each for each in self._sockets if each.fileno() >= 0), opened]
            if self._are_shut_down:
                _shut_down(opened)

    def shut_down(self) -> None:
        """Shut down all connections, and those that are still being opened as soon as they are open."""
        with self._lock:
            self._are_shut_down = True
            for each in self._sockets:
                _shut_down(each)


def _shut_down(connection: socket.socket) -> None:
    # The connection may be closed already.
    with contextlib.suppress(OSError):
        # The method of `socket`, because that of an SSL socket changes the object, which another thread reads from.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _pass_on(request: BaseHTTPRequestHandler, response: httpx.Response, mark: str) -> tuple[bool, list[bytes] | None]:
    """Send the answer of the model's server to the harness as it arrives.

    `mark` is the value of the response header `MARK`, which says whether the answer is from the cache of model answers:
    `hit`, `miss`, or `off` if the cache is not used.

    Returns:
        `(whether the answer is complete, pieces of its body)`. The pieces are None if the answer must not be stored,
        because it is incomplete, has no body (HEAD), or is larger than `MAX_ANSWER_BYTES`.
    """
    import httpx  # noqa: PLC0415 loaded by `ModelGateway.serve` before

    length = response.headers.get("content-length")
    if request.command == "HEAD":
        _begin_answer(request, response.status_code, mark, length or "0", _kept_headers(response))
        return True, None
    _begin_answer(request, response.status_code, mark, length, _kept_headers(response))
    is_chunked = length is None
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in response.iter_raw():
            size += len(piece)
            if size <= MAX_ANSWER_BYTES:
                pieces.append(piece)
            _write_piece(request, piece, is_chunked=is_chunked)
    except (httpx.HTTPError, httpx.StreamError, RuntimeError):
        # Without its end, the client sees that the answer broke off.
        request.close_connection = True
        return False, None
    _end_pieces(request, is_chunked=is_chunked)
    return True, pieces if size <= MAX_ANSWER_BYTES else None


def _replay(request: BaseHTTPRequestHandler, answer: CachedAnswer) -> None:
    is_stream = answer.content_type.startswith("text/event-stream")
    length = None if is_stream else str(len(answer.body))
    _begin_answer(request, 200, "hit", length, {"Content-Type": answer.content_type})
    for piece in answer.pieces:
        _write_piece(request, piece, is_chunked=is_stream)
    _end_pieces(request, is_chunked=is_stream)


def _begin_answer(
    request: BaseHTTPRequestHandler, status: int, mark: str, length: str | None, headers: Mapping[str, str]
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header(MARK, mark)
    if length is None:
        request.send_header("Transfer-Encoding", "chunked")
    else:
        request.send_header("Content-Length", length)
    request.end_headers()


def _write_piece(request: BaseHTTPRequestHandler, piece: bytes, *, is_chunked: bool) -> None:
    if piece:
        request.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)


def _end_pieces(request: BaseHTTPRequestHandler, *, is_chunked: bool) -> None:
    if is_chunked:
        request.wfile.write(b"0\r\n\r\n")


def _kept_headers(response: httpx.Response) -> dict[str, str]:
    """Return those headers of a response that are passed on to the harness; cookies and unknown headers are not."""
    return {
        name: value
        for name, value in response.headers.items()
        if name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIXES)
    }


def _refuse(request: BaseHTTPRequestHandler, status: int, reason: str) -> int:
    """Send an error response of the gateway itself to the harness; return the HTTP status.

    The connection is closed, because the rest of the request may not have been read.
    """
    body = json.dumps({"error": {"type": "relab_gateway", "message": f"relab gateway: {reason}"}}).encode()
    request.close_connection = True
    _begin_answer(request, status, "off", str(len(body)), {"Content-Type": "application/json", "Connection": "close"})
    request.wfile.write(body)
    return status
