"""Create, open and lock the folder of a run."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from pydantic import ValidationError

from relab.core.atomic_files import is_disk_full, replacing
from relab.core.clock import format_time
from relab.core.json import digest
from relab.core.stored_documents import STORED
from relab.core.validation import plain_message
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import ExperimentInvalidError, RunBusyError, RunDiskFullError, RunNotFoundError, damaged
from relab.experiments.models import Keep
from relab.experiments.plan.dataset import TaskIndex, index_tasks
from relab.experiments.records.file_names import DATASET, DIGEST, LOCK, MANIFEST, RESOLVED, RUN_CONTROL
from relab.experiments.records.journal import begin_journal, check_manifest
from relab.experiments.records.seals import digest_of_file
from relab.experiments.trial.wire import write_json
from relab.experiments.workspace.untrusted_files import write_new

BYTES_PER_TRIAL: Final = 40_960
"""The estimated disk space of a trial's documents: ten blocks of a file system."""
RESERVE: Final = 256 * 1_048_576
_LOCK_TIMEOUT_S: Final = 0.25
_LOCK_INTERVAL_S: Final = 0.005


@dataclass(frozen=True)
class RunFolder:
    """A run of an experiment, as the run's folder records it.

    Attributes:
        path: the folder.
        config: the configuration of the experiment, with all defaults and overrides.
        manifest: the content of `manifest.json`; `ext` in it records how the run was started.
    """

    path: Path
    run_id: str
    config: ExperimentConfig
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The digest of the run's configuration, with all defaults and overrides, as the manifest records it."""
        recorded: str = self.manifest["resolved_experiment"]["digest"]
        return recorded

    @property
    def facts(self) -> Mapping[str, Any]:
        """The values that the manifest records about the start of the run, as JSON: command, snapshot and more."""
        facts: Mapping[str, Any] = self.manifest["ext"]
        return facts

    @property
    def dataset(self) -> Path:
        """The run's own copy of the data set."""
        return self.path / DATASET

    def tasks(self) -> TaskIndex:
        """Return the index of the tasks in the run's own copy of the data set.

        Raises:
            RunDamagedError: the copy is missing, unreadable, or was changed since the run began.
        """
        try:
            found = digest_of_file(self.dataset)
        except OSError as error:
            raise damaged(self.dataset, f"cannot be read: {error.strerror}") from error
        if found != self.facts["dataset_digest"]:
            raise damaged(self.dataset, "was changed since the run began" if found is not None else "is missing")
        return index_tasks(self.dataset, self.config.dataset.limit, self.config.dataset.task_id_field)

    def write_control(self, status: str, now_us: int) -> None:
        """Write the control document of the run (`run_control_v1`), so that other commands can read the run's status.

        Args:
            status: `running`, `completed`, `interrupted`, `paused`, `budget_reached` or `failed`.
            now_us: the current time, in microseconds since 1970.
        """
        path = self.path / RUN_CONTROL
        path.parent.mkdir(exist_ok=True)
        document = {
            "schema_version": "run_control_v1",
            "run_id": self.run_id,
            "status": status,
            "active_trial_id": None,
            "active_control_path": None,
            "updated_at": format_time(now_us),
        }
        with replacing(path) as fresh:
            write_json(fresh, document)

    def status(self) -> str:
        """Return the status that the run's process stored last, such as `completed`.

        Return `interrupted` if `running` is stored but no process holds the run's lock. Return `unknown` if the stored
        status cannot be read.
        """
        try:
            status: str = json.loads((self.path / RUN_CONTROL).read_bytes())["status"]
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown"
        return current_status(self.path, status)


def new_run_id(now_us: int) -> str:
    """Return a new id for a run, `run_<date>_<time>_<random>`, with date and time in UTC."""
    moment = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    return f"run_{moment:%Y%m%d_%H%M%S}_{secrets.token_hex(3)}"


