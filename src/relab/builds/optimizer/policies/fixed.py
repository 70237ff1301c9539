"""Policies that ignore the situation: always one action, any action, or the one with the best mean reward so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.builds.optimizer.catalogue import KEEP
from relab.builds.optimizer.policies.protocol import all_on_best, with_exploration
from relab.builds.optimizer.situation import Features

_EXPLORATION: Final = 0.1
"""The share of probability that is distributed evenly over all actions."""


class FixedPolicy:
    """Always chooses the same action. If it is not possible, chooses action 0 (keep the configuration).

    If action 0 is not possible either, chooses any action at random.

    Args:
        action_id: the id of the action to choose.
    """

    def __init__(self, action_id: int) -> None:
        self._action_id = action_id

    def propensities(
        self,
        features: Features,  # noqa: ARG002 the protocol's
        actions: Sequence[int],
        generator: np.random.Generator,  # noqa: ARG002 the protocol's
    ) -> NDArray[np.float64]:
        """Return the policy's probability of choosing each of `actions`.

        The first case that applies decides: if the fixed action is possible, its probability is 1; if action 0 (keep
        the configuration) is possible, its probability is 1; otherwise, all actions have the same probability.
        `features` and `generator` have no effect.
        """
        for wanted in (self._action_id, KEEP):
            if wanted in actions:
                return np.array([float(action == wanted) for action in actions])
        return np.full(len(actions), 1.0 / len(actions))

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Do nothing: a fixed policy does not learn."""


class RandomPolicy:
    """Chooses each possible action with the same probability.

    It tries every action, so all other policies can be evaluated from its decisions. The decisions of a policy that
    avoids an action say little about this action.
    """

    def propensities(
        self,
        features: Features,  # noqa: ARG002 the protocol's
        actions: Sequence[int],
        generator: np.random.Generator,  # noqa: ARG002 the protocol's
    ) -> NDArray[np.float64]:
        """Return the same probability for each of `actions`. `features` and `generator` have no effect."""
        return np.full(len(actions), 1.0 / len(actions))

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Do nothing: the choice does not depend on earlier builds."""


class BestFixedPolicy:
    """Chooses the action with the highest mean reward so far; untried actions come first.

    With the probability `_EXPLORATION`, it chooses any action at random.
    """

    def __init__(self) -> None:
        self._sums: dict[int, float] = defaultdict(float)
        self._counts: dict[int, int] = defaultdict(int)

    def propensities(
        self,
        features: Features,  # noqa: ARG002 the protocol's
        actions: Sequence[int],
        generator: np.random.Generator,  # noqa: ARG002 the protocol's
    ) -> NDArray[np.float64]:
        """Return the policy's probability of choosing each of `actions`; the probabilities add up to 1.

        `features` and `generator` have no effect.
        """
        means = [self._sums[action] / self._counts[action] if self._counts[action] else np.inf for action in actions]
        return with_exploration(all_on_best(np.array(means)), _EXPLORATION)

    def learn(self, features: Features, action_id: int, reward: float) -> None:  # noqa: ARG002 the protocol's
        """Add a reward (0 to 1) to the mean reward of the action `action_id`; `features` have no effect."""
        self._sums[action_id] += reward
        self._counts[action_id] += 1
