"""The small shop over HTTP, for responders in separate processes that share one clock; it counts requests."""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.responses import Response

from rig.servers import free_port
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.shops.small import Shop, a_shop
from support.shops.ways import is_act, is_undo, key_of

_OF_THE_TARGET = "/api/v1/"
_ASKED_BY_POLLS = "/api/v1/logs"
_OF_A_TESTBED = ("/components", "/logs", "/settings/history")
"""Paths that the action server has only on a testbed with components."""
_TIME = struct.Struct("q")


class SharedClock(MovableClock):
    """A clock stored in a file, so that all processes share it and it survives kills."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_TIME.pack(MovableClock.us))
        with path.open("r+b") as file:
            self._content = mmap.mmap(file.fileno(), _TIME.size)

    @property
    def us(self) -> int:
        """The time in microseconds."""
        return int(_TIME.unpack_from(self._content)[0])

    @us.setter
    def us(self, us: int) -> None:
        _TIME.pack_into(self._content, 0, us)


@dataclass
class ServedShop:
    """A shop that is served over HTTP.

    Attributes:
        acts, undos: the received requests that execute or undo an action.
        polls: the number of polls by responders.
    """

    shop: Shop
    clock: SharedClock
    url: str
    acts: list[httpx.Request] = field(default_factory=list)
    undos: list[httpx.Request] = field(default_factory=list)
    polls: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass requests to the target or to the action server, by their path."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
        url = f"{self.url}{scope['path']}?{scope['query_string'].decode()}"
        request = httpx.Request(scope["method"], url, headers=headers)
        if scope["path"].startswith(_OF_THE_TARGET):
            self.polls += scope["path"] == _ASKED_BY_POLLS
            found = self.shop.answer(request)
            await Response(found.content, found.status_code)(scope, receive, send)
            return
        if scope["path"] in _OF_A_TESTBED:
            await Response(status_code=404)(scope, receive, send)
            return
        if is_act(request):
            self.acts.append(request)
        if is_undo(request):
            self.undos.append(request)
        await self.shop.app(scope, receive, send)

    def reset(self) -> None:
        """Restore the initial state: nothing is broken, and no action was performed."""
        self.shop.broken.clear()
        self.shop.valves.path.unlink(missing_ok=True)
        self.shop.actions.forget()
        self.acts.clear()
        self.undos.clear()
        self.polls = 0

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of the requested actions, in order."""
        return [key_of(request) for request in self.acts]

    @property
    def done(self) -> list[str | None]:
        """The idempotency keys of the performed actions, newest first."""
        return [record.key for record in self.shop.actions.audit.newest(50)]


@contextmanager
def a_served_shop(folder: Path) -> Iterator[ServedShop]:
    """Serve a healthy shop while the block runs."""
    with a_shop(folder) as shop:
        clock = SharedClock(folder / "clock")
        shop.clock = shop.server_clock.clock = shop.told_clock.clock = clock
        port = free_port()
        found = ServedShop(shop, clock, f"http://127.0.0.1:{port}")
        config = uvicorn.Config(
            found, host="127.0.0.1", port=port, log_level="error", lifespan="off", interface="asgi3"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="shop")
        thread.start()
        try:
            wait_until(lambda: server.started, what="the shop's server")
            yield found
        finally:
            server.should_exit = True
            thread.join()
