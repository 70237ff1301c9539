"""The inputs and results of verification: observations since an action, bounds, settings, and the result. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relab.incidents.actions.records import RepairResult
from relab.incidents.models import Snapshot
from relab.knowledge.models import FactCondition, FactValue

MIN_REQUESTS: Final = 5
"""The least number of requests in a poll's window for which a share of errors or a quantile is meaningful."""
NEEDED_PARTS: Final = ("health", "metrics")


@dataclass(frozen=True, slots=True)
class VerificationSettings:
    """Thresholds and waiting times with which `verify` decides that a service has recovered or has become worse.

    Attributes:
        poll_interval_s: the time between two polls; a gap of more than three intervals ends a series of good polls.
        min_healthy_s, min_healthy_polls: for how long, and over how many polls, users must be served well.
        min_quiet_s: an incident in which no action was executed is over when users have been served well, without any
            other anomaly, for this long.
        effect_timeout_s: how long after its end an action that is not verified counts as failed.
        cause_timeout_s: how long after the end of the action signs of the cause are still normal; later, they show that
            the action has failed.
        recovery_timeout_s: how long after the end of the action a service that is still recovering counts as mitigated,
            which ends the verification.
        metrics_window_s: the window of time that the target's figures cover. For this long after an action the figures
            still include the time of the action.
        min_worse_s: for how long the figures must be worse than before the action to count as worse.
        worse_errors_pct: the least increase of errors that counts as worse, in percentage points.
        worse_latency_factor, worse_latency_ms: the least increase of P95 that counts as worse. P95 must exceed both the
            factor and the increase in milliseconds.
        much_worse_errors_pct: an increase of errors, in percentage points, that counts as worse even before
            `metrics_window_s` is over.
    """

    poll_interval_s: float = 30.0
    min_healthy_s: float = 60.0
    min_healthy_polls: int = 3
    min_quiet_s: float = 180.0
    effect_timeout_s: float = 180.0
    cause_timeout_s: float = 90.0
    recovery_timeout_s: float = 720.0
    metrics_window_s: float = 30.0
    min_worse_s: float = 10.0
    worse_errors_pct: float = 10.0
    worse_latency_factor: float = 1.5
    worse_latency_ms: float = 100.0
    much_worse_errors_pct: float = 50.0


@dataclass(frozen=True, slots=True)
class HealthBounds:
    """Upper bounds within which users are served well.

    Attributes:
        errors_pct: the bound for the share of failed requests, in percent.
        p95_ms: the bound for the 95th percentile of the latency, in milliseconds. Both bounds come from the baseline;
            without a baseline the operators set them.
        needs_traffic: whether the target usually has traffic; if it has, a poll with too few requests does not show a
            recovery.
    """

    errors_pct: float
    p95_ms: float
    needs_traffic: bool = True


@dataclass(frozen=True, slots=True)
class ActionObservations:
    """The observations of a target since an action.

    Attributes:
        began_at_us, ended_at_us: when the action began and ended, in microseconds since 1970.
        before: the last poll before the action, with which later polls are compared.
        polls: the polls since the action began, in the order in which they were made.
        stale: the times (`at_us`) of the polls in which the target reported old figures.
        mended: the conditions on facts that are all true if the cause that the action repairs is gone; empty if the
            cause cannot be tested.
        facts: the facts about the conditions in `mended` that the last probe since the action gave; None or empty
            without a probe.
        facts_at_us: the time of that probe, in microseconds since 1970; None without a probe.
        facts_before: the facts that were known before the action; they show whether the cause was seen then.
        other: the name of another cause that probes since the action have confirmed; empty if there is none.
        sheds: whether the action rejects excess load on purpose; if so, rejected requests are not a sign of failure.
    """

    began_at_us: int
    ended_at_us: int
    before: Snapshot
    polls: Sequence[Snapshot]
    stale: frozenset[int] = frozenset()
    mended: Sequence[FactCondition] = ()
    facts: Mapping[str, FactValue] | None = None
    facts_at_us: int | None = None
    facts_before: Mapping[str, FactValue] | None = None
    other: str = ""
    sheds: bool = False


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The verdict on an action, and the reason for it.

    Attributes:
        reason: the reason, in one sentence.
        well_s: for how long users have been served well without a break, up to the last poll, in seconds.
        suspects_other: whether another cause may be present, too. This requires that the cause of the action is known
            to be gone, and one of these: users are still affected; the figures are worse than before the action; the
            service is not back to normal after half of `effect_timeout_s`.
    """

    result: RepairResult
    reason: str
    well_s: float = 0.0
    suspects_other: bool = False
