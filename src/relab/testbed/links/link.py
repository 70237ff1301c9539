"""One link: a listening socket, the connections through it, and its toxics.

A link behaves like the server behind it: while the server refuses connections, the link does not listen, so that it
refuses them, too. If it listened, a client's connection would be accepted and then reset, although the server is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from relab.testbed.links.connection import Half, Pair
from relab.testbed.models import ActiveToxic, LinkEnds, LinkStatistics, LinkStatus, Refuse, Toxic

HOST: Final = "127.0.0.1"
_BACKLOG: Final = 512
_POLL_INTERVAL_S: Final = 0.05
_POLL_PAUSES_S: Final = (0.0, 0.05, 0.1, 0.2, 0.4)
_CONNECT_S: Final = 5.0


class Link:
    """A TCP proxy between two ports of this machine, with toxics (simulated network faults).

    Args:
        ends: the name of the link, the port on which it listens, and the port of the server behind it.
    """

    def __init__(self, ends: LinkEnds) -> None:
        self._ends = ends
        self._statistics = LinkStatistics()
        self._toxics: dict[str, Toxic] = {}
        self._pairs: set[Pair] = set()
        self._numbers = 0
        self._added = 0
        self._server: asyncio.Server | None = None
        self._upstream_is_down = False
        self._is_following = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Start to listen for connections on the port of this link (a TCP proxy).

        Raises:
            OSError: the port is in use.
        """
        await self._settle()

    async def close(self) -> None:
        """Stop listening on the port of this link (a TCP proxy), and reset all connections through this link."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stop_listening()
        self.drop()

    async def add(self, toxic: Toxic) -> str:
        """Add a toxic (a simulated network fault), which acts on open and new connections.

        Return the id by which the toxic can be removed.
        """
        self._added += 1
        toxic_id = f"{toxic.kind}-{self._added}"
        self._toxics[toxic_id] = toxic
        await self._settle()
        if isinstance(toxic, Refuse):
            if toxic.drop_open:
                self.drop()
        else:
            self._apply()
        return toxic_id

    async def remove(self, toxic_id: str) -> bool:
        """Remove the toxic (a simulated network fault) with this id; return False if there is no such toxic."""
        if self._toxics.pop(toxic_id, None) is None:
            return False
        self._apply()
        await self._settle()
        return True

    def drop(self) -> None:
        """Reset all open connections through this link (a TCP proxy)."""
        for pair in list(self._pairs):
            pair.reset()

    def status(self) -> LinkStatus:
        """Return the current status of the link: ports, toxics (simulated network faults) and counters."""
        return LinkStatus(
            name=self._ends.name,
            port=self._ends.port,
            upstream_port=self._ends.upstream_port,
            listening=self._server is not None,
            toxics=[ActiveToxic(toxic_id=key, toxic=toxic) for key, toxic in self._toxics.items()],
            statistics=self._statistics.model_copy(),
        )

    def _apply(self) -> None:
        for pair in list(self._pairs):
            pair.apply(self._toxics)

    async def _settle(self) -> None:
        """Start or stop listening on the link's port.

        The link listens if the server behind it is up and no toxic `Refuse` acts on the link. This toxic (a simulated
        network fault) refuses connections.
        """
        async with self._lock:
            wanted = not self._upstream_is_down and not any(
                isinstance(toxic, Refuse) for toxic in self._toxics.values()
            )
            if wanted and self._server is None:
                self._server = await asyncio.get_running_loop().create_server(
                    self._accept, HOST, self._ends.port, reuse_address=True, backlog=_BACKLOG
                )
            elif not wanted:
                await self._stop_listening()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            # The loop closes the socket in its next iteration.
            await asyncio.sleep(0)

    def _accept(self) -> Half:
        self._numbers += 1
        pair = Pair(
            self._numbers,
            self._statistics,
            self._toxics,
            closed=self._pairs.discard,
            server_gone=self._look_upstream,
        )
        self._pairs.add(pair)
        self._start(self._connect(pair))
        return pair.client

    async def _connect(self, pair: Pair) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await loop.create_connection(lambda: pair.server, HOST, self._ends.upstream_port)
        except OSError as error:  # a time-out is an OSError, too
            self._statistics.upstream_failures += 1
            pair.reset()
            if isinstance(error, ConnectionRefusedError):
                self._look_upstream()
            return
        pair.connected()

    def _look_upstream(self) -> None:
        if not self._is_following:
            self._is_following = True
            self._start(self._follow_upstream())

    async def _follow_upstream(self) -> None:
        """Stop listening while the server behind this link refuses connections; return when it accepts them again.

        First test, with five connections over about 0.75 s, whether the server refuses one. If not, change nothing.
        """
        try:
            # A server that shuts down closes its connections first and its port later, so probe several times.
            for pause_s in _POLL_PAUSES_S:
                await asyncio.sleep(pause_s)
                if not await self._server_takes():
                    break
            else:
                return
            self._upstream_is_down = True
            await self._settle()
            while not await self._server_takes():  # noqa: ASYNC110 no event reports that a server is back
                await asyncio.sleep(_POLL_INTERVAL_S)
        finally:
            self._upstream_is_down = self._is_following = False
        await self._settle()

    async def _server_takes(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await asyncio.get_running_loop().sock_connect(probe, (HOST, self._ends.upstream_port))
            except ConnectionRefusedError:
                return False
            except OSError:
                # A stopped or overloaded server still has its port open.
                return True
        return True

    def _start(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
