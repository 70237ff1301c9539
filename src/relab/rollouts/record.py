"""The record of one rollout: everything that is known about it, as reports, the API and telemetry read it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp
from relab.rollouts.models import Arm, ArmWindow, ExperimentEvidence, RolloutJudgement
from relab.rollouts.plans.models import Plan


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RolloutStatus(StrEnum):
    """The status of a rollout.

    A `done` rollout reached its end, whatever its verdict. A `failed` rollout ended with an error. An `interrupted`
    rollout was stopped or killed.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_over(self) -> bool:
        """Whether the rollout has ended. Nothing more is measured then, and only a person can still apply its flags."""
        return self not in {RolloutStatus.QUEUED, RolloutStatus.RUNNING}


class RolloutPhase(StrEnum):
    """The part of a rollout that is in progress; for a rollout that has ended, its last part.

    - `plan`: reads the flags, and computes the change that puts each arm (set of flags) in force.
    - `health`: checks the health of the target.
    - `execute`: measures the arms.
    - `restore`: restores the flags.
    - `judge`: decides the verdict.
    - `apply`: applies the change after a PASS.
    """

    PLAN = "plan"
    HEALTH = "health"
    EXECUTE = "execute"
    RESTORE = "restore"
    JUDGE = "judge"
    APPLY = "apply"


class PhaseStart(_Value):
    """A phase of a rollout, and the time at which it began."""

    phase: RolloutPhase
    at: Timestamp


class HealthRecord(_Value):
    """The health of the target at the start of a rollout.

    Attributes:
        ok: whether the target is healthy.
        reason: why the target is not healthy, in one sentence; empty if it is healthy.
        dependencies: `{name of a dependency: whether it is healthy}`.
    """

    ok: bool
    reason: str = ""
    dependencies: dict[str, bool] = {}


class AuditEntry(_Value):
    """One action of a person or token on a rollout.

    Attributes:
        at: the time of the action.
        actor: the person or token.
        action: the name of the action.
        note: the reason for the action; empty if the person or token gave none.
    """

    at: Timestamp
    actor: str
    action: str
    note: str = ""


class OpenChange(_Value):
    """How to undo a rollout's change of flags if the process dies; stored before the first change of the flags.

    Attributes:
        inverse: the change that restores the flags.
        values: all values that the rollout may give the flags. If the flags have a value that is not among these,
            another client has changed them.
        owner: the owner of the lease of the target when the change was stored.
        rollback: the entry for the audit, if the change is a rollback that a person requested; None for any other
            change.
    """

    inverse: Any
    values: list[Any]
    owner: str = ""
    rollback: AuditEntry | None = None


class Application(_Value):
    """The last decision about the new flags of a rollout: whether they are in force, and why, in one sentence.

    `at` is the time of the decision. `by` says who or what decided: a person, a token, `rollout` or `recovery`. Both
    are None if the rollout did not try to apply the new flags, because its verdict was not PASS.
    """

    applied: bool
    message: str
    at: Timestamp | None = None
    by: str | None = None


class RolloutRecord(_Value):
    """One rollout.

    A window is one measurement of an arm (set of flags): arm A has the old flags, arm B the new ones.

    Attributes:
        rollout_id: the id of the rollout.
        plan: the plan of the rollout.
        target: the name of the flags that the rollout changes.
        status, phase: the current status and phase of the rollout.
        phases: the phases that the rollout has entered, in order; a phase may occur several times.
        requested_by: the person or token that started it.
        health: the health of the target at the start; None before the check.
        before: the value of the flags before the first change, as JSON; None before they were read.
        changes: for each arm, the change that puts its flags in force, as JSON; empty before they are known.
        experiment: the comparison in an experiment that decides the rollout; None if measured windows decide it.
        windows: the measured windows, in order. An unusable window says what is wrong with it, in its `problems`.
        planned_windows: number of windows that the rollout will have measured at its end, as planned so far.
        judgement: the verdict with its figures; None before the judgement.
        application: the decision about the new flags; None before the decision.
        flags_restored: whether the last restoration gave the flags their earlier values. None if there was no
            restoration, for example before the first change, or after a PASS that was applied.
        error: why the rollout failed or was interrupted.
        apply_command: the shell command that makes the change; None before the flags were read.
        rollback_command: the shell command that undoes the change; None before the flags were read.
        is_dry_run: whether the rollout only checks and plans, without changing or measuring anything.
        audit: the actions of persons and tokens on the rollout, oldest first.
    """

    rollout_id: str
    plan: Plan
    target: str
    status: RolloutStatus = RolloutStatus.QUEUED
    phase: RolloutPhase = RolloutPhase.PLAN
    phases: tuple[PhaseStart, ...] = ()
    requested_by: str
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    health: HealthRecord | None = None
    before: Any = None
    changes: dict[Arm, Any] = {}
    experiment: ExperimentEvidence | None = None
    windows: tuple[ArmWindow, ...] = ()
    planned_windows: int = Field(default=0, ge=0)
    judgement: RolloutJudgement | None = None
    application: Application | None = None
    flags_restored: bool | None = None
    error: str | None = None
    apply_command: str | None = None
    rollback_command: str | None = None
    is_dry_run: bool = False
    audit: tuple[AuditEntry, ...] = ()

    def stopped_by(self, request: AuditEntry | None) -> RolloutRecord:
        """Return this record with a person's request to stop added, as the error and in the audit.

        Return the record unchanged if `request` is None, if the rollout was not interrupted, or if its audit already
        has the request.
        """
        if request is None or self.status is not RolloutStatus.INTERRUPTED or request in self.audit:
            return self
        reason = f"{request.actor} stopped the rollout{f': {request.note}' if request.note else '.'}"
        return self.model_copy(update={"error": reason, "audit": (*self.audit, request)})


class RolloutPage(_Value):
    """A page of rollouts without their windows (measurements), newest first.

    `next_before` is the argument `before` with which a client requests the next page; None on the last page.
    """

    items: list[RolloutRecord]
    next_before: str | None
