"""One HTTP request as ASGI messages: slow or endless bodies, response chunks as the app sends them, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

UNTIL_S = 30.0


class RawRequest:
    """A request in flight on the running event loop.

    Args:
        body: the parts of the body, sent one after another.
        finished: False keeps the body open after its last part, as a slow client does.

    Attributes:
        chunks: the parts of the response's body so far.
        hang_up: the event that makes the client disconnect.
    """

    def __init__(
        self,
        app: Any,
        path: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: Iterable[bytes] = (),
        finished: bool = True,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.hang_up = asyncio.Event()
        self._parts = list(body)
        self._open = True
        self._finished = finished
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"host", b"localhost"), *headers],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8_000),
            "state": {},
        }
        self._task = asyncio.create_task(app(scope, self._receive, self._send))

    @property
    def text(self) -> str:
        """The response's body so far."""
        return b"".join(self.chunks).decode()

    @property
    def pending_parts(self) -> int:
        """The number of parts of the body that the app has not received yet."""
        return len(self._parts)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition while the request is in progress.

        Raises:
            TimeoutError: the condition was still false after 30 s.
        """
        async with asyncio.timeout(UNTIL_S):
            while not condition():  # noqa: ASYNC110 no event signals a test's condition
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Wait until the app has finished the request.

        Raises:
            TimeoutError: the app had not finished after 30 s.
        """
        async with asyncio.timeout(UNTIL_S):
            await asyncio.wait([self._task])
        if not self._task.cancelled() and self._task.exception() is not None:
            raise AssertionError("the app let an exception out") from self._task.exception()

    async def _receive(self) -> Mapping[str, Any]:
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(0), "more_body": True}
        if self._open and self._finished:
            self._open = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.chunks.append(message.get("body", b""))
