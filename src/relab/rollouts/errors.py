"""Errors of rollouts, one class for each reaction of the caller. A rollout that misses its thresholds is no error."""

from __future__ import annotations

from relab.core.errors import (
    ConflictError,
    InUseError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
)
from relab.core.json import JsonValue


class RolloutNotFoundError(NotFoundError):
    """No rollout has this id."""

    code = "rollout_not_found"

    def __init__(self, rollout_id: str) -> None:
        super().__init__(f"There is no rollout {rollout_id[:200]!r}.", remedy="List them: lab rollout list")


class RolloutStateError(ConflictError):
    """The rollout is in a state in which the operation is not allowed, such as applying a failed rollout."""

    code = "rollout_state"


class TargetBusyError(InUseError):
    """Another rollout holds the lease of the target; two rollouts would change each other's flags."""

    code = "target_busy"


class TargetLeaseLostError(ConflictError):
    """This process lost the lease of the target, and another process has taken over.

    This process must not change the flags or store anything any more.
    """

    code = "lease_lost"


class WorkerStoppingError(UnavailableError):
    """The worker stops during a rollout. It has restored the flags, and another worker continues the rollout."""

    code = "worker_stopping"


class EndNotStoredError(UnavailableError):
    """The new flags are in force, but the end of the rollout could not be stored, published or reported to clients."""

    code = "rollout_end_not_stored"


class TargetUnavailableError(UnavailableError):
    """The target, or the source of its metric, does not answer, or its answer cannot be parsed."""

    code = "target_unavailable"


class RequestFailedError(TargetUnavailableError):
    """A request failed, perhaps only temporarily: there is no answer, or its status is 5xx, 408 or 429.

    If the request is idempotent, it may be repeated.
    """


class ClockSkewError(UnavailableError):
    """The clocks of this machine and of the metric's source differ too much to assign figures to measurements."""

    code = "clock_skew"


class TargetUnhealthyError(UnavailableError):
    """The health check of the target fails, for example because a dependency of the target is unhealthy."""

    code = "target_unhealthy"


class FlagsRejectedError(InvalidInputError):
    """The target rejects the new flags; its flags are unchanged."""

    code = "flags_rejected"


class ChangesForbiddenError(FlagsRejectedError):
    """The target rejects all changes by this client: mostly because the credential, URL or HTTP method is wrong."""

    code = "changes_forbidden"


class FlagsNotAppliedError(UnavailableError):
    """The target accepted new flags, but then reported other flags.

    Attributes:
        values: the value that the target reported, and the different values that other parts of it reported.
    """

    code = "flags_not_applied"

    def __init__(self, message: str, *, values: tuple[JsonValue, ...], remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.values = values


class FlagsNotRestoredError(UnavailableError):
    """The flags that a rollout changed could not be restored; the target may still have the new flags."""

    code = "flags_not_restored"


class FlagsChangedError(PreconditionFailedError):
    """Another client has changed the flags since this rollout read them."""

    code = "flags_changed"


class SubjectError(InvalidInputError):
    """The subject of the plan (the flag, health check and metric of the target) cannot be used.

    For example, the query of the metric returns several values, or the flag does not have a variant.
    """

    code = "invalid_subject"


class MetricMissingError(UnavailableError):
    """A window (one measurement) cannot be judged. The verdict is then INVALID, so no more windows are measured."""

    code = "metric_missing"


class ReportFolderError(UnavailableError):
    """A file or folder of a rollout cannot be read or written: a report, the history or the lock file of the target."""

    code = "report_folder_unavailable"


class PlanInvalidError(InvalidInputError):
    """The plan file is unreadable or invalid; each problem names file, line and field."""

    code = "plan_invalid"


class ExperimentEvidenceError(InvalidInputError):
    """The named experiment run cannot decide a rollout: it is missing, unfinished or damaged, or no variant fits."""

    code = "experiment_evidence"
