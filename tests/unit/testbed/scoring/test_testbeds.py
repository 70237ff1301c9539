"""Shared and exclusive use of the machine by trials."""

from __future__ import annotations

import threading
from pathlib import Path

from relab.testbed.scoring.testbeds import hold_machine

TIMEOUT_S = 30.0


def enter(home: Path, *, alone: bool, leave: threading.Event) -> tuple[threading.Thread, threading.Event]:
    """Hold the machine in a new thread until `leave` is set; return the thread, and an event set once it holds it."""
    entered = threading.Event()

    def stay() -> None:
        with hold_machine(home, alone=alone):
            entered.set()
            leave.wait(TIMEOUT_S)

    thread = threading.Thread(target=stay)
    thread.start()
    return thread, entered


def test_exclusive_trial_waits_for_all_shared_ones(tmp_path: Path) -> None:
    leave, done = threading.Event(), threading.Event()
    sharing = [enter(tmp_path, alone=False, leave=leave) for _ in range(2)]
    assert all(entered.wait(TIMEOUT_S) for _, entered in sharing)
    thread, is_alone = enter(tmp_path, alone=True, leave=done)
    assert not is_alone.wait(0.2)

    leave.set()
    assert is_alone.wait(TIMEOUT_S)
    late, has_entered = enter(tmp_path, alone=False, leave=done)
    assert not has_entered.wait(0.2)

    done.set()
    assert has_entered.wait(TIMEOUT_S)
    for each in (*(thread for thread, _ in sharing), thread, late):
        each.join(TIMEOUT_S)
