"""The policy `dqn`: it chooses the action for which a trained neural network estimates the highest reward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relab.builds.optimizer.policies.protocol import EXPLORATION, all_on_best, with_exploration
from relab.builds.optimizer.situation import Features
from relab.builds.optimizer.value_network import ValueNetwork


class NetworkPolicy:
    """Chooses the possible action for which the network estimates the highest reward.

    With the probability `EXPLORATION`, it chooses any possible action at random. The rewards of builds do not change
    the network.

    Args:
        network: the trained network.
    """

    def __init__(self, network: ValueNetwork) -> None:
        self._network = network

    def propensities(
        self,
        features: Features,
        actions: Sequence[int],
        generator: np.random.Generator,  # noqa: ARG002 the protocol's
    ) -> NDArray[np.float64]:
        """Return the policy's probability of choosing each of `actions`; the probabilities add up to 1.

        `features` are the numbers that describe the situation, one for each name in `FEATURES`. `generator` has no
        effect.
        """
        return with_exploration(all_on_best(self._network.values(features)[list(actions)]), EXPLORATION)

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Learn nothing: a network is trained by `lab builds train`."""
