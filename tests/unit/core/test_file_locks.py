"""Locks on files: one holder at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from relab.core.file_locks import file_lock, open_file_lock


def test_lock_is_exclusive_and_released_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with file_lock(path), path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_shared_lock_excludes_only_exclusive_ones(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with file_lock(path, shared=True), file_lock(path, shared=True), path.open() as other:
        with open_file_lock(other.fileno(), shared=True):
            pass
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_lock_is_released_although_a_process_that_was_forked_meanwhile_has_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with file_lock(path):
        (held,) = (fd for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == path.resolve())
        inherited = os.dup(int(held.name))

    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(inherited)
