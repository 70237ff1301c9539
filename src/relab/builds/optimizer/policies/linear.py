"""Contextual policies with a linear model of the reward for each action: LinUCB and Thompson sampling.

LinUCB: Li, Chu, Langford, Schapire (2010), "A Contextual-Bandit Approach to Personalized News Article Recommendation",
algorithm 1. Thompson sampling: Agrawal, Goyal (2013), "Thompson Sampling for Contextual Bandits with Linear Payoffs".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.builds.optimizer.policies.protocol import EXPLORATION, all_on_best, with_exploration
from relab.builds.optimizer.situation import FEATURES, Features

_WIDTH: Final = 0.7
"""The bound of LinUCB is the estimate plus this many standard errors."""
_DEVIATION: Final = 0.25
"""The standard deviation of a reward around the prediction that Thompson sampling assumes."""
_DRAWS: Final = 512
"""The number of posterior draws by which the propensities of Thompson sampling are computed."""


@dataclass
class _Ridge:
    """The ridge regression that predicts the reward (0 to 1) of one action, a change of a build's configuration.

    The reward of each build for which the action was chosen updates the regression.

    Attributes:
        inverse: the inverse of the regularized Gram matrix of the features.
        weighted: the sum of the features times the rewards. The product `inverse @ weighted` is the vector of
            coefficients.
    """

    inverse: NDArray[np.float64] = field(default_factory=lambda: np.eye(len(FEATURES)))
    weighted: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(FEATURES)))

    @property
    def coefficients(self) -> NDArray[np.float64]:
        return self.inverse @ self.weighted

    def learn(self, x: NDArray[np.float64], reward: float) -> None:
        # The formula of Sherman and Morrison updates the inverse.
        projected = self.inverse @ x
        self.inverse -= np.outer(projected, projected) / (1.0 + x @ projected)
        self.weighted += reward * x


class _LinearPolicy:
    def __init__(self) -> None:
        self._models: dict[int, _Ridge] = {}

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Update the linear model of the action `action_id` with a reward, 0 to 1, earned in a situation.

        `features` are the numbers that describe the situation, one for each name in `FEATURES`.
        """
        self._model(action_id).learn(np.asarray(features), reward)

    def _model(self, action_id: int) -> _Ridge:
        return self._models.setdefault(action_id, _Ridge())


class LinUcbPolicy(_LinearPolicy):
    """Chooses the action with the highest upper confidence bound of its reward.

    With the probability `EXPLORATION`, it chooses any action at random.
    """

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
        x = np.asarray(features)
        bounds = []
        for action in actions:
            model = self._model(action)
            bounds.append(model.coefficients @ x + _WIDTH * np.sqrt(x @ model.inverse @ x))
        return with_exploration(all_on_best(np.array(bounds)), EXPLORATION)


class ThompsonPolicy(_LinearPolicy):
    """Chooses each action with the probability that it is the best one (Thompson sampling).

    For each action, a Bayesian linear regression predicts the reward. With the probability `EXPLORATION`, the policy
    chooses any action at random.
    """

    def propensities(
        self, features: Features, actions: Sequence[int], generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the policy's probability of choosing each of `actions`; the probabilities add up to 1.

        The probabilities are estimated from 512 draws (with `generator`) from the posterior of the expected rewards.
        `features` are the numbers that describe the situation, one for each name in `FEATURES`.
        """
        x = np.asarray(features)
        models = [self._model(action) for action in actions]
        # The expected reward is a normal variable, so the coefficients need not be drawn.
        means = np.array([model.coefficients @ x for model in models])
        deviations = _DEVIATION * np.sqrt([x @ model.inverse @ x for model in models])
        draws = generator.normal(means, deviations, size=(_DRAWS, len(actions)))
        wins = np.bincount(draws.argmax(axis=1), minlength=len(actions)) / _DRAWS
        return with_exploration(wins, EXPLORATION)
