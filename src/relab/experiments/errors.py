"""What can go wrong with an experiment as a whole; a trial that goes wrong is a row and no exception."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError


class ExperimentInvalidError(InvalidInputError):
    """The configuration, the data set or the overrides are wrong; each problem names file, line and field."""

    code = "experiment_invalid"


class PostureRefusedError(InvalidInputError):
    """The command demands an isolation that the configuration does not give."""

    code = "posture_refused"


class SandboxUnavailableError(UnavailableError):
    """The sandbox that is asked for cannot be used on this machine."""

    code = "sandbox_unavailable"


class RunNotFoundError(NotFoundError):
    """A folder is no run of an experiment."""

    code = "run_not_found"


class RunBusyError(ConflictError):
    """Another process is at work on the run."""

    code = "run_busy"


class RunChangedError(ConflictError):
    """What the run was started with is no longer what is there."""

    code = "run_changed"


class RunDamagedError(RunChangedError):
    """A file of a run is not what was written: changed, cut short, or missing. Nothing of the run is judged."""

    code = "run_damaged"


class DiskFullError(RelabError):
    """There is not, or no longer, room for the run."""

    code = "disk_full"


class RunStoppedError(RelabError):
    """The run was stopped before its last trial; it can be continued."""

    code = "run_stopped"
