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
        poll_interval_s: the time between two polls. A gap of more than three intervals ends a series of good polls.
        min_healthy_s, min_healthy_polls: the least duration and number of polls in which users must be served well.
        min_quiet_s: an incident ends without an action if users were served well for this many seconds, and no
            anomaly that opens incidents was confirmed in this time.
        effect_timeout_s: the time limit for verification, in seconds from the end of the action. An action that is not
            verified by then counts as failed, unless the cause is gone. The limit is doubled while users are served
            well, but not yet for long enough, or although the target calls itself unhealthy.
        cause_timeout_s: signs of the repaired cause are ignored for this many seconds after the action. Later signs
            mean that the action failed.
        recovery_timeout_s: the time limit for the recovery after the cause is gone, in seconds from the end of the
            action. After it, verification ends with `MITIGATED`: the action helped, but the service has not recovered.
        metrics_window_s: the seconds that the target's figures cover. For this long after the action, the figures
            include requests from before the end of the action.
        requested_window_s: the seconds for which a poll requests the target's figures; a target may use others.
        min_worse_s: the service counts as worse when its figures have been worse than before the action for this many
            seconds.
        worse_errors_pct: the least increase of errors that counts as worse, in percentage points.
        worse_latency_factor, worse_latency_ms: P95 counts as worse if it has increased by more than this factor, and by
            more than this number of milliseconds.
        much_worse_errors_pct: the increase of errors, in percentage points, above which the service counts as worse
            even during the first `metrics_window_s` seconds after the action.
    """

    poll_interval_s: float = 30.0
    min_healthy_s: float = 60.0
    min_healthy_polls: int = 3
    min_quiet_s: float = 180.0
    effect_timeout_s: float = 180.0
    cause_timeout_s: float = 90.0
    recovery_timeout_s: float = 720.0
    metrics_window_s: float = 30.0
    requested_window_s: float = 20.0
    min_worse_s: float = 10.0
    worse_errors_pct: float = 10.0
    worse_latency_factor: float = 1.5
    worse_latency_ms: float = 100.0
    much_worse_errors_pct: float = 50.0


@dataclass(frozen=True, slots=True)
class HealthBounds:
    """Upper bounds within which users are served well; from the baseline, or else from the thresholds of detection.

    Attributes:
        errors_pct: the bound for the share of failed requests, in percent.
        p95_ms: the bound for the 95th percentile of the latency, in milliseconds.
        needs_traffic: whether only polls with enough requests to the target can prove a recovery; False for a target
            that usually has hardly any requests.
    """

    errors_pct: float
    p95_ms: float
    needs_traffic: bool = True


@dataclass(frozen=True, slots=True)
class ActionObservations:
    """The observations of a target since an action.

    Attributes:
        began_at_us, ended_at_us: when the action began and ended, in microseconds since 1970.
        before: the last poll before the action; later polls are compared with it.
        polls: the polls since the action began, in the order in which they were made.
        stale: the times (`at_us`) of polls in which the target reported old figures.
        mended: conditions that are all true once the cause that the action repairs is gone; empty if this cannot be
            tested.
        facts: what the last probe since the action found about the conditions in `mended`, as `{fact: value}`; None or
            empty if no probe was made.
        facts_at_us: the time of that last probe, in microseconds since 1970; None without a probe.
        facts_before: the facts known before the action; they show whether the cause that it repairs was present.
        other: the name of another cause that later probes confirmed; empty if they confirmed none.
        sheds: whether the action rejects excess load on purpose; then rejected requests are not failures.
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
    """The verdict (result of verification) on an action, and the reason for it.

    Attributes:
        reason: the reason, in one sentence.
        well_s: how many seconds users have been served well without a break, up to the last poll.
        suspects_other: whether another cause may be present, although this action's cause is known to be gone.
        lacks_traffic: whether the action is not verified only because too few requests arrive.
    """

    result: RepairResult
    reason: str
    well_s: float = 0.0
    suspects_other: bool = False
    lacks_traffic: bool = False


def without_traffic(since_s: float, window_s: float) -> VerificationResult:
    """Return the verdict if the repaired cause is gone, but too few requests show whether users are served well.

    Args:
        since_s: the seconds since the end of the action.
        window_s: the seconds for which the figures were requested.
    """
    reason = (
        f"The cause is gone after {since_s:.0f} s, but the repair cannot be verified: fewer than {MIN_REQUESTS} "
        f"requests arrived in {window_s:g} s."
    )
    return VerificationResult(RepairResult.MITIGATED, reason, lacks_traffic=True)
