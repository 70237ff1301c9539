"""Compute the metrics of an episode from its observations. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relab.testbed.scoring.observations import Act, Observed, usual_share, well_since
from relab.testbed.scoring.outages import MAX_NOTICE_DELAY_S, longest_unannounced_s
from relab.testbed.scoring.repairs import judged_repairs
from relab.testbed.scoring.status import Sight
from relab.testbed.scoring.truth import ActionEffect, Truth, was_done

SUSTAINED_S: Final = 6.0
"""A repair counts if users are served well and no measured fault is present for this time."""
_COMES_BACK_S: Final = 10.0
"""If a cause is present again within this time after its repair was undone, the repair was still needed."""
Metric = float | int | bool


@dataclass(frozen=True, slots=True)
class Score:
    """The metrics of one episode (a test of a responder). A metric that does not apply to the episode is None.

    A measured fault is a fault that the responder must repair. The onset is the injection of the first one.

    Attributes:
        is_healthy: whether no measured fault was injected.
        detected: whether the responder opened an incident after the onset. If an unmeasured fault was injected before
            the onset, either of two more signs after the onset is enough: a notice to people, or an earlier incident
            that is open and not escalated.
        time_to_detect_s: seconds from the onset to the first such sign.
        false_alarms: number of incidents before the first fault, measured or not.
        healthy_polls: number of the responder's polls before the first fault.
        rank: position, from 1, of the first true cause in the last diagnosis; None if it names no true cause.
        mitigated: whether users were served well and no measured fault was present for at least the last 6 s
            (`SUSTAINED_S`).
        time_to_mitigate_s: seconds from the onset to the start of the final period in which no measured fault was
            present and users were served well.
        closed: whether the fault was detected and mitigated, and no incident was open at the end. None if an unmeasured
            fault was injected before the onset.
        harm_user_error_s: harm to users in seconds; 1.0 is one second in which no request was served well.
        actions: number of actions that changed the service, or may have changed it. Undos are not counted.
        harmful_actions: number of harmful actions (before the first fault, or wrong for the fault), plus the number of
            undos of a repair that was still needed.
        escalated: whether the responder escalated to a person, or asked a person for approval, after the onset; without
            an onset, at any time in the episode.
        cost_usd: cost of language models in US dollars, as the responder reports it; 0 if it reports none.
        all_named: whether each true cause was the most probable one in at least one diagnosis; None with only one true
            cause.
        right_repairs: number of actions that repaired a measured fault.
        judged_failed: number of right repairs that the responder itself judged as `failed` or `worse`.
        unannounced_s: longest time in seconds for which people had no notice of an outage; None if the responder had
            no address for notices.
        tokens: number of language model tokens, as the responder reports it; None if it reports none.
    """

    is_healthy: bool
    detected: bool | None
    time_to_detect_s: float | None
    false_alarms: int
    healthy_polls: int
    rank: int | None
    mitigated: bool | None
    time_to_mitigate_s: float | None
    closed: bool | None
    harm_user_error_s: float
    actions: int
    harmful_actions: int
    escalated: bool
    cost_usd: float
    all_named: bool | None = None
    right_repairs: int = 0
    judged_failed: int = 0
    unannounced_s: float | None = None
    tokens: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the responder was successful in the episode (test).

        - With a measured fault (a fault to repair), the responder must have mitigated the fault.
        - Without a measured fault, the responder must have opened no incident and performed no action.
        """
        return self.mitigated is True if not self.is_healthy else not self.false_alarms and not self.actions

    def metrics(self, poll_s: float) -> dict[str, Metric]:
        """Return the metrics by name, as experiments store them; metrics that do not apply are left out.

        Args:
            poll_s: the responder's poll interval in seconds; used to express the time to detect in polls.
        """
        found: dict[str, Metric] = {
            "false_alarms": self.false_alarms,
            "healthy_polls": self.healthy_polls,
            "harm_user_error_s": round(self.harm_user_error_s, 3),
            "actions": self.actions,
            "harmful_actions": self.harmful_actions,
            "cost_usd": self.cost_usd,
        }
        if self.tokens is not None:
            found["tokens"] = self.tokens
        if not self.is_healthy:
            found |= dict(self._of_a_fault(poll_s))
        return found

    def _of_a_fault(self, poll_s: float) -> Iterator[tuple[str, Metric]]:
        at_1 = self.rank == 1
        yield "detected", bool(self.detected)
        yield "diagnosis_at_1", at_1
        yield "diagnosis_at_3", self.rank is not None and self.rank <= 3
        yield "mitigated", bool(self.mitigated)
        yield "escalated", self.escalated
        yield "escalated_harmless", self.escalated and not self.harmful_actions
        yield "settled_harmless", (self.escalated or bool(self.mitigated)) and not self.harmful_actions
        yield "right_repairs", self.right_repairs
        yield "right_repairs_judged_failed", self.judged_failed
        if self.all_named is not None:
            yield "all_named", self.all_named
        if self.unannounced_s is not None:
            yield "longest_unannounced_s", round(self.unannounced_s, 3)
            yield "announced", self.unannounced_s <= MAX_NOTICE_DELAY_S
        if self.rank is not None:
            yield "diagnosis_rank", self.rank
        if self.detected and not at_1:
            yield "mitigated_though_wrong", bool(self.mitigated)
        if self.closed is not None:
            yield "mitigated_and_closed", self.closed
        if self.time_to_detect_s is not None:
            yield "time_to_detect_s", round(self.time_to_detect_s, 3)
            yield "time_to_detect_polls", round(self.time_to_detect_s / poll_s, 3)
        if self.time_to_mitigate_s is not None:
            yield "time_to_mitigate_s", round(self.time_to_mitigate_s, 3)
            if self.time_to_detect_s is not None:
                yield "detection_to_mitigation_s", round(max(self.time_to_mitigate_s - self.time_to_detect_s, 0.0), 3)


