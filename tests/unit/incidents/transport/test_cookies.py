"""Cookies of a target are ignored: never sent back, never stored, and an invalid one causes no warning."""

from __future__ import annotations

import asyncio
import warnings

import httpx
import pytest

from relab.incidents.actions.client import ActionsClient
from relab.incidents.probes.client import ProbeClient
from relab.incidents.probes.models import ProbeServer
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.transport.clients import NoCookies
from support.incidents.probe_answers import WELL
from support.testbed.action_servers import answer, hostile_server

STICKY = "worker=3; Path=/"
# The standard library's cookie parser fails on this value and warns with a stack trace.
ODD = f"a=b; Max-Age={'9' * 400}"


def test_no_cookie_binds_probes_to_one_worker() -> None:
    seen: list[str | None] = []

    async def set_cookie(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Cookie"))
        document = WELL[request.url.raw_path.decode()]
        return httpx.Response(200, json=document, headers={"Set-Cookie": STICKY})

    async def look_twice() -> None:
        transports = {base: httpx.MockTransport(set_cookie) for base in ProbeServer}
        asker = ProbeTransport("http://target", "http://actions", token="t0ken", transports=transports)
        for _ in range(2):
            await ProbeClient(asker).run(["pool", "settings.history"], within_s=20.0)

    asyncio.run(look_twice())
    assert seen == [None] * 4


def test_no_cookie_is_sent_to_an_action_server() -> None:
    async def ask_twice(url: str) -> None:
        client = ActionsClient(url, "t0ken")
        for _ in range(2):
            assert await client.is_stopped() is False

    said = answer(200, {"stopped": False}, f"Set-Cookie: {STICKY}")
    with hostile_server(said) as server:
        asyncio.run(ask_twice(server.url))
    assert len(server.requests) == 2
    assert "cookie" not in "".join(server.requests).lower()


@pytest.mark.parametrize("said", [STICKY, ODD])
def test_cookies_are_neither_stored_nor_parsed(said: str) -> None:
    jar = NoCookies()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers={"Set-Cookie": said}))
    with warnings.catch_warnings(record=True) as warned, httpx.Client(transport=transport, cookies=jar) as client:
        warnings.simplefilter("always")
        client.get("http://target/")
    assert list(jar) == []
    assert warned == []
