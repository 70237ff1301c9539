"""A filtering HTTP proxy, through which a sandbox with the network mode `allowlist_enforced` reaches the listed hosts.

The proxy runs in the runner's process and listens on a socket inside the sandbox. It accepts tunnels (`CONNECT`, RFC
9110 9.3.6) and plain requests in absolute form (RFC 9112 3.2.2). It refuses hosts that are not listed with 403.

Programs do not send requests to loopback addresses through a proxy. So for a listed server of this machine
(`127.0.0.1:11434`), the runner listens at the same address and port inside the sandbox, and forwards each connection.
The sandbox has no other way to the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relab.core.clock import SystemClock, format_time
from relab.experiments.sandbox.egress_rules import LOCALHOST, EgressRule, address_of, is_special, split_authority

Resolve = Callable[[str], Awaitable[list[str]]]
"""Returns the IP addresses of a host name."""

_HEAD_BYTES: Final = 32_768
_CHUNK_BYTES: Final = 65_536
_MAX_LOG_LINES: Final = 20_000
_HOP_HEADERS: Final = frozenset(
    ("connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade", "host")
)
_CONTROL: Final = frozenset("\r\n\0")
_ABSOLUTE: Final = re.compile(r"http://([^/?#@\s]+)([/?][^#\s]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """The limits of one proxy: connections at a time, and time-outs in seconds.

    `head_s` limits the time until the head of a request has arrived, `connect_s` the time to resolve the host and also
    the time of each attempt to connect to one of its addresses, and `idle_s` the time without data on a connection.
    """

    connections: int = 128
    head_s: float = 15.0
    connect_s: float = 15.0
    idle_s: float = 900.0


@dataclass(slots=True)
class _Decision:
    """The decision whether a proxy passes on one request, and the facts for its line in the log."""

    method: str
    host: str
    port: int
    allowed: bool = False
    reason: str = ""
    address: str = ""
    started: float = field(default_factory=time.monotonic)
    bytes_up: int = 0
    bytes_down: int = 0


class _RefusedError(Exception):
    """A request is refused with an HTTP status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class EgressProxy:
    """The filtering HTTP proxy of one sandbox.

    A rule for a host name permits the host's public and private addresses. It does not permit special addresses
    (loopback, link-local, cloud metadata and others, see `is_special`), which need a rule with the address itself. A
    rule for `localhost` permits the loopback addresses, too.

    Args:
        allowed_hosts: rules in the syntax of `EgressRule.parse`.
        log: the file for one JSON line per decision, at most `_MAX_LOG_LINES`; created with the first line.
        resolve: resolves names; None for the resolver of this machine.
        bounds: the largest number of connections, and the time-outs; None for the defaults.
        destination: a host and port. If set, every connection is forwarded to it, whatever its protocol, if a rule
            permits this. None to act as an HTTP proxy.

    Raises:
        ValueError: a rule cannot be parsed.
    """

    def __init__(
        self,
        allowed_hosts: Iterable[str],
        log: Path,
        *,
        resolve: Resolve | None = None,
        bounds: ProxyLimits | None = None,
        destination: tuple[str, int] | None = None,
    ) -> None:
        self._destination = destination
        self._rules = [EgressRule.parse(host) for host in allowed_hosts]
        self._log = log
        self._resolve = resolve or _look_up
        self._bounds = bounds or ProxyLimits()
        self._clock = SystemClock()
        self._lines = 0
        self._open: set[asyncio.Task[None]] = set()

    def serve(self, listening: socket.socket) -> Callable[[], None]:
        """Accept connections on a listening socket in a new thread.

        Return a function that stops the thread and closes all connections.
        """
        listening.setblocking(False)
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        thread = threading.Thread(target=self._run, args=(loop, listening, stop), name="egress-proxy", daemon=True)
        thread.start()

        def end() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            thread.join()

        return end

    def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket, stop: asyncio.Event) -> None:
        try:
            loop.run_until_complete(self._accept(listening, stop))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def _accept(self, listening: socket.socket, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._take, sock=listening, limit=_HEAD_BYTES)
        await stop.wait()
        server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) > self._bounds.connections:
                if self._destination is None:
                    await _refuse(writer, 503, f"more than {self._bounds.connections} connections at once")
                return
            await self._answer(reader, writer)
        except (OSError, asyncio.CancelledError):
            # The client has closed the connection, or the sandbox is being closed: no response can be sent.
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decision: _Decision | None = None
        destination = self._destination
        try:
            if destination is not None:
                decision, first = _Decision("FORWARD", *destination), b""
            else:
                decision, first = _read_request(await self._read_head(reader))
            addresses = await self._decide(decision)
            server_reader, server_writer = await self._connect(decision, addresses)
        except _RefusedError as refused:
            if decision is not None:
                decision.reason = refused.reason
                self._write(decision)
            # A forwarded connection may use any protocol, so it is refused by closing it.
            if destination is None:
                await _refuse(writer, refused.status, refused.reason)
            return
        try:
            if first:
                server_writer.write(first)
                decision.bytes_up += len(first)
            elif destination is None:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._relay(decision, (reader, writer), (server_reader, server_writer))
        finally:
            server_writer.close()
            self._write(decision)

    async def _read_head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._bounds.head_s):
                return await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise _RefusedError(408, "the request did not come in time") from None
        except asyncio.IncompleteReadError:
            raise _RefusedError(400, "the request is not whole") from None
        except asyncio.LimitOverrunError:
            raise _RefusedError(431, f"the request's head has more than {_HEAD_BYTES:,} bytes") from None

    async def _decide(self, decision: _Decision) -> list[str]:
        """Check whether the request in `decision` is permitted; return the permitted addresses of the requested host.

        If the request is permitted, `decision.allowed` is set.

        Raises:
            _RefusedError: the host is not listed, cannot be resolved, or has no permitted address.
        """
        host, port = decision.host, decision.port
        if not any(rule.covers(host, port) for rule in self._rules):
            raise _RefusedError(403, f"{host}:{port} is not in network.allowed_hosts")
        if address_of(host) is not None:
            found = [host]
        else:
            try:
                async with asyncio.timeout(self._bounds.connect_s):
                    found = await self._resolve(host)
            except (OSError, UnicodeError) as error:  # a time-out is an OSError
                raise _RefusedError(502, f"{host} cannot be resolved") from error
        permitted = [address for address in found if self._may_connect(address, port)]
        if not permitted:
            reason = (
                f"{host} leads to {', '.join(found) or 'no address'}, which must be listed by address to be reached"
            )
            raise _RefusedError(403, reason)
        decision.allowed = True
        return permitted

    def _may_connect(self, text: str, port: int) -> bool:
        address = address_of(text)
        if address is None:
            return False
        names = (str(address), LOCALHOST) if address.is_loopback else (str(address),)
        return not is_special(address) or any(rule.covers(name, port) for name in names for rule in self._rules)

    async def _connect(
        self, decision: _Decision, addresses: list[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for address in addresses[:8]:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(self._bounds.connect_s):
                    opened = await asyncio.open_connection(address, decision.port, limit=_CHUNK_BYTES)
                decision.address = address
                return opened
        raise _RefusedError(502, f"{decision.host}:{decision.port} cannot be connected to")

    async def _relay(
        self,
        decision: _Decision,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Copy bytes in both directions until the server closes its end, copying fails, or the time-out expires.

        The time-out limits the time in which neither side sends anything.
        """
        loop = asyncio.get_running_loop()
        last = loop.time()

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, counter: str) -> None:
            nonlocal last
            while data := await source.read(_CHUNK_BYTES):
                last = loop.time()
                target.write(data)
                setattr(decision, counter, getattr(decision, counter) + len(data))
                await target.drain()
            if target.can_write_eof():
                target.write_eof()

        up = asyncio.create_task(carry(client[0], server[1], "bytes_up"))
        down = asyncio.create_task(carry(server[0], client[1], "bytes_down"))
        try:
            while pending := [task for task in (up, down) if not task.done()]:
                left = last + self._bounds.idle_s - loop.time()
                if left <= 0:
                    decision.reason = f"nothing was sent for {self._bounds.idle_s:g} s"
                    return
                await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                # After the server has ended or failed, further bytes of the client have no receiver.
                if down.done() or (up.done() and up.exception() is not None):
                    return
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    def _write(self, decision: _Decision) -> None:
        self._lines += 1
        if self._lines > _MAX_LOG_LINES:
            return
        line: dict[str, object] = {
            "time": format_time(self._clock.now_us()),
            "method": decision.method,
            "host": decision.host,
            "port": decision.port,
            "allowed": decision.allowed,
            "reason": decision.reason,
            "address": decision.address,
            "bytes_up": decision.bytes_up,
            "bytes_down": decision.bytes_down,
            "duration_ms": round((time.monotonic() - decision.started) * 1_000, 1),
        }
        if self._lines == _MAX_LOG_LINES:
            line = {"time": line["time"], "cut": f"only the first {_MAX_LOG_LINES - 1:,} decisions are kept"}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _read_request(head: bytes) -> tuple[_Decision, bytes]:
    """Parse the head (the request line and the headers) of a request to the proxy.

    Returns:
        The requested host and port, and the head to send to the server; for a tunnel (CONNECT) this head is empty.

    Raises:
        _RefusedError: the head does not belong to a valid request to a proxy.
    """
    lines = head.decode("latin-1").split("\r\n")
    # Many servers end a line at a single LF as well, and would read a second Host header after it.
    if any(not _CONTROL.isdisjoint(line) for line in lines):
        raise _RefusedError(400, "the head has a control character in a line")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise _RefusedError(400, "this is no HTTP/1.1 request")
    method, target, _ = parts
    if method == "CONNECT":
        found = split_authority(target)
        if found is None or found[1] is None:
            raise _RefusedError(400, "CONNECT takes host:port")
        return _Decision(method, found[0], found[1]), b""
    absolute = _ABSOLUTE.fullmatch(target)
    found = split_authority(absolute[1]) if absolute is not None else None
    if absolute is None or found is None:
        raise _RefusedError(400, "this is a proxy: a request takes the form GET http://host/path")
    path = absolute[2] or "/"
    headers = [line for line in lines[1:] if line and line.split(":", 1)[0].strip().lower() not in _HOP_HEADERS]
    # The Host header is replaced by the checked host, so that no other site on the same server can be reached.
    sent = [
        f"{method} {path if path.startswith('/') else '/' + path} HTTP/1.1",
        f"Host: {absolute[1]}",
        *headers,
        "Connection: close",
    ]
    return _Decision(method[:20], found[0], found[1] or 80), ("\r\n".join(sent) + "\r\n\r\n").encode("latin-1")


async def _refuse(writer: asyncio.StreamWriter, status: int, reason: str) -> None:
    body = f"relab egress: {reason}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
    await writer.drain()


async def _look_up(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
