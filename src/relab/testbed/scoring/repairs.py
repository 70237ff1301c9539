"""Count the right repairs of a responder, and how many of them the responder judged as failed. Pure functions."""

from __future__ import annotations

from collections import Counter
from typing import Final

from relab.testbed.scoring.observations import Act, Observed
from relab.testbed.scoring.truth import Truth, was_done

_FAILED: Final = frozenset(("failed", "worse"))
_RECOVERY_TIMEOUT_S: Final = 30.0
_STAYS_GONE_S: Final = 6.0


def judged_repairs(observed: Observed, truth: Truth) -> tuple[int, int]:
    """Return `(right repairs, right repairs that the responder judged as failed)`, as numbers of actions.

    A right repair is an action that repairs a measured fault (one that the responder must repair) while the fault is
    present. After the action, the fault must disappear within 30 s and stay absent for 6 s. `observed` has the actions
    and the checks for faults; `truth` says which actions repair which fault.
    """
    done = [act for act in observed.acts if was_done(act.status) and not act.is_undo]
    right = Counter(act.action for act in done if any(_mends(act, fault, observed, truth) for fault in truth.mends_of))
    wrong = Counter(act.action for act in done) - right
    verdicts = {
        (sight.incident, at): (action, verdict)
        for sight in observed.sights
        for at, (action, verdict) in enumerate(sight.acts)
    }
    failed = Counter(action for action, verdict in verdicts.values() if verdict in _FAILED)
    # A verdict names only the action, so bad verdicts count for the wrong actions of this name first.
    judged = sum(min(max(failed[action] - wrong[action], 0), count) for action, count in right.items())
    return right.total(), judged


def _mends(act: Act, fault: str, observed: Observed, truth: Truth) -> bool:
    if act.action not in truth.mends_of[fault]:
        return False
    before = [look for look in observed.looks if look.at_s <= act.at_s]
    after = [look for look in observed.looks if look.at_s > act.at_s]
    was_there = fault in before[-1].there if before else observed.onset_s is not None and act.at_s > observed.onset_s
    gone_s = next((look.at_s for look in after if fault not in look.there), None)
    if not was_there or gone_s is None or gone_s - act.at_s > _RECOVERY_TIMEOUT_S:
        return False
    return all(fault not in look.there for look in after if gone_s <= look.at_s <= gone_s + _STAYS_GONE_S)
