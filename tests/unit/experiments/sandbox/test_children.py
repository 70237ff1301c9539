"""Processes of trials that run at the same time: each is attributed to its own trial."""

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
    """Yield a sleeping process that stands for the process of a trial."""
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
    scans, scanned = threading.Event(), list[int]()
    real = process.adopted_children

    def adopted() -> list[int]:
        scans.set()
        # This is long enough for a process to start if no lock blocks the start.
        has_started.wait(0.3)
        return real()

    with a_child(tmp_path, "first") as first:
        monkeypatch.setattr(process, "adopted_children", adopted)
        has_started = threading.Event()
        scanner = threading.Thread(target=lambda: scanned.extend(first.processes()))
        scanner.start()
        assert scans.wait(60)
        # The main thread starts the process, because orphans are children of the main thread too.
        with a_child(tmp_path, "second") as second:
            has_started.set()
            scanner.join(60)
            assert scanned == [first.pid]
            assert second.wait(0) is None


def test_an_orphan_of_a_trial_is_found_by_its_marker(tmp_path: Path) -> None:
    with a_child(tmp_path, "first") as first, a_child(tmp_path, "second") as second:
        # Its parent has ended, so it is a child of this process, the reaper.
        subprocess.run(["sh", "-c", "setsid sleep 600 & :"], env={MARKER: "second", "PATH": os.defpath}, check=True)
        wait_until(lambda: len(second.processes()) == 2, what="the orphan")
        assert first.processes() == [first.pid]


def test_the_processes_of_a_child_that_has_ended_are_its_orphans(tmp_path: Path) -> None:
    with a_child(tmp_path, "first") as child:
        subprocess.run(["sh", "-c", "setsid sleep 600 & :"], env={MARKER: "first", "PATH": os.defpath}, check=True)
        wait_until(lambda: len(child.processes()) == 2, what="the orphan")
        child.end(0)
        assert child.pid not in child.processes()
        assert len(child.processes()) == 1
