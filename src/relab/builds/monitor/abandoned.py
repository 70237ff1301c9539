"""Builds whose process has died, for example because it was killed: their records become `interrupted`."""

from __future__ import annotations

from collections.abc import Collection
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
    """End the processes of a dead build in a folder, and set its `running` record to `interrupted`.

    A dead build is a build whose relab process has ended. The caller holds the lock of the folder.
    """
    end_stale_processes(folder.root)
    store.interrupt_running(folder.identity, _ABANDONED)


def end_all_abandoned(home: Path, store: BuildStore, running: Collection[str]) -> None:
    """End the processes that dead builds left in the project folders, and set the builds to `interrupted`.

    A dead build is a build whose relab process has ended. A project folder is skipped if a process holds its lock, or
    if an error occurs; the error is logged.

    Args:
        home: the parent of the project folders.
        store: the records of builds.
        running: the digests (`BuildFolder.identity`) of the folders of all builds with the status `running`. Digests of
            folders on other machines are ignored.
    """
    for folder in _folders(home):
        # Locking every folder would make builds that begin at this moment fail, because their folder is busy.
        if folder.identity not in running:
            continue
        try:
            with try_lock(folder.root) as is_ours:
                # The build may have ended since `running` was read; the next build of the project then waits for the
                # lock.
                if is_ours and folder.identity in store.running_folders():
                    end_abandoned(folder, store)
        except (OSError, UnavailableError) as error:
            _log.warning("an abandoned build cannot be interrupted", folder=str(folder.root), error=str(error))


def _folders(home: Path) -> list[BuildFolder]:
    try:
        return [BuildFolder(root, root.name) for root in sorted(home.iterdir())]
    except FileNotFoundError:
        # Nothing was ever built here: all running builds are on other machines.
        return []
    except OSError as error:
        _log.warning("the folders of builds cannot be listed", folder=str(home), error=str(error))
        return []
