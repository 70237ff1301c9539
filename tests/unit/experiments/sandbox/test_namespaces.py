"""Services for sandboxes that share the network of this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from relab.experiments.sandbox.namespaces import call_all, listen_here
from relab.experiments.sandbox.protocol import Listener


def test_started_services_are_stopped_if_a_later_one_cannot_start() -> None:
    stopped: list[int] = []
    sockets: list[socket.socket] = []

    def works(listening: socket.socket) -> Callable[[], None]:
        sockets.append(listening)
        return lambda: stopped.append(1)

    def fails(listening: socket.socket) -> Callable[[], None]:
        sockets.append(listening)
        raise OSError("no thread can be started")

    with pytest.raises(OSError, match="no thread"):
        listen_here([Listener(1, works), Listener(2, fails)])

    assert stopped == [1]
    assert [listening.fileno() for listening in sockets] == [-1, -1]


def test_service_that_cannot_be_stopped_leaves_the_others_stopped() -> None:
    stopped: list[int] = []

    def fails() -> None:
        raise OSError("the thread does not end")

    closers = [lambda: stopped.append(1), fails, lambda: stopped.append(3)]

    with pytest.raises(OSError, match="the thread does not end"):
        call_all(closers)

    assert stopped == [3, 1]
    assert closers == []
