"""Mount a small file system (tmpfs) for the data that the target writes, so that a full disk affects only the target.

If the supervisor may not mount file systems, the target writes to an ordinary folder. The file system is unmounted when
the testbed is shut down. If the supervisor is killed, its parent process (the guard) unmounts it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from relab.core.logging import get_logger
from relab.testbed.supervisor.copying import remove_tree
from relab.testbed.supervisor.guard import unmount

SIZE_MB: Final = 64
_TIMEOUT_S: Final = 5.0

_log = get_logger(__name__)


class Volume:
    """The target's data folder, with a small file system of its own if this process may mount file systems.

    Args:
        path: the path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_own(self) -> bool:
        """Whether a file system is mounted on the target's data folder."""
        return self._path.is_mount()

    def make(self) -> None:
        """Create the target's data folder, and mount a file system of 64 MiB on it.

        If the file system cannot be mounted, the folder stays an ordinary folder.

        Raises:
            OSError: the folder cannot be created.
        """
        self._path.mkdir(exist_ok=True)
        if self.is_own:
            return
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700,nosuid,nodev,noexec", "tmpfs"]
        try:
            subprocess.run([*command, str(self._path)], capture_output=True, check=True, timeout=_TIMEOUT_S)  # noqa: S603 our own words
        except (OSError, subprocess.SubprocessError) as error:
            _log.info("no_volume", path=str(self._path), reason=f"{type(error).__name__}: {error}"[:200])

    def empty(self) -> None:
        """Delete the content of the target's data folder."""
        self._path.mkdir(exist_ok=True)
        for entry in self._path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Unmount the file system of the target's data folder, if there is one; the folder stays."""
        unmount(str(self._path))
