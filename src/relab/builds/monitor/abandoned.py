"""Clean up after builds whose relab process has ended, for example because it was killed.

Processes that such a build left are ended, and its record becomes `interrupted`.
"""

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
    """End the processes of all dead builds in the project folders, and set their `running` records to `interrupted`.

    A dead build is a build whose relab process has ended. A project folder is skipped if another process holds its
    lock, because its build is still running. An error in one folder is logged, and the next folder follows.

    Args:
        home: the parent of the project folders.
        store: the records of builds.
        running: the values of `BuildFolder.identity` of the project folders that have a build with the status
            `running`. Other folders are skipped. Values of folders on other machines have no effect.
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
