"""Links with real sockets: the effects of toxics and of a stopped server on the server's clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from relab.core.errors import InvalidInputError
from relab.testbed.errors import NotAnsweringError
from relab.testbed.links.client import LinksClient
from relab.testbed.links.server import LinksServer
from relab.testbed.models import Bandwidth, Blackhole, Latency, LinkEnds, LinksConfig, LinkStatus, Refuse, Reset
from relab.testbed.supervisor.ports import HeldPort

Scene = tuple[LinksClient, int, Callable[[bool], Awaitable[None]]]
TIMEOUT_S = 10.0


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Yield a client of the links, the port of a link to an echo server, and a switch of that server."""
    held = HeldPort(), HeldPort()
    port, upstream = (each.port for each in held)
    servers: list[asyncio.Server] = []
    writers: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writers.discard(writer)
            writer.close()

    async def switch(on: bool) -> None:
        if on:
            servers.append(await asyncio.start_server(echo, "127.0.0.1", upstream))
            return
        servers.pop().close()
        for writer in list(writers):
            writer.close()
        await asyncio.sleep(0)

    with TemporaryDirectory(prefix="relab-") as folder:
        path = Path(folder, "links.sock")
        ends = LinkEnds(name="database", port=port, upstream_port=upstream)
        links = LinksServer(LinksConfig(socket=str(path), links=[ends]))
        await switch(True)
        await links.open()
        try:
            yield LinksClient(path), port, switch
        finally:
            await links.close()
            if servers:
                await switch(False)
            # The event loop closes the sockets in its next iterations.
            await until(lambda: not writers)
            for each in held:
                each.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 the condition has no event to wait for
            await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def said(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes = b"hello") -> bytes:
    pair[1].write(data)
    async with asyncio.timeout(TIMEOUT_S):
        return await pair[0].readexactly(len(data))


async def status_of(client: LinksClient) -> LinkStatus:
    (found,) = await client.links()
    return found


async def until_listening(client: LinksClient, wanted: bool) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while (await status_of(client)).listening is not wanted:  # noqa: ASYNC110 the links send no event
            await asyncio.sleep(0.005)


def run(test: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with scene() as made:
            await test(made)

    asyncio.run(main())


def test_bytes_pass_and_are_counted_and_both_ends_close() -> None:
    async def test(made: Scene) -> None:
        client, port, _ = made
        data = bytes(range(256)) * 4_000
        async with connected(port) as pair:
            assert await said(pair, data) == data
            assert (await status_of(client)).statistics.open == 1
            pair[1].write_eof()
            assert await pair[0].read() == b""
        found = await status_of(client)
        assert found.statistics.bytes_up == len(data)
        assert found.statistics.bytes_down == len(data)
        assert found.statistics.accepted == 1
        assert found.statistics.open == 0

    run(test)


def test_latency_acts_on_open_connections_and_goes_when_removed() -> None:
    async def test(made: Scene) -> None:
        client, port, _ = made
        async with connected(port) as pair:
            await said(pair)
            toxic_id = await client.add("database", Latency(kind="latency", latency_ms=150, direction="down"))
            began = time.monotonic()
            await said(pair)
            assert time.monotonic() - began >= 0.15
            await client.remove("database", toxic_id)
            assert (await status_of(client)).toxics == []
            assert await said(pair) == b"hello"

    run(test)


def test_blackhole_delivers_data_after_its_removal() -> None:
    async def test(made: Scene) -> None:
        client, port, _ = made
        async with connected(port) as pair:
            await said(pair)
            toxic_id = await client.add("database", Blackhole(kind="blackhole"))
            pair[1].write(b"lost?")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await pair[0].read(1)
            await client.remove("database", toxic_id)
            async with asyncio.timeout(TIMEOUT_S):
                assert await pair[0].readexactly(5) == b"lost?"

    run(test)


def test_refuse_drops_open_connections_and_rejects_new_ones_until_its_removal() -> None:
    async def test(made: Scene) -> None:
        client, port, _ = made
        async with connected(port) as pair:
            await said(pair)
            toxic_id = await client.add("database", Refuse(kind="refuse"))
            with pytest.raises(ConnectionResetError):
                await pair[0].read(1)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        assert not (await status_of(client)).listening
        await client.remove("database", toxic_id)
        async with connected(port) as pair:
            assert await said(pair) == b"hello"

    run(test)


@pytest.mark.parametrize(
    "toxic",
    [Reset(kind="reset"), Reset(kind="reset", after_ms=50), Reset(kind="reset", after_bytes=3, direction="down")],
    ids=["at once", "after a time", "after bytes"],
)
def test_reset_closes_the_connection_with_an_rst(toxic: Reset) -> None:
    async def test(made: Scene) -> None:
        client, port, _ = made
        await client.add("database", toxic)
        async with connected(port) as (reader, writer):
            writer.write(b"hello")
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(TIMEOUT_S):
                    await reader.readexactly(1_000)
        assert (await status_of(client)).statistics.reset == 1

    run(test)


def test_bandwidth_limits_the_transfer_rate() -> None:
    async def test(made: Scene) -> None:
        client, port, _ = made
        await client.add("database", Bandwidth(kind="bandwidth", bytes_per_s=100_000, direction="up"))
        async with connected(port) as pair:
            began = time.monotonic()
            await said(pair, b"x" * 30_000)
            # The first slice of 20 ms is sent at once.
            assert time.monotonic() - began >= 0.25

    run(test)


def test_seed_determines_which_share_of_connections_is_affected() -> None:
    async def reset_ones(seed: int) -> list[int]:
        async with scene() as (client, port, _):
            await client.add("database", Reset(kind="reset", after_bytes=1, share=0.5, seed=seed))
            found = []
            for number in range(16):
                async with connected(port) as pair:
                    try:
                        await said(pair)
                    except ConnectionResetError:
                        found.append(number)
            return found

    first = asyncio.run(reset_ones(7))
    assert 0 < len(first) < 16
    assert asyncio.run(reset_ones(7)) == first


def test_link_refuses_connections_while_its_server_is_down() -> None:
    async def test(made: Scene) -> None:
        client, port, switch = made
        async with connected(port) as pair:
            await said(pair)
            await switch(False)
            assert await pair[0].read() == b""
        await until_listening(client, False)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await switch(True)
        await until_listening(client, True)
        async with connected(port) as pair:
            assert await said(pair) == b"hello"

    run(test)


def test_invalid_request_is_rejected_and_changes_nothing() -> None:
    async def test(made: Scene) -> None:
        client, _, _ = made
        with pytest.raises(InvalidInputError, match="'moon'"):
            await client.add("moon", Blackhole(kind="blackhole"))
        with pytest.raises(InvalidInputError, match="'latency-9'"):
            await client.remove("database", "latency-9")
        for request in ({"op": "add", "link": "database", "toxic": {"kind": "rain"}}, {"op": "sing"}, {}):
            with pytest.raises(InvalidInputError, match="cannot be read"):
                await client._ask(request)
        assert (await status_of(client)).toxics == []

    run(test)


def test_missing_links_process_is_reported_as_not_answering(tmp_path: Path) -> None:
    with pytest.raises(NotAnsweringError, match=r"none\.sock"):
        asyncio.run(LinksClient(tmp_path / "none.sock").links())


def test_links_that_end_in_their_answer_are_reported_as_not_answering(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok": tr')
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_unix_server(serve, tmp_path / "links.sock"):
            with pytest.raises(NotAnsweringError, match="within the answer"):
                await LinksClient(tmp_path / "links.sock").links()

    asyncio.run(ask())
