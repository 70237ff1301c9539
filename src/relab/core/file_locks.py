"""Exclude other threads and processes of this machine with a lock on a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, *, shared: bool = False, mode: int = 0o600) -> Iterator[None]:
    """Hold a lock on a file; wait while another thread or process of this machine has a conflicting lock.

    The lock is released if the process dies. The file is never deleted, because another process may wait for its lock.

    Args:
        path: the file, which is created if it is missing; its folder must exist.
        shared: True for a shared lock, which conflicts with exclusive locks only; False for an exclusive lock, which
            conflicts with all locks.
        mode: permissions of a new file, reduced by the process's umask.

    Raises:
        OSError: the file cannot be opened for writing, or the file system does not support locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        with open_file_lock(descriptor, shared=shared):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def open_file_lock(descriptor: int, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on the open file with this descriptor; wait while another thread or process has a conflicting lock.

    The block must flush the data that it writes to the file, because other processes may write to the file as soon as
    the block ends.

    Args:
        descriptor: the file descriptor.
        shared: True for a shared lock, which conflicts with exclusive locks only; False for an exclusive lock, which
            conflicts with all locks.

    Raises:
        OSError: the file system does not support locks.
    """
    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        # Closing alone does not release the lock while a process that was forked meanwhile has the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
