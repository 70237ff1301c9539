"""When an answer was there: noted as its bytes are read from the socket.

After a stall hundreds of answers come at once. Each of them costs a quarter of a millisecond until whoever asked is told of
it, so that by the clock of the askers the last ones would have taken a tenth of a second longer than they did.
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
    """Makes connections that note when they were read from."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # There is no public way to have connections of one's own.
        self._factory = functools.partial(_StampingHandler, loop=self._loop)  # type: ignore[assignment]


class StampedResponse(aiohttp.ClientResponse):
    """An answer that knows the connection it came by, also when that is given back."""

    _handler: _StampingHandler | None = None

    async def start(self, connection: Connection) -> StampedResponse:
        """Read status and headers."""
        handler = connection.protocol
        self._handler = handler if isinstance(handler, _StampingHandler) else None
        await super().start(connection)
        return self

    @property
    def arrived_ns(self) -> int:
        """When the last bytes of it were read, by `time.monotonic_ns`; asked right after it was read whole."""
        return self._handler.arrived_ns if self._handler is not None else time.monotonic_ns()
