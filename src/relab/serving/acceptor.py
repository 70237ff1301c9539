"""Accept connections in a loop. If file descriptors run out, the loop logs a warning and continues."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import Final

from relab.serving.connections import Admission, Connections
from relab.serving.limits import TOO_MANY_CONNECTIONS, response_of
from relab.serving.protocol import LimitedProtocol

RESERVED_DESCRIPTORS = 128
"""File descriptors reserved for database, log, worker and target; connections never use them."""
MAX_DESCRIPTORS = 1_048_576
"""The limit to use on systems without a limit; it is higher than the number of connections of any server."""
_AT_ONCE = 32
_PAUSE_S = 0.05
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

MakeProtocol = Callable[[str, Admission], LimitedProtocol]


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open files, and return the resulting soft limit.

    The new soft limit is the hard limit, but at most `MAX_DESCRIPTORS`. A higher soft limit is not changed; if it is
    infinite, `MAX_DESCRIPTORS` is returned. If the system rejects the change, the soft limit stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        # macOS rejects values above its kernel limit, even if the hard limit is higher.
        return soft
    return wanted


def connection_capacity(descriptors: int) -> int:
    """Return how many of `descriptors` file descriptors connections may use, at least 1.

    The others are reserved, for example for the database, the log and the worker.
    """
    return max(descriptors - min(RESERVED_DESCRIPTORS, descriptors // 2), 1)


class Acceptor:
    """Accepts the connections of one listening socket on the running event loop.

    If file descriptors run out, it closes the oldest idle connections or answers with 503.

    Args:
        listener: the listening socket.
        connections: decides which connections are admitted.
        make_protocol: returns the protocol object of a new connection. Its arguments are the client's address, and the
            result of `Connections.admit`.
    """

    def __init__(self, listener: socket.socket, connections: Connections, make_protocol: MakeProtocol) -> None:
        self._listener: Final = listener
        self._connections: Final = connections
        self._make_protocol: Final = make_protocol
        self._loop: Final = asyncio.get_running_loop()
        self._spare = _open_spare()
        self._opening: set[asyncio.Task[object]] = set()
        self._resumes: asyncio.TimerHandle | None = None
        self._is_closed = False
        listener.setblocking(False)
        # uvloop's own accept loop would close every waiting connection if descriptors run out, health checks included.
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Stop accepting connections."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        if self._resumes is not None:
            self._resumes.cancel()
        if self._spare is not None:
            os.close(self._spare)

    def _accept(self) -> None:
        # The number per call is limited, so that open connections are served during a flood of new connections.
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._make_room(error)
                    return
                # The client or a firewall closed this connection; the next one is not affected.
                continue
            self._take(accepted, address[0] if isinstance(address, tuple) and address else "")

    def _take(self, accepted: socket.socket, client: str) -> None:
        admission = self._connections.admit(client)
        if admission is None:
            _answer_busy(accepted)
            return
        accepted.setblocking(False)
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = self._make_protocol(client, admission)
        task = self._loop.create_task(self._open(protocol, accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, protocol: LimitedProtocol, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            # The client closed the connection already.
            protocol.evict()
            accepted.close()

    def _make_room(self, error: OSError) -> None:
        """Close idle connections after `accept` failed, because file descriptors or memory ran out.

        If no connection is idle, accept one new connection with the reserved descriptor, answer it with 503 and close
        it. Afterwards, accept no connection for `_PAUSE_S` seconds.
        """
        open_count = self._connections.open_count
        # Close at most the oldest quarter, so that a health check that has just connected is not closed.
        evicted = self._connections.evict_waiting(max(min(open_count // 4, _AT_ONCE), 1))
        self._connections.note(
            "out_of_descriptors",
            error=error.strerror or str(error),
            open=open_count,
            streams=self._connections.stream_count,
            limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            remedy="Raise the limit of open files (`ulimit -n`, LimitNOFILE=).",
        )
        if not evicted:
            self._answer_by_spare()
        # The reader is level-triggered: without a pause, the loop would spin until a descriptor is free.
        self._loop.remove_reader(self._listener)
        self._resumes = self._loop.call_later(_PAUSE_S, self._resume)

    def _answer_by_spare(self) -> None:
        if self._spare is None:
            self._spare = _open_spare()
            return
        os.close(self._spare)
        self._spare = None
        with contextlib.suppress(OSError):
            accepted, _ = self._listener.accept()
            _answer_busy(accepted)
        self._spare = _open_spare()

    def _resume(self) -> None:
        self._resumes = None
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _answer_busy(accepted: socket.socket) -> None:
    """Send a 503 response without reading the request, and close the connection."""
    with contextlib.suppress(OSError), accepted:
        accepted.setblocking(False)
        accepted.send(response_of(TOO_MANY_CONNECTIONS))
        accepted.shutdown(socket.SHUT_WR)
