"""Start of a testbed from outside."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relab.testbed import service
from relab.testbed.errors import SupervisorBusyError
from relab.testbed.layout import Layout


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Layout]:
    """The files of a testbed that another process is starting: it holds the lock, and has written its plan."""
    layout = Layout.of(tmp_path, "a")
    layout.private.mkdir(parents=True)
    layout.plan.write_text("the plan of the other process")
    layout.state.write_text("the state of the other testbed")
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield layout
    os.close(descriptor)


@pytest.mark.parametrize("is_seen", [True, False])
def test_start_beside_another_start_changes_nothing(
    other: Layout, is_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `is_seen` is False, the other process acquires the lock after this start has checked it."""
    monkeypatch.setattr(service, "_LOCK_TIMEOUT_S", 0.0)
    stopped: list[object] = []
    monkeypatch.setattr(service, "_wait_gone", stopped.append)
    if not is_seen:
        monkeypatch.setattr(service, "is_running", lambda _: False)

    with pytest.raises(SupervisorBusyError, match="already running"):
        service.up(other.home, "a")

    assert stopped == []
    assert other.plan.read_text() == "the plan of the other process"
    assert other.state.read_text() == "the state of the other testbed"


def test_start_that_is_interrupted_when_all_components_are_ready_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards: list[subprocess.Popen[bytes]] = []

    def start_guard(_layout: Layout, _plan: object, lock: int, writing: int) -> None:
        guards.append(subprocess.Popen(["sleep", "60"], pass_fds=[lock]))
        os.write(lock, f"{guards[0].pid}\n".encode())
        os.write(writing, b'{"phase": "ready"}\n')

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "_start_guard", start_guard)
    monkeypatch.setattr(service, "ask", interrupt)

    with pytest.raises(KeyboardInterrupt, match="The testbed a is stopped"):
        service.up(tmp_path, "a")

    assert guards[0].wait() == -signal.SIGTERM
    assert not service.is_running(Layout.of(tmp_path, "a"))


def test_checks_at_the_same_time_do_not_take_each_other_for_a_running_testbed(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path, "a")
    layout.root.mkdir(parents=True)
    # The lock file of a testbed that has ended.
    layout.lock.touch()

    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(service.is_running, [layout] * 1_000))

    assert not any(found)
