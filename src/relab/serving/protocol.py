"""Serve HTTP/1.1 on one connection by a subclass of uvicorn's httptools protocol that enforces `HttpLimits`."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from relab.serving.connections import Admission, Connections
from relab.serving.head import check_head
from relab.serving.limits import (
    BAD_REQUEST,
    BEGIN_STREAM,
    BODY_TIMEOUT,
    HEADER_TIMEOUT,
    TOO_MANY_PIPELINED,
    Rejection,
    RequestRejectedError,
    headers_too_large,
    response_of,
    target_too_long,
)

BODY_GRACE_S = 5.0
"""Added to the time limit of a body: the app has the same limit and a better response, so it must time out first."""
LINGER_S = 2.0
LINGER_BYTES = 1_048_576
"""After a rejection, the server continues to read for at most `LINGER_S` and `LINGER_BYTES`: if it closed at once, the
client's kernel would drop the response (RFC 9112, 9.6)."""
UNREAD_BYTES = 262_144
"""The maximum size of a body part that arrives after the response; beyond it, the connection is closed."""
CHUNK_OVERHEAD = 16
"""The maximum number of framing bytes per byte of a chunked body; a chunk of one byte has six."""


class _Reading(Enum):
    """The part of a request that the parser expects next."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class _PipelineFlow(FlowControl):
    """Flow control that pauses reading from the client while pipelined requests wait for earlier responses."""

    def __init__(self, transport: asyncio.Transport, owner: LimitedProtocol) -> None:
        # uvicorn itself resumes reading after each response, so requests would accumulate as fast as the client sends
        # them.
        super().__init__(transport)
        self._owner = owner
        self._paused_at = 0.0

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._paused_at = self._owner.loop.time()
        super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self._owner.pipeline:
            self._owner.exclude_pause(self._paused_at)
            super().resume_reading()

    def resume_writing(self) -> None:
        self._owner.reader_went_on()
        super().resume_writing()


class LimitedProtocol(HttpToolsProtocol):
    """The HTTP protocol of one connection, with limits for requests.

    A rejected request gets a problem document, and the connection is closed.

    Args:
        config: uvicorn's configuration.
        server_state: the state that all connections of uvicorn's server share.
        app_state: the state of the app, for the ASGI scope.
        connections: the registry of open connections, which also has the limits.
        client: the address of the client.
        admission: which requests the connection may send: all, or health checks only.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
        client: str,
        admission: Admission,
    ) -> None:
        super().__init__(config, server_state, {**app_state, BEGIN_STREAM: self._begin_stream}, _loop)
        self._inner_app = self.app
        self.app = self._with_whole_bodies
        self._registry: Final = connections
        self._limits: Final = connections.limits
        self._client_key: Final = client
        self._admission: Final = admission
        self._reading = _Reading.NOTHING
        self._since = self.loop.time()
        self._has_been_read = False
        self._running: RequestResponseCycle | None = None
        self._header_bytes = 0
        self._trailers = 0
        # Bytes of the head (or the body), counted from the first received chunk after its start.
        self._raw_bytes = 0
        self._counts_raw = False
        self._body_bytes = 0
        self._unread_bytes = 0
        self._is_deaf = False
        self._is_evicted = False
        self._is_made = False
        self._lingers_until: float | None = None
        self._lingered_bytes = 0
        self._stalled_since: float | None = None
        self._stalled_bytes = 0
        connections.add(self, client, admission)

    # Methods that the registry calls.

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for the headers of a request and has no response in progress."""
        return self._reading is not _Reading.BODY and not self._is_busy

    def evict(self) -> None:
        """Close the connection at once, to make room for another."""
        self._is_evicted = True
        self._registry.remove(self, self._client_key)
        if self._is_made:
            self.transport.abort()

    def check(self, now_s: float) -> None:
        """Close the connection if one of its time limits has passed; `now_s` is the event loop's time, in seconds."""
        if not self._is_made:
            return
        if self._reader_stalls(now_s):
            self._registry.note("stalled_reader", client=self._client_key)
            self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if self._lingers_until is not None:
            if now_s >= self._lingers_until:
                self.transport.abort()
            return
        # While the server does not read, the client does not cause the delay.
        if self._is_deaf or self.flow.read_paused:
            return
        waited = now_s - self._since
        if self._reading is _Reading.HEAD:
            if waited >= self._limits.header_timeout_s:
                self._reject(HEADER_TIMEOUT)
        elif self._reading is _Reading.BODY:
            if waited >= self._limits.body_timeout_s + BODY_GRACE_S:
                self._reject(BODY_TIMEOUT)
        elif not self._has_been_read and waited >= self._limits.header_timeout_s:
            # Browsers open connections in advance; without a request, no response is due.
            self.transport.close()

    def reader_went_on(self) -> None:
        """Reset the timer that detects a stalled client, because the client has read bytes."""
        self._stalled_since = None

    def exclude_pause(self, paused_at: float) -> None:
        """Extend the current time limit by the pause in reading that began at `paused_at` (event loop's time, in s)."""
        self._since += self.loop.time() - max(paused_at, self._since)

    # Methods that the transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to serve the connection on `transport`; abort the transport if `evict` was called before."""
        super().connection_made(transport)
        self._is_made = True
        self.flow = _PipelineFlow(transport, self)
        if self._is_evicted:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and break its reference cycles, because this process rarely collects cycles."""
        self._registry.remove(self, self._client_key)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.app_state = {}
        self.scope = None  # type: ignore[assignment]
        self.cycle = None  # type: ignore[assignment]
        self._running = None
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the client; discard them if an earlier request was invalid or the connection is closing."""
        if self._is_deaf:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._has_been_read = True
        if self._reading is _Reading.NOTHING:
            # Start the time limit here and not when the message begins: a client may send empty lines without end.
            self._begin_head()
        self._counts_raw = True
        try:
            self.parser.feed_data(data)
            if self._counts_raw:
                self._count_raw(len(data))
        except httptools.HttpParserUpgrade:
            # The server supports no other protocol: it answers the request normally and cannot read the bytes after it.
            self._close_after_responses()
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._reject(cause.rejection if isinstance(cause, RequestRejectedError) else BAD_REQUEST)
        except RequestRejectedError as error:
            self._reject(error.rejection)

    # Methods that the parser calls.

    def on_message_begin(self) -> None:
        """Start the time limit of the request headers, unless earlier bytes of the request have started it."""
        super().on_message_begin()
        if self._reading is _Reading.NOTHING:
            self._begin_head()
            # The number of bytes of this chunk before the message is not known, so the chunk is not counted.
            self._counts_raw = False

    def on_url(self, url: bytes) -> None:
        """Append a part of the request target; raise `RequestRejectedError` if the target is then too long."""
        super().on_url(url)
        if len(self.url) > self._limits.max_request_line_bytes:
            raise RequestRejectedError(target_too_long(self._limits))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field to the request; discard a trailer field (a field after the body).

        Raises:
            RequestRejectedError: the fields are too large or too many.
        """
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self._limits.max_header_bytes:
            raise RequestRejectedError(headers_too_large(self._limits))
        # The headers are already checked: a trailer must not be mistaken for a checked header (RFC 9110, 6.5.1).
        if self._reading is _Reading.BODY:
            self._trailers += 1
            if self._trailers > self._limits.max_headers:
                raise RequestRejectedError(headers_too_large(self._limits))
            return
        super().on_header(name, value)
        if len(self.headers) > self._limits.max_headers:
            raise RequestRejectedError(headers_too_large(self._limits))

    def on_headers_complete(self) -> None:
        """Start or queue the request; raise `RequestRejectedError` if its headers are wrong, or too many are queued."""
        check_head(
            self.parser.get_http_version(),
            self.url,
            self.headers,
            is_health_only=self._admission is Admission.HEALTH_ONLY,
        )
        if len(self.pipeline) >= self._limits.max_pipelined_requests:
            raise RequestRejectedError(TOO_MANY_PIPELINED)
        self._reading = _Reading.BODY
        self._since = self.loop.time()
        self._header_bytes = self._trailers = self._raw_bytes = self._body_bytes = self._unread_bytes = 0
        self._counts_raw = False
        super().on_headers_complete()
        if self._admission is Admission.HEALTH_ONLY:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Append a part of the request body; discard the part if the response is already complete."""
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > UNREAD_BYTES:
                self._linger()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the time limit of the request body, because the request was received completely."""
        self._reading = _Reading.NOTHING
        self._counts_raw = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next queued request of the connection; if none is queued, wait for a request."""
        self._registry.end_stream(self, self._client_key)
        self._running = None
        super().on_response_complete()
        if self._reading is _Reading.HEAD:
            # The next request has started, so the connection is not idle, and the time limit of headers applies.
            self._unset_keepalive_if_required()

    async def _with_whole_bodies(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the app; it gets the body of a complete request, even if the client has disconnected since then."""
        cycle = self._running

        # uvicorn would drop this body, but a client that stopped waiting (such as Alertmanager) has sent all its data.
        async def received() -> Any:
            if cycle is not None and cycle.disconnected and cycle.body and not cycle.more_body:
                body = bytes(cycle.body)
                cycle.body.clear()
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._inner_app(scope, received, send)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        return False

    # Internal methods.

    @property
    def _is_busy(self) -> bool:
        return bool(self.pipeline) or (self._running is not None and not self._running.response_complete)

    def _begin_head(self) -> None:
        self._reading = _Reading.HEAD
        self._since = self.loop.time()
        self._header_bytes = self._raw_bytes = 0

    def _begin_stream(self) -> bool:
        """Count this connection as an event stream, if `Connections.begin_stream` allows it; return whether it did."""
        return self._registry.begin_stream(self, self._client_key)

    def _count_raw(self, count: int) -> None:
        """Add `count` to the received bytes of the head or body; raise `RequestRejectedError` if they are too many."""
        # This also limits incomplete fields, empty lines and chunk framing, which the parser does not report.
        self._raw_bytes += count
        limits = self._limits
        if self._reading is _Reading.HEAD:
            if self._raw_bytes > limits.max_header_bytes + limits.max_request_line_bytes:
                raise RequestRejectedError(headers_too_large(limits))
        elif self._raw_bytes > limits.max_header_bytes + (1 + CHUNK_OVERHEAD) * self._body_bytes:
            raise RequestRejectedError(BAD_REQUEST)

    def _reject(self, rejection: Rejection) -> None:
        """Answer an invalid request with `rejection` and close the connection.

        If a response to an earlier request is in progress, only that response is completed, and no rejection is sent.
        """
        self._registry.note(rejection.code, client=self._client_key)
        being_read = self.cycle if self._reading is _Reading.BODY else None
        if being_read is not None and self.pipeline and self.pipeline[0][0] is being_read:
            self.pipeline.popleft()
        self._is_deaf = True
        if self._is_busy and self._running is not being_read:
            self._close_after_responses()
            return
        if being_read is not None and not being_read.response_complete:
            being_read.disconnected = True
            being_read.message_event.set()
            if being_read.response_started:
                self.transport.close()
                return
        if being_read is None or not being_read.response_complete:
            self.transport.write(response_of(rejection, self.server_state.default_headers))
        self._linger()

    def _close_after_responses(self) -> None:
        """Stop reading, and close the connection after all accepted requests are answered."""
        self._is_deaf = True
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is None or last.response_complete:
            self._linger()
        else:
            last.keep_alive = False

    def _linger(self) -> None:
        """Send the rest of the response; close the connection when the client does, or after `LINGER_S` seconds."""
        if self._lingers_until is not None:
            return
        self._is_deaf = True
        self._lingers_until = self.loop.time() + LINGER_S
        if not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()

    def _reader_stalls(self, now_s: float) -> bool:
        """Return whether response bytes wait, and the client has read none for `stalled_reader_timeout_s` seconds."""
        waiting = self.transport.get_write_buffer_size()
        if waiting == 0:
            self._stalled_since = None
        elif self._stalled_since is None or waiting < self._stalled_bytes:
            self._stalled_since = now_s
        self._stalled_bytes = waiting
        return self._stalled_since is not None and now_s - self._stalled_since >= self._limits.stalled_reader_timeout_s