def begin_run(
    path: Path,
    run_id: str,
    config: ExperimentConfig,
    dataset: Path,
    manifest: dict[str, Any],
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> RunFolder:
    """Create the folder of a run with its configuration, its copy of the data set, its manifest and its journal.

    After an error or an interruption, the incomplete folder is deleted.

    Args:
        path: the folder, which must not exist.
        run_id: the id of the run.
        config: the configuration of the experiment, with all defaults and overrides.
        dataset: the file to copy.
        manifest: the content of `manifest.json`.
        files: `{path below the folder: content}` of further files.

    Raises:
        OSError: the folder exists already or cannot be written.
    """
    # Mode 0700, because trials can write files of any kind, which other users of this machine must not reach.
    path.mkdir(parents=True, mode=0o700)
    try:
        (path / DATASET).parent.mkdir()
        shutil.copyfile(dataset, path / DATASET)
        for name, content in files.items():
            (path / name).parent.mkdir(exist_ok=True)
            write_new(path / name, content)
        write_json(path / RESOLVED, config.resolved())
        (path / DIGEST).write_text(manifest["resolved_experiment"]["digest"] + "\n", encoding="ascii")
        # The manifest is written last: a folder that has one is complete.
        with replacing(path / MANIFEST) as fresh:
            begin_journal(path, write_json(fresh, manifest))
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return RunFolder(path, run_id, config, manifest)


def open_run(path: Path) -> RunFolder:
    """Open the folder of a run.

    Raises:
        RunNotFoundError: the folder is not a run.
        RunDamagedError: the manifest or `resolved_experiment.json` cannot be read, or the digest of the configuration
            in this file differs from the digest in the manifest.
    """
    manifest, resolved = _read(path, MANIFEST), _read(path, RESOLVED)
    try:
        run_id, recorded, _ = manifest["run_id"], manifest["resolved_experiment"]["digest"], manifest["ext"]["command"]
    except (KeyError, TypeError) as error:
        raise damaged(path / MANIFEST, f"cannot be read: {error} is missing or has another type") from error
    if digest(resolved) != recorded:
        raise damaged(path / RESOLVED, f"was changed since the run began: {MANIFEST} names another digest")
    try:
        config = ExperimentConfig.model_validate(resolved, context=STORED)
    except ValidationError as error:
        raise damaged(path / RESOLVED, f"cannot be read: {plain_message(error.errors()[0]['msg'])}") from error
    return RunFolder(path, str(run_id), config, manifest)


def _read(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise RunNotFoundError(
            f"{folder} is not the folder of a run: {error.filename} does not exist.",
            remedy="Give the folder of a run: .lab/runs/<run_id>.",
        ) from error
    except OSError as error:
        raise damaged(folder / name, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise damaged(folder / name, f"is not JSON: {error}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a run for this process inside the `with` block.

    Raises:
        RunBusyError: another process holds the lock.
    """
    lock = path / LOCK
    lock.parent.mkdir(exist_ok=True)
    # Not "w", which would erase the holder's process id even if the lock is taken.
    with lock.open("a") as file:
        try:
            _lock(file)
        except BlockingIOError as error:
            raise RunBusyError(f"Another process is working on {path}.") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            # The lock of a run that no process works on is empty, which `lab verify` checks.
            file.truncate(0)


def _lock(file: IO[str]) -> None:
    """Lock a file exclusively; raise BlockingIOError if another process still holds the lock after `_LOCK_TIMEOUT_S`."""
    # `is_locked` of another process holds a shared lock for a moment.
    end_by = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end_by:
                raise
            time.sleep(_LOCK_INTERVAL_S)
        else:
            return


def current_status(path: Path, stored: str) -> str:
    """Return the status of the run in the folder `path`, given the status `stored` that its process stored last.

    Return `interrupted` if `stored` is `running` but no process works on the run, because its process was killed.
    """
    return "interrupted" if stored == "running" and not is_locked(path) else stored


def is_locked(path: Path) -> bool:
    """Return whether a process works on the run in the folder `path`."""
    try:
        with (path / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def check_room(
    folder: Path, *, trials: int, at_once: int, snapshot_bytes: int, keep: Keep, other_bytes: int = 0
) -> None:
    """Check that the disk has enough free space for a run.

    Args:
        folder: a folder on the disk that the run will write to.
        trials: the number of trials.
        at_once: the number of trials that run at the same time.
        snapshot_bytes: the size of one workspace (a copy of the project).
        keep: which workspaces are kept after the run.
        other_bytes: the size of everything else that the run writes.

    Raises:
        RunDiskFullError: the disk has less free space than the estimate; the message gives both numbers.
    """
    kept = trials if keep is Keep.ALL else at_once
    needed = trials * BYTES_PER_TRIAL + kept * snapshot_bytes + other_bytes + RESERVE
    free = shutil.disk_usage(folder).free
    if needed > free:
        mb = 1_048_576
        raise RunDiskFullError(
            f"{trials:,} trials need about {needed // mb:,} MB in {folder}, but only {free // mb:,} MB are free.",
            remedy="Free disk space, keep fewer workspaces (--keep-workspaces failed), or add more files to runtime.workspace.ignore.",
        )


def open_checked_run(path: Path) -> RunFolder:
    """Open the folder of a run, and check the manifest against the digest that the run's journal has recorded.

    Raises:
        RunNotFoundError: the folder is not a run.
        RunDamagedError: the manifest or `resolved_experiment.json` cannot be read or was changed.
    """
    run = open_run(path.absolute())
    # Checked before a value of the manifest is used: an edited manifest may lack a key or have any value.
    check_manifest(run.path)
    return run


def make_writable(folder: Path) -> None:
    """Create a folder unless it exists, and check that files can be written in it.

    Raises:
        ExperimentInvalidError: the folder cannot be created, or files cannot be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentInvalidError(f"The folder {folder} cannot be created: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExperimentInvalidError(f"The folder {folder} cannot be written.")


@contextmanager
def disk_errors_of(run_dir: Path) -> Iterator[None]:
    """Turn an OSError of a full disk in the `with` block into a `RunDiskFullError`; other errors stay as they are.

    The new error advises the user to free space and run the command that continues the run in `run_dir`.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RunDiskFullError(
            f"The disk of {run_dir} is full.",
            remedy=f"Free disk space, then run: lab run --continue {shlex.quote(str(run_dir))}",
        ) from error
