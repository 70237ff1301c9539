"""The HTTP server of `lab serve`: uvicorn, extended by an accept loop, limits, and a graceful end of event streams."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import uvicorn

from relab.core.errors import UnavailableError
from relab.core.logging import get_logger
from relab.serving.acceptor import Acceptor, connection_capacity, raise_descriptor_limit
from relab.serving.connections import Admission, Connections
from relab.serving.limits import HttpLimits
from relab.serving.protocol import LimitedProtocol

_MAX_CHECK_INTERVAL_S = 1.0

_log = get_logger("relab.serve")


class HttpServer(uvicorn.Server):
    """Runs the web application, with limits. At a stop, it ends the event streams first, then waits for open requests.

    Args:
        limits: the limits of connections and requests.
        streams_end_within_s: the time-out for open requests and streams to end at a stop, in seconds.
        other_connections: the number of file descriptors to reserve for the connections of other servers in this
            process (gRPC). At most half of all file descriptors are reserved.
    """

    def __init__(self, limits: HttpLimits, streams_end_within_s: int, *, other_connections: int = 0) -> None:
        config = uvicorn.Config(
            "relab.server:create",
            factory=True,
            http=LimitedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            # By default, uvicorn trusts X-Forwarded-For from any local process; `access/forwarding.py` decides instead.
            proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_timeout_s,
            timeout_graceful_shutdown=streams_end_within_s,
        )
        super().__init__(config)
        self._limits: Final = limits
        self._other_connections: Final = other_connections
        self._acceptors: list[Acceptor] = []
        self._checking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then accept the connections of `sockets`.

        Raises:
            UnavailableError: the app did not start, for example because the database became unavailable. The error of the
                app is in the log.
        """
        # Without sockets, uvicorn only starts the app; otherwise the event loop would accept the connections.
        try:
            await super().startup(sockets=[])
        except SystemExit:
            # uvicorn exits with the code 3, which relab does not use. Older versions of uvicorn return without an exit.
            self.lifespan.should_exit = True
        if self.lifespan.should_exit:
            raise UnavailableError(
                "The server did not start.", remedy="The log names the reason. Start `lab serve` again."
            )
        descriptors = raise_descriptor_limit()
        capacity = connection_capacity(max(descriptors - self._other_connections, descriptors // 2))
        state = self.lifespan.state
        connections = Connections(self._limits, capacity=capacity, count=state["count_rejection"])
        state["watch_connections"](connections)

        def make_protocol(client: str, admission: Admission) -> LimitedProtocol:
            return LimitedProtocol(
                self.config, self.server_state, state, connections=connections, client=client, admission=admission
            )

        self._checking = asyncio.create_task(self._check(connections))
        self._checking.add_done_callback(_report_failure)
        self._acceptors = [Acceptor(listener, connections, make_protocol) for listener in sockets or []]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, end the event streams, then wait for open requests; close `sockets`."""
        for acceptor in self._acceptors:
            acceptor.close()
        # Otherwise each idle stream would delay the stop for the whole grace period, and leave a traceback in the log.
        self.lifespan.state["end_streams"]()
        await super().shutdown(sockets)
        if self._checking is not None:
            self._checking.cancel()

    async def _check(self, connections: Connections) -> None:
        """Check the time limits of all connections, again and again, until the task is cancelled.

        The pause between two checks is at most a quarter of the shortest time limit.
        """
        limits = self._limits
        shortest = min(limits.header_timeout_s, limits.body_timeout_s, limits.stalled_reader_timeout_s)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(shortest / 4, _MAX_CHECK_INTERVAL_S))
            connections.check_all(loop.time())


def _report_failure(task: asyncio.Task[None]) -> None:
    """Log the error that ended `task`; log nothing if the task was cancelled.

    The task checks the time limits of connections.
    """
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("http_checks_failed", exc_info=error)