def score(observed: Observed, truth: Truth) -> Score:
    """Return the metrics of an episode (one test of a responder, with or without a fault).

    Args:
        observed: the observations: how users were served, and the responder's status and actions.
        truth: the true causes, and the effect of each action.
    """
    onset_s = observed.onset_s
    sights = [item for item in observed.sights if item.answered]
    alarms, detected_s = _incidents(sights, observed)
    done = [item for item in observed.acts if was_done(item.status)]
    acts = [item for item in done if not item.is_undo]
    mitigated_s = None if onset_s is None else _mitigated(observed, truth, onset_s)
    right, judged_failed = judged_repairs(observed, truth)
    is_closed = mitigated_s is not None and detected_s is not None and bool(sights) and sights[-1].incident is None
    is_fault = onset_s is not None
    return Score(
        is_healthy=not is_fault,
        detected=detected_s is not None if is_fault else None,
        time_to_detect_s=None if detected_s is None or onset_s is None else detected_s - onset_s,
        false_alarms=alarms,
        healthy_polls=_healthy_polls(observed, sights),
        rank=_rank(sights, truth, observed),
        mitigated=mitigated_s is not None if is_fault else None,
        time_to_mitigate_s=None if mitigated_s is None or onset_s is None else mitigated_s - onset_s,
        closed=is_closed if is_fault and not observed.follows_another else None,
        harm_user_error_s=_harm(observed),
        actions=len(acts),
        harmful_actions=sum(_is_harmful(item, truth, observed) for item in done),
        escalated=any(item.escalated for item in sights if onset_s is None or item.at_s > onset_s),
        cost_usd=max((item.cost_usd for item in sights if item.cost_usd is not None), default=0.0),
        all_named=_all_named(sights, truth, onset_s),
        right_repairs=right,
        judged_failed=judged_failed,
        unannounced_s=longest_unannounced_s(observed),
        tokens=max((item.tokens for item in sights if item.tokens is not None), default=None),
    )


def _incidents(sights: Sequence[Sight], observed: Observed) -> tuple[int, float | None]:
    """Return `(number of false alarms, time of the detection)` in an episode (a test of a responder).

    The time is in seconds after the responder was ready; None if no measured fault was detected. A measured fault is a
    fault that the responder must repair. The onset is the injection of the first one.

    - A false alarm is an incident that is open before the first fault. Incidents of earlier episodes do not count.
    - The detection is the first poll after the onset that shows a new incident: one that was not open before the onset.
    - If an unmeasured fault was injected before the onset, its incident may still be open. Two more events after the
      onset then count as a detection: a notice to people, and a poll that shows an earlier incident as not escalated.
      The earliest event decides.
    """
    onset_s, trouble_s = observed.onset_s, observed.first_fault_s
    early = {item.incident for item in sights if item.incident is not None and _not_after(item.at_s, onset_s)}
    alarms = {item.incident for item in sights if item.incident is not None and _not_after(item.at_s, trouble_s)}
    # In a kept home, the first poll shows an incident of an earlier episode.
    kept = sights[0].incident if observed.keeps_home and sights else None
    if onset_s is None:
        return len(alarms - {kept}), None
    new = [item.at_s for item in sights if item.incident is not None and item.incident not in early]
    if observed.follows_another:
        # The earlier fault's incident may stay open: then a notice, or new work on an escalated incident, is the
        # detection.
        new += [at_s for at_s in observed.notices or () if at_s > onset_s]
        new += [item.at_s for item in sights if item.at_s > onset_s and item.incident in early and not item.escalated]
    return len(alarms - {kept}), min(new, default=None)


