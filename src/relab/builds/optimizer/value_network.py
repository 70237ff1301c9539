"""The trained neural network of the policy `dqn`. NumPy computes its outputs, so using it does not need PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relab.builds.optimizer.situation import Features

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
