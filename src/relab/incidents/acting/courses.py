"""What has happened since an act, and what is judged of it: the inputs and results of verification. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relab.incidents.models import Snapshot
from relab.knowledge.models import FactCondition, FactValue

LEAST_REQUESTS: Final = 5
"""Error shares and quantiles of fewer requests are not meaningful."""
NEEDED_PARTS: Final = ("health", "metrics")


class Outcome(StrEnum):
    """The result of an act so far."""

    VERIFIED = "verified"
    NOT_YET = "not_yet"
    RECOVERING = "recovering"
    """The cause is gone and users are served; latency, or the target's own health status, is not normal yet: keep watching."""
    MITIGATED = "mitigated"
    """The recovery took too long: the cause is gone and users are served, but the service is not back to normal."""
    OTHER_CAUSE = "other_cause"
    """The cause is gone, but users are still affected: there is another cause, which must be diagnosed."""
    FAILED = "failed"
    WORSE = "worse"
    """Errors or P95 are clearly higher than before the act: roll it back."""

    @property
    def is_pending(self) -> bool:
        """Whether the result is open, so that more polls are needed."""
        return self in {Outcome.NOT_YET, Outcome.RECOVERING}


@dataclass(frozen=True, slots=True)
class VerificationSettings:
    """Thresholds and waiting times for recovery and for a change for the worse.

    Attributes:
        poll_interval_s: the time between two polls; a gap of more than three intervals ends a row of good polls.
        sustained_s, least_polls: for how long, and over how many polls, users must be served well.
        quiet_s: for how long users must be served well, with no other anomaly, before an incident without any act counts
            as passed.
        patience_s: the time from the end of the act until it counts as failed.
        cause_patience_s: the time from the end of the act during which the cause may still be seen.
        recovery_s: the time from the end of the act until a service that still recovers counts as mitigated only.
        window_s: the window of the target's own figures; for this long after the act they still cover the act itself.
        worse_s: for how long the figures must be worse.
        worse_errors_pct, worse_latency_factor, worse_latency_ms: the least increase that counts as worse: errors in
            percentage points; P95 by both the factor and the milliseconds.
        ruin_errors_pct: an increase of errors, in percentage points, that counts as worse before `window_s` is over.
    """

    poll_interval_s: float = 30.0
    sustained_s: float = 60.0
    least_polls: int = 3
    quiet_s: float = 180.0
    patience_s: float = 180.0
    cause_patience_s: float = 90.0
    recovery_s: float = 720.0
    window_s: float = 30.0
    worse_s: float = 10.0
    worse_errors_pct: float = 10.0
    worse_latency_factor: float = 1.5
    worse_latency_ms: float = 100.0
    ruin_errors_pct: float = 50.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper bounds within which users are served well.

    Attributes:
        errors_pct, p95_ms: the bounds from the baseline; without a baseline, those that the operators set.
        needs_traffic: whether the target usually has traffic: then a poll with too few requests does not count as well.
    """

    errors_pct: float
    p95_ms: float
    needs_traffic: bool = True


@dataclass(frozen=True, slots=True)
class Course:
    """The observations since an act.

    Attributes:
        began_at_us, ended_at_us: the times when the act began and ended.
        before: the last poll before the act; "worse" means worse than this poll.
        polls: the polls since then, in the order in which they were made.
        stale: the times (`at_us`) of those polls whose figures are old.
        mended: the conditions that must hold for the cause to be gone.
        facts: the facts of a new look at these conditions; None or empty if there was no look.
        facts_at_us: the time of that look.
        facts_before: the facts that were known before the act; they show whether the cause was seen then.
        other: another cause that looks since the act have confirmed; empty if there is no such cause.
        sheds: whether the act rejects excess load on purpose: then rejected requests are not a sign of failure.
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
class Verification:
    """The result of an act, and the reason for it.

    Attributes:
        well_s: for how long users have been served well, up to the last poll.
        suspects_other: whether the cause is known to be gone and there may be another one: users are still affected, or
            more than before, or the service is not back to normal after half of `patience_s`.
    """

    outcome: Outcome
    reason: str
    well_s: float = 0.0
    suspects_other: bool = False
