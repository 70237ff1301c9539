"""Action servers over HTTP: the real one with a simple action, and hostile ones."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import Looks
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.server import ActionServices, create_app
from relab.testbed.actions.service import ActionService
from relab.testbed.actions.tokens import Tokens
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.testbed.beds import free_base
from support.testbed.valves import TurnValve, Valves

NOWHERE = "http://127.0.0.1:9"


@dataclass
class RealServer:
    """The action server of the testbed, and the valves that its action changes."""

    url: str
    tokens: Mapping[str, str]
    valves: Valves
    actions: ActionService
    clock: MovableClock

    def reset(self) -> None:
        """Restore the initial state: no actions were performed, and all valves are at 0."""
        self.valves.go_on.set()
        self.valves.entered.clear()
        self.valves.path.unlink(missing_ok=True)
        self.actions.forget()


@contextmanager
def real_server(folder: Path, limits: ActionLimits | None = None) -> Iterator[RealServer]:
    """Yield an action server whose action turns valves."""
    valves, clock = Valves(folder / "valves.json"), MovableClock()
    audit = AuditLog(folder / "actions.jsonl")
    guard = Guard(audit, limits or ActionLimits(max_per_window=100, max_per_part=100, cooldown_s=0))
    service = ActionService([TurnValve(valves)], audit, guard, clock)
    known = Tokens(folder / "tokens.json")
    scopes = {"responder": ["read", "act"], "ann": ["admin"], "reader": ["read"]}
    tokens = {name: known.make(name, given) for name, given in scopes.items()}
    app = create_app(ActionServices(service, known, TargetHealth(NOWHERE), Looks(Plant(folder / "none", NOWHERE))))
    port = free_base()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, name="actions")
    thread.start()
    try:
        wait_until(lambda: server.started, what="the action server")
        yield RealServer(f"http://127.0.0.1:{port}", tokens, valves, service, clock)
    finally:
        valves.go_on.set()
        server.should_exit = True
        thread.join()
        audit.close()


Say = Callable[[socket.socket], None]
"""Handles a connection on which a request has arrived."""


def answer(status: int, document: Any, *headers: str) -> Say:
    """Return a response in valid HTTP."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return lambda connection: connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def problem(status: int, code: str, *headers: str) -> Say:
    """Return a rejection with a problem document."""
    return answer(status, {"status": status, "code": code, "detail": f"It is {code}."}, *headers)


def silence(connection: socket.socket) -> None:
    """Send nothing until the client disconnects."""
    with suppress(OSError):
        while connection.recv(65_536):
            pass


def hang_up(connection: socket.socket) -> None:
    """Close the connection without a response."""


def drip(connection: socket.socket) -> None:
    """Send a body of one byte every 10 ms, without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.01)


def flood(connection: socket.socket) -> None:
    """Send a body without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"[" * 65_536 + b"\r\n")


def garbage(connection: socket.socket) -> None:
    """Send bytes that are not HTTP."""
    connection.sendall(b"\x00\xff" * 500)


@dataclass
class HostileServer:
    """A server that gives the configured responses, one per request, and repeats the last one.

    Attributes:
        requests: the received requests, in order.
    """

    url: str
    says: list[Say]
    requests: list[str] = field(default_factory=list)

    def keys(self) -> list[str]:
        """Return the `Idempotency-Key` of each request that has one."""
        lines = [line for request in self.requests for line in request.splitlines()]
        return [line.partition(": ")[2] for line in lines if line.lower().startswith("idempotency-key:")]


@contextmanager
def hostile_server(*says: Say) -> Iterator[HostileServer]:
    """Yield a server that gives the configured responses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = HostileServer(f"http://127.0.0.1:{listener.getsockname()[1]}", list(says))
        thread = threading.Thread(target=_serve, args=(listener, found), name="hostile")
        thread.start()
        try:
            yield found
        finally:
            # Closing the socket alone does not interrupt a blocked `accept`.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, server: HostileServer) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(30)
            head = _request(connection)
            if head:
                server.requests.append(head.decode("latin-1"))
                say = server.says.pop(0) if len(server.says) > 1 else server.says[0]
                say(connection)


def _request(connection: socket.socket) -> bytes:
    """Return the head and body of a request; empty if none arrived."""
    found = bytearray()
    while True:
        head, end, body = bytes(found).partition(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length:")
        ]
        if end and len(body) >= sum(lengths):
            return bytes(found)
        part = connection.recv(65_536)
        if not part:
            return b""
        found += part
