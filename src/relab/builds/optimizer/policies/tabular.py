"""The policy `ucb`: it learns how often builds succeed, for each kind of failure and action, and how fast they are.

The score of an action is an upper confidence bound of its reward (chance of success times speed), as in Auer, Cesa-Bianchi,
Fischer (2002), "Finite-time Analysis of the Multiarmed Bandit Problem". The width of the bound differs from the paper:
it is the standard deviation of a posterior distribution, times a constant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.builds.models import BuildFailure
from relab.builds.optimizer.catalogue import KEEP
from relab.builds.optimizer.policies.protocol import EXPLORATION, all_on_best, with_exploration
from relab.builds.optimizer.situation import FEATURES, Features

_KINDS: Final = (BuildFailure.OUT_OF_MEMORY.value, BuildFailure.TIMED_OUT.value, "other_failure")
"""The features that name the kind of failure; if none of them is set, the last build did not fail."""

_RAISES: Final = {BuildFailure.OUT_OF_MEMORY.value: 2, BuildFailure.TIMED_OUT.value: 3}
"""`{limit that was hit: id of the action that raises this limit}`."""

_BUILDS: Final = 2.0
"""The prior of a chance of success, and of the speed of an action, weighs as much as this many builds."""

_SPEED: Final = 0.5
"""The speed before any build: the reward of a build that takes as long as usual."""

_WIDTH: Final = 2.0
"""The bound is the estimate plus this many standard deviations of the posterior."""

_SPREAD: Final = 0.15
"""Assumed standard deviation of the rewards of successful builds with one action."""


class UcbPolicy:
    """Chooses the action with the highest upper confidence bound of its reward.

    With the probability `EXPLORATION`, it chooses any action at random.

    The expected reward of an action is its chance of success times its speed. The speed is the mean reward of the
    successful builds with this action. The chance of success is learnt separately for each kind of failure of the last
    build.

    Before any build, the chance of success is:

    - 0.9 if the last build did not fail;
    - 0.8 if the last build hit the memory or the time limit, and the action raises this limit;
    - 0.1 if the last build hit the memory or the time limit, and the action keeps the configuration;
    - 0.5 in all other cases.
    """

    def __init__(self) -> None:
        self._tried: Counter[tuple[str, int]] = Counter()
        self._succeeded: Counter[tuple[str, int]] = Counter()
        self._successes: Counter[int] = Counter()
        self._speeds: defaultdict[int, float] = defaultdict(float)

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        """Update the action's estimated chance of success and speed with the reward (0 to 1) of one build.

        A reward of 0 means that the build failed. Any other reward is the speed of a successful build: 0.5 for the
        usual duration, more for a faster build. `features` are the numbers that describe the situation before the
        build, one for each name in `FEATURES`; only the kind of failure of the last build is used.
        """
        cell = (_kind(features), action_id)
        self._tried[cell] += 1
        # A failed build has the reward 0.
        if reward > 0:
            self._succeeded[cell] += 1
            self._successes[action_id] += 1
            self._speeds[action_id] += reward

    def propensities(
        self,
        features: Features,
        actions: Sequence[int],
        generator: np.random.Generator,  # noqa: ARG002 the protocol's
    ) -> NDArray[np.float64]:
        """Return the policy's probability of choosing each of `actions`; the probabilities add up to 1.

        `features` are the numbers that describe the situation, one for each name in `FEATURES`; only the kind of
        failure of the last build is used. `generator` has no effect.
        """
        kind = _kind(features)
        bounds = np.array([self._bound(kind, action) for action in actions])
        return with_exploration(all_on_best(bounds), EXPLORATION)

    def _bound(self, kind: str, action: int) -> float:
        tried, succeeded = self._tried[kind, action], self._succeeded[kind, action]
        builds = tried + _BUILDS
        chance = (succeeded + _BUILDS * _prior_chance(kind, action)) / builds
        variance_of_chance = chance * (1.0 - chance) / (builds + 1.0)  # that of a beta distribution

        successes = self._successes[action] + _BUILDS
        speed = (self._speeds[action] + _BUILDS * _SPEED) / successes
        variance_of_speed = _SPREAD**2 / successes

        variance = variance_of_chance * speed**2 + chance**2 * variance_of_speed
        return float(chance * speed + _WIDTH * np.sqrt(variance))


def _kind(features: Features) -> str:
    """Return the kind of the last build's failure, as one of the names in `_KINDS`; "" if the last build did not fail.

    `features` has one number for each name in `situation.FEATURES`.
    """
    named = dict(zip(FEATURES, features, strict=True))
    return next((kind for kind in _KINDS if named[kind]), "")


def _prior_chance(kind: str, action: int) -> float:
    """Return the assumed chance of success of an action, for as long as no build has shown it.

    Args:
        kind: the kind of the last build's failure; "" if the build did not fail.
        action: the id of the action.
    """
    if not kind:
        return 0.9
    if kind not in _RAISES:
        return 0.5
    return {_RAISES[kind]: 0.8, KEEP: 0.1}.get(action, 0.5)
