"""Explain a decision in one sentence, from the log of decisions and the policy's probabilities. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relab.builds.optimizer.catalogue import action_of
from relab.builds.optimizer.evaluation import LoggedDecision
from relab.builds.optimizer.situation import FEATURES, BuildSituation

_KINDS = [number for number, name in enumerate(FEATURES) if name in {"out_of_memory", "timed_out", "other_failure"}]


def reason_of(
    situation: BuildSituation,
    actions: Sequence[int],
    chances: Sequence[float],
    action_id: int,
    logged: Iterable[LoggedDecision],
) -> str:
    """Return a phrase that explains a choice: its probability, and how often builds with the action succeeded before.

    Only builds in a situation with the same kind of failure count.

    Args:
        situation: the facts that the policy used to choose.
        actions: the ids of the possible actions.
        chances: the policy's probability of choosing each of `actions`.
        action_id: the chosen action.
        logged: the earlier decisions of the project; the policy was trained on them.
    """
    kind = _kind(situation.features())
    rewards = [each.reward for each in logged if each.action_id == action_id and _kind(each.features) == kind]
    succeeded = sum(reward > 0 for reward in rewards)
    after = "after a failure of this kind" if any(kind) else "after a build without a failure"
    record = f"{after} it succeeded in {succeeded} of {len(rewards)} builds" if rewards else f"it is untried {after}"
    chance = chances[actions.index(action_id)]
    if len(chances) > 1 and min(chances) == max(chances):
        return f"a random choice: all {len(chances)} actions are equally probable; {record}"
    if chance >= max(chances):
        return f"the policy prefers it (probability {chance:.3f}); {record}"
    preferred = action_of(actions[list(chances).index(max(chances))])
    return f"a random choice, to learn (probability {chance:.3f}; preferred: {preferred.description}); {record}"


def _kind(features: Sequence[float]) -> tuple[float, ...]:
    """Return the features that name the kind of failure of the last build; all are 0 if it did not fail."""
    return tuple(features[number] for number in _KINDS)
