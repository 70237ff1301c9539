"""Readiness probes of the supervisor: they send a request to the component, or read files and the kernel's tables."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from relab.testbed.episodes import SECRET_HEADER
from relab.testbed.layout import HOST
from relab.testbed.supervisor.ports import listens

_TIMEOUT_S: Final = 2.0
_EPISODE_END_TIMEOUT_S: Final = 3.0


class ReadinessProbe(Protocol):
    """Checks whether a component is ready."""

    async def ready(self, pid: int) -> bool:
        """Return whether the component is ready; never raise an exception.

        `pid` is the id of the process that the supervisor started for the component.
        """
        ...


@dataclass(frozen=True, slots=True)
class PostmasterReady:
    """Checks whether PostgreSQL is ready, by the pid in line 1 and the state in line 8 of the file `postmaster.pid`."""

    path: Path

    async def ready(self, pid: int) -> bool:
        """Return whether the PostgreSQL server with this pid accepts connections."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            return int(lines[0]) == pid and lines[7].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False


@dataclass(frozen=True, slots=True)
class RedisReady:
    """Checks whether Redis is ready: it answers PING, even if the answer only demands a password."""

    port: int

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 the port is the component's own
        """Return whether Redis answers PING with PONG or with a demand for a password; `pid` is ignored."""
        answer = await _ask(self.port, b"PING\r\n", until=b"\r\n")
        return answer.startswith((b"+PONG", b"-NOAUTH"))


@dataclass(frozen=True, slots=True)
class HttpReady:
    """Checks whether an HTTP server is ready: its process listens on the port, and a path answers with 200."""

    port: int
    path: str

    async def ready(self, pid: int) -> bool:
        """Return whether the process with this pid listens on the probe's port and answers a request.

        The request is for the probe's path; the answer must have the status 200.
        """
        if not listens(pid, self.port):
            return False
        request = f"GET {self.path} HTTP/1.0\r\nHost: {HOST}:{self.port}\r\nConnection: close\r\n\r\n"
        answer = await _ask(self.port, request.encode(), until=b"\r\n")
        return answer.split(b" ", 2)[1:2] == [b"200"]


@dataclass(frozen=True, slots=True)
class SocketReady:
    """Checks whether a server is ready: its Unix socket accepts connections."""

    path: Path

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 the path is the component's own
        """Return whether the Unix socket of this probe accepts a connection; `pid` is ignored."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(self.path)
                writer.close()
                return True
        return False


@dataclass(frozen=True, slots=True)
class Running:
    """Checks nothing: a process is ready as soon as it runs."""

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 the caller has just started it
        """Return True: a process counts as ready as soon as it is started."""
        return True


async def end_episode(port: int, path: str, secret: str) -> bool:
    """Notify a server by a POST that a new episode (test of a responder) begins; return whether it replied with 200.

    Args:
        port: the port of the server on this machine.
        path: the path of the route.
        secret: the supervisor's secret, which authenticates the request.
    """
    request = (
        f"POST {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\n{SECRET_HEADER}: {secret}\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    answer = await _ask(port, request.encode(), until=b"\r\n", within_s=_EPISODE_END_TIMEOUT_S)
    return answer.split(b" ", 2)[1:2] == [b"200"]


async def _ask(port: int, request: bytes, *, until: bytes, within_s: float = _TIMEOUT_S) -> bytes:
    """Send a request to a port of this machine, and return the answer up to and including the bytes `until`.

    Return empty bytes if the connection fails, or if `until` does not arrive within `within_s` seconds.
    """
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request)
                return await reader.readuntil(until)
            finally:
                writer.close()
    return b""
