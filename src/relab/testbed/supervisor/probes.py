"""How the supervisor sees that a component is ready: it asks the component, or looks at what the kernel says."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from relab.testbed.episodes import SECRET_HEADER
from relab.testbed.layout import HOST
from relab.testbed.supervisor.ports import listens

_WITHIN_S: Final = 2.0
_FORGETS_WITHIN_S: Final = 3.0


class Probe(Protocol):
    """Tells whether a component does its work."""

    async def ready(self, pid: int) -> bool:
        """Return whether the process is ready; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class PostmasterReady:
    """PostgreSQL writes its pid and its state into a file of its data folder (lines 1 and 8)."""

    path: Path

    async def ready(self, pid: int) -> bool:
        """Return whether it takes connections."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            return int(lines[0]) == pid and lines[7].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False


@dataclass(frozen=True, slots=True)
class RedisReady:
    """Redis answers PING, be it with a demand for a password."""

    port: int

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 the port is the component's own
        """Return whether it answers."""
        answer = await _ask(self.port, b"PING\r\n", until=b"\r\n")
        return answer.startswith((b"+PONG", b"-NOAUTH"))


@dataclass(frozen=True, slots=True)
class HttpReady:
    """The very process listens, and an HTTP path is answered with 200."""

    port: int
    path: str

    async def ready(self, pid: int) -> bool:
        """Return whether it answers."""
        if not listens(pid, self.port):
            return False
        request = f"GET {self.path} HTTP/1.0\r\nHost: {HOST}:{self.port}\r\nConnection: close\r\n\r\n"
        answer = await _ask(self.port, request.encode(), until=b"\r\n")
        return answer.split(b" ", 2)[1:2] == [b"200"]


@dataclass(frozen=True, slots=True)
class SocketReady:
    """A Unix socket takes connections."""

    path: Path

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 the path is the component's own
        """Return whether it does."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_WITHIN_S):
                _, writer = await asyncio.open_unix_connection(self.path)
                writer.close()
                return True
        return False


@dataclass(frozen=True, slots=True)
class Running:
    """The process is there; nothing else is asked of it."""

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 whoever asks has just started it
        """Return that it runs: who waits is told when it ends."""
        return True


async def tell_to_forget(port: int, path: str, secret: str) -> bool:
    """Tell a program that a new episode begins; return whether it has heard it and is ready for it."""
    request = (
        f"POST {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\n{SECRET_HEADER}: {secret}\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    answer = await _ask(port, request.encode(), until=b"\r\n", within_s=_FORGETS_WITHIN_S)
    return answer.split(b" ", 2)[1:2] == [b"200"]


async def _ask(port: int, request: bytes, *, until: bytes, within_s: float = _WITHIN_S) -> bytes:
    """Return the beginning of an answer, or nothing."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request)
                return await reader.readuntil(until)
            finally:
                writer.close()
    return b""