def _not_after(at_s: float, until_s: float | None) -> bool:
    return until_s is None or at_s <= until_s


def _healthy_polls(observed: Observed, sights: Sequence[Sight]) -> int:
    """Return the number of the responder's polls before the first fault; without a fault, in the whole episode (test).

    The responder reports the number in its status. If no status in `sights` has the number, it is estimated: the time
    until the first fault (or the end of the episode), divided by the poll interval.
    """
    trouble_s = observed.first_fault_s
    until_s = observed.ended_s if trouble_s is None else trouble_s
    counted = [item.polls for item in sights if item.at_s <= until_s and item.polls is not None]
    return max(counted) if counted else int(until_s / observed.poll_s)


def _rank(sights: Sequence[Sight], truth: Truth, observed: Observed) -> int | None:
    if observed.onset_s is None:
        return None
    onset_s, until_s = observed.onset_s, observed.ended_s
    if observed.follows_another:
        # After the measured fault is gone, a diagnosis is about the earlier fault.
        there = [look.at_s for look in observed.looks if look.is_there is not False]
        until_s = next((look.at_s for look in observed.looks if look.at_s > max(there, default=onset_s)), until_s)
    last = next((item.causes for item in reversed(sights) if item.causes and onset_s < item.at_s <= until_s), ())
    return next((at for at, cause in enumerate(last, start=1) if cause in truth.causes), None)


def _all_named(sights: Sequence[Sight], truth: Truth, onset_s: float | None) -> bool | None:
    if onset_s is None or len(truth.causes) < 2:
        return None
    return truth.causes <= {item.causes[0] for item in sights if item.causes and item.at_s > onset_s}


def _mitigated(observed: Observed, truth: Truth, onset_s: float) -> float | None:
    found = well_since(observed.compared_seconds(), observed.looks, onset_s, forgives_refusals=truth.forgives_refusals)
    return found[0] if found is not None and found[1] - found[0] >= SUSTAINED_S else None


def _harm(observed: Observed) -> float:
    """Return the harm to users in seconds: 1.0 is one second in which all requests were served badly.

    The harm is a sum over intervals of about a second. The harm of one interval is its length times its excess share:
    the share of badly served requests minus the baseline share, and at least 0.

    A measured fault is a fault that the responder must repair. The onset is the injection of the first one. These
    intervals count:

    - In an episode without a measured fault: all intervals. The baseline share is then 0.
    - In an episode with an unmeasured fault before the onset: the intervals after the onset.
    - In all other episodes: the intervals after the onset or after the responder's first action, whichever is earlier.
    """
    onset_s = observed.onset_s
    seconds = observed.compared_seconds()
    usual = 0.0 if onset_s is None else usual_share(seconds, onset_s)
    acted = [item.at_s for item in observed.acts if was_done(item.status)]
    from_s = None if onset_s is None else onset_s if observed.follows_another else min([onset_s, *acted])
    # Without a measured fault, all seconds count. With one, the seconds from the onset on count, or from the first
    # action on if that is earlier.
    after = [item for item in seconds if from_s is None or item.until_s > from_s]
    return sum(max((item.share() or 0.0) - usual, 0.0) * (item.until_s - item.at_s) for item in after)


def _is_harmful(act: Act, truth: Truth, observed: Observed) -> bool:
    trouble_s = observed.first_fault_s
    is_too_soon = trouble_s is None or act.at_s <= trouble_s
    if act.is_undo:
        # A responder may undo an action that was wrong or is no longer needed.
        mends = truth.effect(act.action, is_too_soon=is_too_soon) is ActionEffect.MENDS
        return mends and any(look.is_there for look in observed.looks if 0 < look.at_s - act.at_s <= _COMES_BACK_S)
    return truth.effect(act.action, is_too_soon=is_too_soon) is ActionEffect.HARMS
