"""Builds whose process has died, for example because it was killed: their records become `interrupted`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from relab.builds.models import BuildResult, BuildStatus
from relab.builds.monitor.workspace import BuildFolder, try_lock
from relab.builds.store import BuildStore
from relab.core.errors import UnavailableError
from relab.core.logging import get_logger
from relab.experiments.sandbox.stale_processes import end_stale_processes

_ABANDONED: Final = BuildResult(
    status=BuildStatus.INTERRUPTED, error="The process of this build ended before the build did."
)
_log = get_logger(__name__)


def end_abandoned(folder: BuildFolder, store: BuildStore) -> None:
    """End the leftovers of an earlier build in a folder: its processes, and its record if that is still `running`.

    The caller holds the lock of the folder, so no other process builds there.
    """
    end_stale_processes(folder.root)
    store.interrupt_running(folder.identity, _ABANDONED)


def end_all_abandoned(home: Path, store: BuildStore) -> None:
    """Call `end_abandoned` for each project folder below `home` that has a `running` record and in which no process builds.

    No other folder is locked, because a build that begins there at the same time would find it busy. A folder that
    cannot be read or locked is left out. If the database cannot be written, a record stays `running` until a later call.
    """
    running = store.running_folders()
    for root in _folders(home) if running else ():
        folder = BuildFolder(root, root.name)
        if folder.identity not in running:
            continue
        # A folder of another user, or one that is deleted meanwhile.
        with contextlib.suppress(OSError), try_lock(root) as is_ours:
            # Its build may have ended since the records were read, and then the next one waits for the lock.
            if is_ours and folder.identity in store.running_folders():
                try:
                    end_abandoned(folder, store)
                except UnavailableError as error:
                    _log.warning("an abandoned build cannot be interrupted", folder=str(root), error=error.message)


def _folders(home: Path) -> list[Path]:
    try:
        return sorted(home.iterdir())
    except OSError:
        return []
