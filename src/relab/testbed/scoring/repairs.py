"""Count a responder's actions that repaired a fault, and those of them that it judged as failed. Pure functions."""

from __future__ import annotations

from collections import Counter
from typing import Final

from relab.testbed.scoring.observations import Act, Observed
from relab.testbed.scoring.truth import Truth, was_done

_FAILED: Final = frozenset(("failed", "worse"))
_RECOVERY_TIMEOUT_S: Final = 30.0
_STAYS_GONE_S: Final = 6.0


def judged_repairs(observed: Observed, truth: Truth) -> tuple[int, int]:
    """Return two counts: the right repairs, and those of them that the responder judged as `failed` or `worse`.

    A right repair is an action for which all of these are true:

    - It is a repair of a measured fault (a fault that the responder must repair).
    - The fault was present before the action.
    - The fault disappeared within 30 s after the action, and stayed absent for 6 s.

    Args:
        observed: the observations of an episode (a test): the actions, the checks for faults, and the judgements.
        truth: which actions repair which fault.
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
