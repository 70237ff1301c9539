"""Snapshots of a project that several runs take at once."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relab.experiments.workspace.snapshots import cached_snapshot, take_snapshot


def test_runs_that_replace_a_damaged_snapshot_at_once_share_the_new_one(tmp_path: Path) -> None:
    project, cache = tmp_path / "project", tmp_path / "cache"
    for number in range(5):
        (project / str(number)).mkdir(parents=True)
        (project / str(number) / "a.txt").write_text("one\n")
    taken = take_snapshot(project, cache)
    (taken.root / "0" / "a.txt").write_text("two\n")
    begin = threading.Barrier(4)

    def take(_number: int) -> int:
        begin.wait()
        return take_snapshot(project, cache).root.stat().st_ino

    with ThreadPoolExecutor(4) as pool:
        inodes = set(pool.map(take, range(4)))

    assert inodes == {taken.root.stat().st_ino}
    assert cached_snapshot(cache, taken.manifest.digest) is not None


def test_snapshot_that_another_run_removes_while_it_is_read_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, cache = tmp_path / "project", tmp_path / "cache"
    (project / "folder").mkdir(parents=True)
    (project / "folder" / "a.txt").write_text("one\n")
    taken = take_snapshot(project, cache)
    scandir = os.scandir

    def scan_after_the_removal(folder: Path) -> object:
        if folder == taken.root / "folder":
            monkeypatch.setattr(os, "scandir", scandir)
            shutil.rmtree(taken.root)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan_after_the_removal)

    again = take_snapshot(project, cache)

    assert again.manifest.digest == taken.manifest.digest
    assert (again.root / "folder" / "a.txt").read_text() == "one\n"
