"""Processes of trials that run at the same time are told apart."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relab.experiments.sandbox import process
from relab.experiments.sandbox.process import MARKER, Child
from rig.waiting import wait_until


@contextmanager
def a_child(folder: Path, name: str) -> Iterator[Child]:
    """Yield a process that waits, as a trial's."""
    with Path(os.devnull).open("r+b") as nothing:
        child = Child(
            ["sleep", "600"],
            cwd=folder,
            environment={MARKER: name},
            stdin=nothing.fileno(),
            stdout=nothing.fileno(),
            stderr=nothing.fileno(),
        )
    try:
        yield child
    finally:
        child.close()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="orphans are looked for in /proc")
def test_trial_that_starts_during_a_process_scan_is_not_an_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Child] = []
    may_end, real = threading.Event(), process.children_of

    def start_another() -> None:
        with a_child(tmp_path, "second") as child:
            found.append(child)
            may_end.wait(30)

    starter = threading.Thread(target=start_another)

    def children(pid: int | str) -> list[int]:
        if not starter.ident:
            starter.start()
            # Time enough for a start that nothing holds up.
            starter.join(0.3)
        return real(pid)

    with a_child(tmp_path, "first") as first:
        monkeypatch.setattr(process, "children_of", children)
        try:
            assert first.processes() == [first.pid]
        finally:
            may_end.set()
            starter.join(30)
    (second,) = found
    assert second.wait(0) is not None


def test_an_orphan_of_a_trial_is_found_by_its_marker(tmp_path: Path) -> None:
    with a_child(tmp_path, "first") as first, a_child(tmp_path, "second") as second:
        # It has lost its parent, and is a child of the reaper: of this process.
        subprocess.run(["sh", "-c", "setsid sleep 600 & :"], env={MARKER: "second", "PATH": os.defpath}, check=True)
        wait_until(lambda: len(second.processes()) == 2, what="the orphan")
        assert first.processes() == [first.pid]
