"""The disk that the target writes to: a small one of its own, where this process may mount one.

A volume that fills up is full for the target and for nobody else. It is memory; it goes with the testbed, and the guard
takes away what a killed supervisor has left.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import structlog

from relab.testbed.supervisor.copying import remove_tree
from relab.testbed.supervisor.guard import unmount

SIZE_MB: Final = 64
_WITHIN_S: Final = 5.0

_log = structlog.get_logger(__name__)


class Volume:
    """A folder, on a file system of its own where that is possible.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_own(self) -> bool:
        """Whether it is a file system of its own."""
        return self._path.is_mount()

    def make(self) -> None:
        """Make the folder, and mount the volume; without the right to mount it is a folder like any other.

        Raises:
            OSError: not even the folder can be made.
        """
        self._path.mkdir(exist_ok=True)
        if self.is_own:
            return
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700,nosuid,nodev,noexec", "tmpfs"]
        try:
            subprocess.run([*command, str(self._path)], capture_output=True, check=True, timeout=_WITHIN_S)  # noqa: S603 our own words
        except (OSError, subprocess.SubprocessError) as error:
            _log.info("no_volume", path=str(self._path), reason=f"{type(error).__name__}: {error}"[:200])

    def empty(self) -> None:
        """Delete all that is in it."""
        self._path.mkdir(exist_ok=True)
        for entry in self._path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Take the volume away; the folder stays."""
        unmount(str(self._path))
