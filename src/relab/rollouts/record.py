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
    """The status of a rollout. A `failed` one ended with an error, an `interrupted` one was stopped or killed."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is measured or applied by itself."""
        return self not in {RolloutStatus.QUEUED, RolloutStatus.RUNNING}


class RolloutPhase(StrEnum):
    """The part of a rollout that is under way, or was the last one."""

    PLAN = "plan"
    HEALTH = "health"
    EXECUTE = "execute"
    RESTORE = "restore"
    JUDGE = "judge"
    APPLY = "apply"
    REPORT = "report"


class PhaseStart(_Value):
    """When a phase began."""

    phase: RolloutPhase
    at: Timestamp


class HealthRecord(_Value):
    """The health of the target at the start: whether it is healthy, why not, and each dependency by name."""

    ok: bool
    reason: str = ""
    dependencies: dict[str, bool] = {}


class OpenChange(_Value):
    """What must be undone if the process of a rollout dies; it is stored before the first change of the flags.

    Attributes:
        inverse: the change that restores the flags.
        values: every change that the rollout may make; flags with another value were changed by another client.
        owner: the lease under which it was stored.
    """

    inverse: Any
    values: list[Any]
    owner: str = ""


class Application(_Value):
    """The decision about the new flags: whether they are in force, a sentence about it, when (`at`) and by whom (`by`).

    `at` and `by` are None if the verdict was no PASS and no person has decided since.
    """

    applied: bool
    message: str
    at: Timestamp | None = None
    by: str | None = None


class AuditEntry(_Value):
    """One action of a person or token on a rollout: when (`at`), by whom (`actor`), what, and the reason given (`note`)."""

    at: Timestamp
    actor: str
    action: str
    note: str = ""


class RolloutRecord(_Value):
    """One rollout.

    Attributes:
        rollout_id: its id.
        plan: its plan.
        target: the name of the flags that it changes.
        status, phase: how far it is.
        phases: when each phase began, in order; a phase may occur again.
        requested_by: the person or token that started it.
        health: the health of the target at the start; None before the check.
        before: the value of the flags before the first change, as JSON; None before they were read.
        changes: for each arm, the change that puts its flags in force, as JSON; empty before they are known.
        experiment: the run of an experiment that it is judged by, instead of windows; None for a measured rollout.
        windows: the measured windows, in order; unusable ones name their problems.
        planned_windows: number of windows that the rollout measures as far as is known.
        judgement: the verdict; None before it.
        application: None before the decision about it.
        flags_restored: whether the last restoration gave the flags their earlier values; None if there was none, as
            before the first change or after a PASS that was applied.
        error: why the rollout failed or was interrupted.
        apply_command, rollback_command: shell commands for a person; None before the flags were read.
        is_dry_run: whether the rollout only checks and plans, without changing or measuring anything.
        audit: all actions, in order.
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


class RolloutPage(_Value):
    """A page of rollouts without windows, newest first; `next_before` is `before` of the next page, None at the end."""

    items: list[RolloutRecord]
    next_before: str | None
