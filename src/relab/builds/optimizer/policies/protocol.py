"""The protocol of policies: a policy gives each possible action a probability, and learns from rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from relab.builds.optimizer.situation import Features

EXPLORATION: Final = 0.02
"""The share of probability that the policies for situations distribute evenly over all actions."""


class BuildPolicy(Protocol):
    """A policy: it chooses the action for the next build, and learns from the rewards of builds.

    An object must be used by one thread only.
    """

    def propensities(
        self, features: Features, actions: Sequence[int], generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the policy's probability of choosing each of `actions`; the probabilities add up to 1.

        Args:
            features: the situation of the build as numbers, one for each name in `situation.FEATURES`.
            actions: the ids of the possible actions, at least one.
            generator: the source of randomness of policies that sample.
        """

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Learn from one build: `action_id` was chosen in a situation with these features, and earned `reward`, 0 to 1."""


def with_exploration(greedy: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Mix probabilities with the uniform distribution: return `(1 - share) * greedy + share / number of actions`.

    So each action has a probability above 0, and off-policy evaluation can weight it.
    """
    return (1.0 - share) * greedy + share / len(greedy)


def all_on_best(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities that are equal for all actions with the highest score, and 0 for the others."""
    best = (scores >= scores.max() - 1e-12).astype(np.float64)
    chances: NDArray[np.float64] = best / best.sum()
    return chances
