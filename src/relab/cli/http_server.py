"""The HTTP server of `lab serve`: uvicorn with an accept loop, limits, and an orderly end of event streams."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import structlog
import uvicorn

from relab.serving.acceptor import Acceptor, connection_capacity, raise_descriptor_limit
from relab.serving.connections import Admission, Connections
from relab.serving.limits import HttpLimits
from relab.serving.protocol import LimitedProtocol

_MOST_CHECKS_APART_S = 1.0

_log = structlog.get_logger("relab.serve")


class HttpServer(uvicorn.Server):
    """Serves within limits, and ends the app's event streams before it waits for open requests.

    An idle stream would otherwise hold the stop up for the whole grace period, and then be
    cancelled with a traceback each.
    """

    def __init__(self, limits: HttpLimits, streams_end_within_s: int) -> None:
        config = uvicorn.Config(
            "relab.server:create",
            factory=True,
            http=LimitedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            # By default uvicorn takes any local process's X-Forwarded-For for the client; `access/forwarding.py` decides.
            proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_timeout_s,
            timeout_graceful_shutdown=streams_end_within_s,
        )
        super().__init__(config)
        self._limits: Final = limits
        self._acceptors: list[Acceptor] = []
        self._checking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then accept connections."""
        # With no sockets uvicorn only starts the app: it would accept by the event loop's own means.
        await super().startup(sockets=[])
        capacity = connection_capacity(raise_descriptor_limit())
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
        """Stop in order."""
        for acceptor in self._acceptors:
            acceptor.close()
        self.lifespan.state["end_streams"]()
        await super().shutdown(sockets)
        if self._checking is not None:
            self._checking.cancel()

    async def _check(self, connections: Connections) -> None:
        """Have the time limits of all connections checked, a few times within the shortest of them."""
        limits = self._limits
        shortest = min(limits.header_timeout_s, limits.body_timeout_s, limits.stalled_reader_timeout_s)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(shortest / 4, _MOST_CHECKS_APART_S))
            connections.check_all(loop.time())


def _report_failure(task: asyncio.Task[None]) -> None:
    """Log it at once when the checks end by themselves: from then on nothing is closed for being slow."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("http_checks_failed", exc_info=error)
