"""Record the arrival time of an answer when its bytes are read from the socket.

After a stall, hundreds of answers arrive at once. The event loop resumes the tasks that wait for them one after the
other, at a quarter of a millisecond each. The last task would measure a latency that is a tenth of a second too long.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection


class _StampingHandler(ResponseHandler):
    arrived_ns = 0

    def data_received(self, data: bytes) -> None:
        if data:
            self.arrived_ns = time.monotonic_ns()
        super().data_received(data)


class StampingConnector(aiohttp.TCPConnector):
    """An aiohttp connector whose connections record the time at which they last read bytes."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # aiohttp has no public API for a custom connection class.
        self._factory = functools.partial(_StampingHandler, loop=self._loop)  # type: ignore[assignment]


class StampedResponse(aiohttp.ClientResponse):
    """A response of aiohttp with the time at which its last bytes arrived, in `arrived_ns`."""

    # The connection records the time. Keep it here, because aiohttp releases it as soon as the response was read.
    _handler: _StampingHandler | None = None

    async def start(self, connection: Connection) -> StampedResponse:
        """Read the answer's status and headers, and return this object.

        The object also stores the connection, which records the time that `arrived_ns` returns.
        """
        handler = connection.protocol
        self._handler = handler if isinstance(handler, _StampingHandler) else None
        await super().start(connection)
        return self

    @property
    def arrived_ns(self) -> int:
        """The time at which the last bytes of this answer were read, in ns of the clock `time.monotonic_ns`.

        Read this property directly after the answer. Later, the time may be that of another answer on this connection.
        """
        return self._handler.arrived_ns if self._handler is not None else time.monotonic_ns()
