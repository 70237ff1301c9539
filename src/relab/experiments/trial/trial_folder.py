"""The folder of one trial: the names of its files, and functions to create and clear it.

AgentLab, an experiment runner whose file formats relab keeps, defines the names.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.protocol import Folders
from relab.experiments.workspace.untrusted_trees import remove_tree

INPUT: Final = "trial_input.json"
OUTPUT: Final = "trial_output.json"
STATE: Final = "trial_state.json"
INVENTORY: Final = "state_inventory.json"
STDOUT: Final = "stdout.log"
STDERR: Final = "stderr.log"
EVIDENCE: Final = "evidence"
EXPORTS: Final = "otlp"


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial (`root`), with the paths of the files and folders in it."""

    root: Path

    @functools.cached_property
    def workspace(self) -> Path:
        """The trial's copy of the project, in which the harness runs."""
        return self.root / "workspace"

    @functools.cached_property
    def state(self) -> Path:
        """The folder of the harness's persistent state, and of the control file (requests of the runner)."""
        return self.root / "state"

    @functools.cached_property
    def out(self) -> Path:
        """The folder of the documents that harness and runner exchange."""
        return self.root / "out"

    @functools.cached_property
    def stdout(self) -> Path:
        """The file with the harness's standard output."""
        return self.root / STDOUT

    @functools.cached_property
    def stderr(self) -> Path:
        """The file with the harness's standard error."""
        return self.root / STDERR

    def folders(self, dataset: Path, harness: Path) -> Folders:
        """Return the folders to mount in the trial's sandbox.

        Args:
            dataset: the folder of the data set.
            harness: the folder from which the sandbox reads the harness: the project's snapshot, or the workspace.
        """
        return Folders(
            workspace=self.workspace,
            state=self.state,
            out=self.out,
            tmp=self.root / "tmp",
            # `tmp` and `home` share one folder, because every trial creates and deletes them.
            home=self.root / "tmp",
            harness=harness,
            dataset=dataset,
        )

    def clear(self) -> None:
        """Delete the trial's folder with everything in it, for example after a killed run.

        Raises:
            OSError: an entry cannot be deleted.
        """
        remove_tree(self.root)

    def make(self) -> None:
        """Create the folders of the trial except the workspace, which `clone` creates.

        Raises:
            OSError: the disk is full, or permission is missing.
        """
        # For a second attempt the folder exists, with the files of the first in `attempts/`.
        self.root.mkdir(parents=True, exist_ok=True)
        for name in ("state", "out", "tmp"):
            os.mkdir(f"{self.root}/{name}")  # noqa: PTH102 for every trial

    def set_attempt_aside(self, number: int) -> None:
        """Move the files of a finished attempt to `attempts/<number>`; delete its workspace and temporary folder.

        Traces and the logs of requests stay, and the next attempt adds to them.
        """
        kept = self.root / "attempts" / str(number)
        kept.mkdir(parents=True)
        for name in (INPUT, STDOUT, STDERR, "out", "state", INVENTORY, "segments"):
            path = self.root / name
            if path.exists():
                shutil.move(path, kept / name)
        for name in ("workspace", "tmp"):
            remove_tree(self.root / name)

    def set_segment_aside(self, number: int, *files: Path) -> None:
        """Move `files`, which the harness and the runner wrote before a pause, to `segments/<number>`.

        Missing files are ignored. `number` is the number of the pause, from 1.

        Raises:
            OSError: the disk is full, or permission is missing.
        """
        kept = self.root / "segments" / str(number)
        kept.mkdir(parents=True, exist_ok=True)
        for path in files:
            with contextlib.suppress(FileNotFoundError):
                path.rename(kept / path.name)

    def host_path(self, place: str) -> Path:
        """Convert `place`, a path inside the sandbox (`/out/…`, `/state/…`), to its path on this machine."""
        return self.root / place[1:]


def trial_folder(run_dir: Path, trial_id: str) -> TrialFolder:
    """Return the folder of the trial with this id, below the folder of its run."""
    return TrialFolder(run_dir / "trials" / trial_id)


def link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link `target` to the file `source`, or a copy if links fail; replace an existing target.

    Afterwards, no process may write to `source`, because this would change the content of `target`, too.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        target.unlink()
        link_or_copy(source, target)
    except OSError:
        # Some file systems have no hard links, and the number of links per inode is limited.
        shutil.copyfile(source, target)


def mode_of(path: Path) -> int:
    """Return the kind and the permissions of a file or a link (`st_mode`); 0 if nothing exists at the path."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0
