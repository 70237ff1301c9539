"""Errors of an experiment as a whole. A failed trial is a row of the results and not an exception."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError


class ExperimentInvalidError(InvalidInputError):
    """The configuration, the data set or the overrides are invalid; each problem names file, line and field."""

    code = "experiment_invalid"


class PostureRefusedError(InvalidInputError):
    """The command requires an isolation of trials that the configuration does not provide."""

    code = "posture_refused"


class SandboxUnavailableError(UnavailableError):
    """The configured sandbox cannot be used on this machine."""

    code = "sandbox_unavailable"


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


class RunDiskFullError(RelabError):
    """The disk has too little free space for the run."""

    code = "disk_full"


class TrialStopped(Exception):  # noqa: N818 not an error: the run was stopped as the user asked
    """The run was stopped before the trial ended, so the trial has no result."""
