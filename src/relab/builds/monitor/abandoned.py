"""Builds whose process has died, for example because it was killed: their records become `interrupted`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from relab.builds.models import BuildResult, BuildStatus
from relab.builds.monitor.workspace import LOCK, BuildFolder, try_lock
from relab.builds.store import BuildStore
from relab.experiments.sandbox.stale_processes import end_stale_processes

_ABANDONED: Final = BuildResult(
    status=BuildStatus.INTERRUPTED, error="The process of this build ended before the build did."
)


def end_abandoned(folder: BuildFolder, store: BuildStore) -> None:
    """End the leftovers of an earlier build in a folder: its processes, and its record if that is still `running`.

    The caller holds the lock of the folder, so no other process builds there.
    """
    end_stale_processes(folder.root)
    store.interrupt_running(folder.identity, _ABANDONED)


def end_all_abandoned(home: Path, store: BuildStore) -> None:
    """Call `end_abandoned` for each project folder below `home` in which no process builds now."""
    for root in sorted(home.iterdir()) if home.is_dir() else ():
        # A folder of another user, or one that is deleted meanwhile.
        with contextlib.suppress(OSError):
            if (root / LOCK).is_file():
                with try_lock(root) as is_ours:
                    if is_ours:
                        end_abandoned(BuildFolder(root, root.name), store)
