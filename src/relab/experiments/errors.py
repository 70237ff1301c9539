"""Errors of an experiment as a whole. A failed trial is a row of the results and not an exception."""

from __future__ import annotations

from pathlib import Path

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError


class ExperimentInvalidError(InvalidInputError):
    """The configuration, the data set or the overrides are invalid; each problem names file, line and field."""

    code = "experiment_invalid"


class PostureRefusedError(InvalidInputError):
    """The command requires an isolation of trials (sandbox and network) that the configuration does not provide."""

    code = "posture_refused"


class SandboxUnavailableError(UnavailableError):
    """The configured sandbox cannot be used on this machine."""

    code = "sandbox_unavailable"


class ExecutorUnavailableError(UnavailableError):
    """The executor, which runs trials, is unusable now.

    Its package is missing, or its cluster cannot be reached or is unsuitable.
    """

    code = "executor_unavailable"


class ArchiveInvalidError(RelabError):
    """An archive from another machine cannot be unpacked: it is damaged or too large, or a path in it is not allowed."""

    code = "archive_invalid"


class StoredResultInvalidError(RelabError):
    """An entry of the result cache was changed, or does not match its trial. The caller then runs the trial."""

    code = "stored_result_invalid"


class RunNotFoundError(NotFoundError):
    """There is no run in the given folder, or the project has no run with this id."""

    code = "run_not_found"


class RunBusyError(ConflictError):
    """Another process works on the run."""

    code = "run_busy"


class RunChangedError(ConflictError):
    """The project, the data set or the configuration was changed since the run began."""

    code = "run_changed"


class RunDamagedError(RunChangedError):
    """A file of a run was changed, is incomplete, or is missing, so the run gets no verdict."""

    code = "run_damaged"


def damaged(path: Path, what: str, *, line: int | None = None) -> RunDamagedError:
    """Return (not raise) the error about a damaged file of a run.

    Args:
        path: the path of the file.
        what: what is wrong, as the rest of a sentence that begins with the path, such as `is missing`.
        line: the number of the damaged line; None if no single line is damaged.
    """
    place = f"{path}:{line}" if line is not None else str(path)
    return RunDamagedError(
        f"{place} {what}.",
        remedy="Restore the file from a copy, or start a new run; do not use the results of this one.",
    )


class RunDiskFullError(RelabError):
    """The disk has too little free space for the run."""

    code = "disk_full"


class RunNotRunningError(ConflictError):
    """No process works on the run, or the process does not answer, so the run's trials cannot be paused."""

    code = "run_not_running"


class TrialNotFoundError(NotFoundError):
    """The run has no trial with this id."""

    code = "trial_not_found"


class TrialStateError(ConflictError):
    """The trial's state does not allow the command: for example, it has ended, or it is not paused."""

    code = "trial_state"


class CheckpointMissingError(ConflictError):
    """A trial cannot be resumed or forked: the file of its checkpoint is missing or was changed."""

    code = "checkpoint_missing"


class CheckpointChangedError(ConflictError):
    """A checkpoint from which a trial is to be forked was changed after the end of its run."""

    code = "checkpoint_changed"


class CheckpointInvalidError(ConflictError):
    """A checkpoint is outside of its trial's folders, has a link in its path, or is neither a file nor a folder.

    Or it is or contains a document that runner and harness exchange, or it cannot be read.
    """

    code = "checkpoint_invalid"


class ForkInvalidError(InvalidInputError):
    """An option of a fork is invalid: the selector of the checkpoint, a changed binding, or the choice of trials.

    A fork is a trial that begins at a checkpoint of an earlier trial. Bindings are the values that a variant gives to
    its harness.
    """

    code = "fork_invalid"


class SelectorUnmatchedError(NotFoundError):
    """The selector (the point from which to fork) matches no checkpoint of a trial.

    The point is before the trial's first checkpoint or past the trial's end, or no checkpoint has the given name.
    """

    code = "selector_unmatched"


class ResultCacheUnusableError(ConflictError):
    """The folder of the result cache, or the secret key in it, cannot be read or written."""

    code = "result_cache_unusable"


class TrialStopped(Exception):  # noqa: N818 not an error: the run was stopped as the user asked
    """The run was stopped before the trial ended, so the trial has no result."""


class TrialPaused(TrialStopped):
    """The trial was paused, so it has no result yet."""
