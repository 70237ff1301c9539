"""Snapshots of a project that several runs take at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
