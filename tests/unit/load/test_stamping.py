"""The timestamp of a response: when its last bytes arrived, however late the client reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp

from relab.load.stamping import StampedResponse, StampingConnector

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
LATE_S = 0.05

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Asking = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


def ask_of(answering: Answering, asking: Asking) -> None:
    """Start a server with this handler, and run the client with a session that timestamps responses."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(reader, writer)
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()

    async def asked() -> None:
        server = await asyncio.start_server(answered, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connector = StampingConnector()
        async with server, aiohttp.ClientSession(connector=connector, response_class=StampedResponse) as session:
            await asking(session, f"http://127.0.0.1:{port}/")
            await session.close()
            await ended.wait()

    asyncio.run(asked())


def stamp(answer: aiohttp.ClientResponse) -> int:
    assert isinstance(answer, StampedResponse)
    return answer.arrived_ns


def test_late_reader_does_not_delay_the_timestamp() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"good")

    async def asking(session: aiohttp.ClientSession, url: str) -> None:
        last_ns = 0
        for _ in range(3):  # one connection, reused
            asked_ns = time.monotonic_ns()
            async with session.get(url) as answer:
                await asyncio.sleep(LATE_S)
                assert await answer.read() == b"good"
                assert last_ns < asked_ns < stamp(answer) <= time.monotonic_ns() - LATE_S * 1e9 / 2
                last_ns = stamp(answer)

    ask_of(answering, asking)


def test_response_in_parts_is_stamped_with_the_last_part() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"go")
        await wanted.wait()
        writer.write(b"od")

    wanted = asyncio.Event()

    async def asking(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(url) as answer:
            assert await answer.content.readexactly(2) == b"go"
            first_ns, wanted_ns = stamp(answer), time.monotonic_ns()
            wanted.set()
            assert await answer.read() == b"od"
            assert first_ns <= wanted_ns <= stamp(answer)

    ask_of(answering, asking)
