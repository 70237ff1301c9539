"""Pause trials of a run that another process works on, and find the trials of a run that are paused."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.core.errors import InvalidInputError
from relab.core.ids import new_id
from relab.experiments.errors import RunNotRunningError, TrialNotFoundError, TrialStateError
from relab.experiments.records.file_names import PAUSE_REQUEST
from relab.experiments.records.forks import plan_of_run
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder, is_locked, open_run
from relab.experiments.results.run_metadata import COMPLETED
from relab.experiments.trial.pausing import (
    MAX_LABEL,
    MAX_TIMEOUT_S,
    PAUSED,
    REQUEST,
    PausedTrial,
    PauseRequest,
    ask,
    read_paused,
)
from relab.experiments.trial.resuming import resumable
from relab.experiments.trial.trial_folder import INPUT, OUTPUT, TrialFolder, trial_folder

_LOOK_S: Final = 0.05
_PATIENCE_S: Final = 60.0
"""How long to wait, beyond the time-out of the harness, for the runner to end it and to write its records."""


@dataclass(frozen=True)
class PauseAnswer:
    """The result of a request to pause one trial.

    Attributes:
        trial_id: the id of the trial.
        paused: the record of the pause; None if the trial ended before it could be paused, or did not run.
        took_s: the seconds from the request until the trial was paused or had ended.
    """

    trial_id: str
    paused: PausedTrial | None
    took_s: float

    @property
    def status(self) -> str:
        """How the request to pause ended.

        - `paused`: the trial is paused. The harness acknowledged the request and ended by itself.
        - `stopped`: the trial is paused, but the harness did not acknowledge the request or did not end by itself. When
          the trial is resumed, it starts from its beginning.
        - `ended`: the trial ended before it could be paused, or it did not run in the process that works on the run.
        """
        if self.paused is None:
            return "ended"
        return "paused" if self.paused.acknowledged else "stopped"


def pause_trials(
    run_dir: Path,
    trials: Sequence[str],
    *,
    label: str | None,
    timeout_s: float,
    on_asked: Callable[[str], None],
) -> list[PauseAnswer]:
    """Ask the process that works on a run to pause trials; wait until the trials are paused or have ended.

    Args:
        run_dir: the folder of the run.
        trials: the ids of the trials; empty to pause the whole run. Then no further trial starts, all running trials
            are paused, and the process ends.
        label: a name for the checkpoint at which a trial is paused; None for no name.
        timeout_s: the time in seconds after which a harness that has not stopped by itself is ended.
        on_asked: is called with the id of each trial for which a request was written.

    Raises:
        InvalidInputError: the label or the time-out is out of range.
        RunNotFoundError: there is no such run.
        RunNotRunningError: no process works on the run, or the process ended without an answer.
        TrialNotFoundError, TrialStateError: a trial does not exist, does not run, or is being paused already.
        RunDamagedError: a record cannot be read.
    """
    run = open_run(run_dir)
    request = _request(label, timeout_s)
    if not is_locked(run.path):
        raise RunNotRunningError(
            f"No process works on {run.run_id}; its status is {run.status()!r}.", remedy=_remedy(run)
        )
    if not trials:
        return _pause_all(run, request, on_asked)
    folders = [_running(run, trial_id) for trial_id in dict.fromkeys(trials)]
    asked = {}
    for folder in folders:
        _ask(folder, request)
        asked[folder.root.name] = time.monotonic()
        on_asked(folder.root.name)
    return [_wait(run, trial_folder(run.path, name), request, since) for name, since in asked.items()]


def paused_trials(run: RunFolder) -> list[str]:
    """Return the ids of the trials of a run that are paused, in the order of their numbers."""
    found = [path.parent.name for path in (run.path / "trials").glob(f"*/{PAUSED}")]
    return sorted(found, key=lambda name: (len(name), name))


def drop_requests(run: RunFolder) -> None:
    """Delete the requests to pause a run or its trials; the caller must hold the lock of the run, and no trial may run.

    A folder that an earlier process left, because it was stopped, looks like that of a running trial, so `lab pause`
    may have written a request into it.

    Raises:
        OSError: a request cannot be deleted.
    """
    for path in (run.path / PAUSE_REQUEST, *(run.path / "trials").glob(f"*/{REQUEST}")):
        path.unlink(missing_ok=True)


def check_paused(run: RunFolder, trials: Sequence[str]) -> frozenset[str]:
    """Check that trials of a run can be resumed; return their ids.

    Args:
        run: the run.
        trials: the ids; empty for all paused trials.

    Raises:
        TrialNotFoundError: the run has no such trial.
        TrialStateError: one of `trials` is not paused, or the run has no paused trial.
        CheckpointMissingError, CheckpointInvalidError: the file of a checkpoint is gone, or is outside of the trial's
            folders.
        RunDamagedError: the record of a pause cannot be read.
    """
    ids = list(trials) or paused_trials(run)
    if not ids:
        raise TrialStateError(f"No trial of {run.run_id} is paused.", remedy=_remedy(run))
    for trial_id in ids:
        _check_exists(run, trial_id)
        folder = trial_folder(run.path, trial_id)
        if read_paused(folder) is None:
            _check_open(run, trial_id)
            raise TrialStateError(
                f"The trial {trial_id} of {run.run_id} is not paused.",
                remedy=f"To run the remaining trials: lab run --continue {shlex.quote(str(run.path))}",
            )
        resumable(folder)
    return frozenset(ids)


def _remedy(run: RunFolder) -> str:
    """Return advice on a run that no process works on: how to continue it or, if it is completed, to see its trials."""
    if run.status() == COMPLETED:
        return f"All its trials have ended; to see them: lab trials {shlex.quote(str(run.path))}"
    return f"To run its remaining trials: lab run --continue {shlex.quote(str(run.path))}"


def _request(label: str | None, timeout_s: float) -> PauseRequest:
    if label is not None and not 1 <= len(label) <= MAX_LABEL:
        raise InvalidInputError(f"--label must have 1 to {MAX_LABEL} characters, not {len(label):,}.")
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInputError(
            f"--timeout must be above 0 and at most {MAX_TIMEOUT_S:,.0f} seconds, not {timeout_s:g}."
        )
    return PauseRequest(request_id=new_id(), label=label, timeout_s=timeout_s)


def _pause_all(run: RunFolder, request: PauseRequest, on_asked: Callable[[str], None]) -> list[PauseAnswer]:
    marker = run.path / PAUSE_REQUEST
    # The runner deletes it, unless it is already sealing the run. A second request changes nothing.
    marker.write_text(request.request_id, encoding="ascii")
    asked: dict[str, float] = {}
    answers: dict[str, PauseAnswer] = {}
    end_by = time.monotonic() + request.timeout_s + _PATIENCE_S
    while is_locked(run.path):
        for name, since in asked.items():
            found = None if name in answers else _answer(trial_folder(run.path, name), request, since)
            if found is not None:
                answers[name] = found
        for folder in _running_folders(run):
            if folder.root.name not in asked and ask(folder, request):
                asked[folder.root.name] = time.monotonic()
                on_asked(folder.root.name)
                end_by = time.monotonic() + request.timeout_s + _PATIENCE_S
        if time.monotonic() > end_by:
            raise RunNotRunningError(
                f"The process that works on {run.run_id} did not end after its trials were paused."
            )
        time.sleep(_LOOK_S)
    marker.unlink(missing_ok=True)
    return [
        answers[name] if name in answers else _wait(run, trial_folder(run.path, name), request, since)
        for name, since in asked.items()
    ]


def _running_folders(run: RunFolder) -> list[TrialFolder]:
    """Return the folders of the trials that have started, and have neither written an output nor been paused."""
    try:
        with os.scandir(run.path / "trials") as entries:
            paths = [Path(entry.path) for entry in entries]
    except FileNotFoundError:
        return []
    return [
        TrialFolder(path)
        for path in paths
        if (path / INPUT).exists() and not (path / OUTPUT).exists() and not (path / PAUSED).exists()
    ]


def _running(run: RunFolder, trial_id: str) -> TrialFolder:
    """Return the folder of a trial that is running.

    Raises:
        TrialNotFoundError: the run has no such trial.
        TrialStateError: the trial is paused, has not begun, or has ended.
    """
    _check_exists(run, trial_id)
    _check_open(run, trial_id)
    folder = trial_folder(run.path, trial_id)
    if read_paused(folder) is not None:
        raise TrialStateError(
            f"The trial {trial_id} is paused already.",
            remedy=f"lab resume --run-dir {shlex.quote(str(run.path))} --trial {trial_id}",
        )
    if not (folder.root / INPUT).exists():
        raise TrialStateError(f"The trial {trial_id} has not begun.", remedy="Pause it when it runs, or the whole run.")
    return folder


def _check_exists(run: RunFolder, trial_id: str) -> None:
    total = len(plan_of_run(run, len(run.tasks())))
    number = trial_id.removeprefix("trial_")
    if number == trial_id or not number.isascii() or not number.isdigit() or str(int(number[:12])) != number:
        is_known = False
    else:
        is_known = 1 <= int(number) <= total
    if not is_known:
        raise TrialNotFoundError(
            f"{run.run_id} has no trial {trial_id[:100]!r}.", remedy=f"Its trials are trial_1 to trial_{total}."
        )


def _check_open(run: RunFolder, trial_id: str) -> None:
    if any(entry["row"]["trial_id"] == trial_id for entry in read_journal(run.path)):
        raise TrialStateError(
            f"The trial {trial_id} has ended.",
            remedy=f"See its result with: lab experiments show {shlex.quote(str(run.path))}",
        )


def _ask(folder: TrialFolder, request: PauseRequest) -> None:
    if not ask(folder, request):
        raise TrialStateError(
            f"The trial {folder.root.name} is being paused already.", remedy="Wait for the end of that pause."
        )


def _wait(run: RunFolder, folder: TrialFolder, request: PauseRequest, since: float) -> PauseAnswer:
    """Wait until a request to pause a trial is answered, and return the answer.

    `since` is the time at which the request was written, in seconds of the monotonic clock.

    Raises:
        RunNotRunningError: the process that works on the run has ended, or did not answer in time.
    """
    while True:
        # The lock is read first, because the runner writes its answer before it frees the lock.
        works = is_locked(run.path)
        answer = _answer(folder, request, since)
        if answer is not None:
            return answer
        if not works or time.monotonic() - since > request.timeout_s + _PATIENCE_S:
            (folder.root / REQUEST).unlink(missing_ok=True)
            reason = "has ended" if not works else "gave no answer"
            raise RunNotRunningError(
                f"The process that works on {run.run_id} {reason}; {folder.root.name} is not paused."
            )
        time.sleep(_LOOK_S)


def _answer(folder: TrialFolder, request: PauseRequest, since: float) -> PauseAnswer | None:
    """Return the answer to a request to pause a trial; None while the request is still open.

    Args:
        folder: the folder of the trial.
        request: the request.
        since: the time at which the request was written, in seconds of the monotonic clock.
    """
    # The request is read first, because the runner writes its answer before it deletes the request.
    is_asked = (folder.root / REQUEST).exists()
    paused, took_s = read_paused(folder), time.monotonic() - since
    if paused is not None and paused.request_id == request.request_id:
        return PauseAnswer(folder.root.name, paused, took_s)
    if is_asked and not (folder.root / OUTPUT).exists():
        return None
    (folder.root / REQUEST).unlink(missing_ok=True)
    return PauseAnswer(folder.root.name, None, took_s)
