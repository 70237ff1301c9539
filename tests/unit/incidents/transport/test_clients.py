"""HTTP clients of a target that hangs: polling resumes once it answers again, and no connection stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relab.incidents.probes.models import ProbeRequest, ProbeServer
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.transport.clients import SingleUseClients

pytestmark = pytest.mark.anyio
ROUNDS, ASKS = 20, 30
"""With this many cancelled requests, a client that is kept open got no more responses in every trial."""
SAID = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}"


class Hanging:
    """A server that accepts connections and sends nothing until `goes_on` is set."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.has_none_open = asyncio.Event()
        self._open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request of a connection once `goes_on` is set, until the client closes it."""
        self._open += 1
        self.has_none_open.clear()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await self.goes_on.wait()
                writer.write(SAID)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._open -= 1
            if not self._open:
                self.has_none_open.set()


@asynccontextmanager
async def hanging() -> AsyncIterator[Hanging]:
    made = Hanging()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=1_024)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.goes_on.set()
        server.close()


async def test_target_that_hung_is_polled_again() -> None:
    asks = [ProbeRequest(ProbeServer.TARGET, f"/{number}", within_s=0.03) for number in range(ASKS)]
    async with hanging() as server:
        asker = ProbeTransport(f"http://127.0.0.1:{server.port}", "http://127.0.0.1:9")
        for _ in range(ROUNDS):
            found = await asker.together(asks, 0.2)
            assert all(answers[0].absence is not None for answers in found.values())
        server.goes_on.set()
        patient = ProbeRequest(ProbeServer.TARGET, "/patient", within_s=20.0)
        found = await asker.together([patient], 20.0)
        assert [answer.document for answer in found[patient]] == [{}]
        await server.has_none_open.wait()


async def test_a_client_leaves_no_connection_open() -> None:
    clients = SingleUseClients(is_secure=False)
    async with hanging() as server:
        server.goes_on.set()
        for _ in range(3):
            async with clients.client() as client:
                assert (await client.get(f"http://127.0.0.1:{server.port}/")).json() == {}
        await server.has_none_open.wait()
