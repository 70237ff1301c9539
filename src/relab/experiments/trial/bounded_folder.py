"""Limit the total size of a cache's files by deleting the least recently used files."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_KEPT_SHARE: Final = 0.9
_ABANDONED_S: Final = 3_600.0
"""The age from which on an incomplete file counts as left behind by a killed process."""


class BoundedFolder:
    """Limits the total size of the files `<two characters>/<name>` in a folder, by deleting the least recently used.

    Several threads and processes may use the folder. The caller must set a file's modification time at each use of the
    file. Files whose names begin with a dot are still being written, and are not counted.

    Args:
        folder: the folder; it may not exist yet.
        max_bytes: the largest size of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._total: int | None = None

    def make_room(self, written: Path, added: int) -> None:
        """If the files of this folder exceed the limit, delete the least recently used ones.

        Files are deleted until the total size is at most `_KEPT_SHARE` of the limit. The file just written is only
        deleted if it is larger than the limit by itself.

        Args:
            written: the path of the file that was just written.
            added: the size of this file in bytes.
        """
        with self._lock:
            self._total = added + (self._total if self._total is not None else self._size() - added)
            if self._total <= self._max_bytes:
                return
            # File systems whose clock ticks slowly give the same time to several files.
            files = sorted(self.files(), key=lambda item: (item[2] == str(written), item[0]))
            self._total = sum(size for _, size, _ in files)
            for _, size, path in files:
                # The new file is deleted last, and stays if it alone is within the limit.
                share = 1 if path == str(written) else _KEPT_SHARE
                if self._total <= self._max_bytes * share:
                    return
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 a path as text
                    self._total -= size

    def files(self) -> Sequence[tuple[int, int, str]]:
        """List the complete files of this folder; delete files that a killed process left incomplete.

        Return `(time of the last use in nanoseconds, size in bytes, path)` of each complete file.
        """
        found = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                if not path.name.startswith("."):
                    found.append((stat.st_mtime_ns, stat.st_size, str(path)))
                elif time.time() - stat.st_mtime > _ABANDONED_S:
                    path.unlink()
        return found

    def _size(self) -> int:
        return sum(size for _, size, _ in self.files())
