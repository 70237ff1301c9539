"""The policy `dqn`: the action with the highest value of a trained network, computed without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relab.builds.optimizer.policies.protocol import EXPLORATION, Features, all_on_best, with_exploration

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer: `weight` (outputs by inputs) and `bias` (outputs)."""

    weight: Matrix
    bias: Matrix


@dataclass(frozen=True, slots=True)
class ValueNetwork:
    """A network of linear layers with ReLU activations between them.

    The output with the index i is the estimated reward (value) of the action with the id i.
    """

    layers: tuple[Layer, ...]

    def values(self, features: Features) -> NDArray[np.float64]:
        """Return the estimated reward (value) of every action of the catalogue; the array is indexed by action id."""
        found = np.asarray(features, dtype=np.float64)
        for index, layer in enumerate(self.layers):
            found = layer.weight.astype(np.float64) @ (np.maximum(found, 0.0) if index else found) + layer.bias
        return found


class NetworkPolicy:
    """Chooses the possible action with the highest value, but sometimes a random action. The network does not change.

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
        """Return the probability with which the policy chooses each of `actions`; the probabilities add up to 1.

        `features` are the numbers that describe the situation, one for each name in `FEATURES`. `generator` has no
        effect.
        """
        return with_exploration(all_on_best(self._network.values(features)[list(actions)]), EXPLORATION)

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Learn nothing: a network is trained by `lab builds train`."""
