"""Run again the trials of a run that ended in an error: withdraw their results in the journal, and keep their files.

A line of the journal withdraws a result. From then on the trial counts as a trial without a result, so `lab run
--continue` runs it even after a crash. The trial's old folder is moved to `retries/<trial>/<number>` before the trial
runs again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from relab.experiments.errors import TrialStateError
from relab.experiments.models import ErrorType, TrialOutcome
from relab.experiments.records.journal import WITHDRAWN, Journal, read_journal, withdrawn_entries
from relab.experiments.records.run_folder import RunFolder

RETRIES: Final = "retries"


def check_retryable(run: RunFolder) -> None:
    """Check that single trials of a run can be run again.

    Raises:
        TrialStateError: each trial of the run continues from the state of the trial before, so later trials may have
            continued from a failed trial.
    """
    if run.config.design.policies.state.carries_state:
        raise TrialStateError(
            f"{run.run_id} carries state from trial to trial, so later trials have continued from those with errors.",
            remedy="Only trials with the state policy isolate_per_trial can be retried; start a new run.",
        )


def open_journal(run: RunFolder, journal: Journal, *, retry_errors: bool) -> tuple[set[str], int]:
    """Open the journal of a run; return the ids of the trials that have a result, and the number of new withdrawals.

    A withdrawn result is ignored, and its trial runs again. This call withdraws results only with `retry_errors`. The
    caller must hold the run's lock, and no trial may be running.

    Args:
        run: the run.
        journal: the journal of the run, which must not be open.
        retry_errors: whether to withdraw the results of trials that ended in an error.

    Raises:
        RunDamagedError: the journal is damaged.
        OSError: the disk is full.
    """
    done = journal.open()
    withdrawn = _withdraw_errors(run, journal) if retry_errors else set()
    done -= withdrawn
    _keep_withdrawn(run.path, done)
    return done, len(withdrawn)


def _withdraw_errors(run: RunFolder, journal: Journal) -> set[str]:
    """Withdraw the results of the trials that ended in an error, so that they run again; return the ids of the trials.

    After too many consecutive failures, the runner prunes a variant: it skips the variant's further trials. If a trial
    of a pruned variant ended in an error, the results of the skipped trials are withdrawn as well. The caller must hold
    the lock of the run.

    Args:
        run: the run.
        journal: the open journal of the run.

    Raises:
        RunDamagedError: the journal is damaged.
        OSError: the disk is full.
    """
    entries = [
        entry
        for entry in read_journal(run.path)
        if entry["row"]["outcome"] == TrialOutcome.ERROR or entry["row"]["error_type"] == ErrorType.PRUNED
    ]
    failed = {entry["row"]["variant_id"] for entry in entries if entry["row"]["outcome"] == TrialOutcome.ERROR}
    chosen = [entry for entry in entries if entry["row"]["variant_id"] in failed]
    for entry in chosen:
        journal.append({WITHDRAWN: "retry_errors", **entry})
    return {entry["row"]["trial_id"] for entry in chosen}


def _keep_withdrawn(run_dir: Path, done: set[str]) -> None:
    """Move the folders of trials with a withdrawn result to `retries/<trial id>/<number>`, before any trial starts.

    A result is withdrawn if the trial is to run again. The number counts the withdrawals of the trial, from 1. A trial
    that already has a new result keeps its folder.

    Args:
        run_dir: the folder of the run.
        done: the ids of the trials that have a result.

    Raises:
        RunDamagedError: the journal is damaged.
        OSError: a folder cannot be moved.
    """
    times = Counter(entry["row"]["trial_id"] for entry in withdrawn_entries(run_dir))
    for trial_id, count in times.items():
        kept = run_dir / RETRIES / trial_id / str(count)
        if trial_id in done or kept.exists():
            continue
        kept.parent.mkdir(parents=True, exist_ok=True)
        folder = run_dir / "trials" / trial_id
        if folder.exists():
            folder.rename(kept)
        else:
            # A pruned trial has no folder; the empty one records that it was withdrawn.
            kept.mkdir()
