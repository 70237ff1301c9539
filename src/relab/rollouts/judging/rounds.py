"""Compute how many rounds a rollout needs, so that a good change probably meets both conditions (gates) of a PASS.

The computed probability of a PASS is exact if the log ratios of the rounds are distributed normally.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.rollouts.judging.effects import Floats, log_of, percent
from relab.rollouts.plans.models import MAX_ROUNDS, Plan
from relab.stats.power import POWER

FINAL_ALPHA: Final = 0.005
"""One-sided level of the interval after the last round, so that its two-sided level is 99 %. With the early looks
(0.15 %) and the choice of rounds from the same data a change without effect passes in less than 1 %
(`evals/judge.py`)."""
MIN_PASS_ROUNDS: Final = 7
"""With fewer rounds nothing passes: of a change without effect, all of n rounds are better in 1 of 2^n cases, which is
below 1 % from 7 rounds on."""
_PLANNED_SD_LEVEL: Final = 0.7
"""The rounds are planned for the upper bound at this level of the deviation, because the measured one is too small in
half of all cases."""
_POINTS: Final = 400
_SDS: Final = 200
_SMALLEST_SD: Final = 0.02
_LARGEST_SD: Final = 1.5


@dataclass(frozen=True, slots=True)
class PassGates:
    """The two conditions (gates) for a PASS, on the effect that the new flags have on the judged figure.

    The effect is the log ratio of arm B (new flags) to arm A (old flags).

    Attributes:
        bound: the greatest estimate of the effect that passes; negative, or 0.
        alpha: the one-sided significance level. The upper end of the effect's interval at this level must be below 0.
    """

    bound: float
    alpha: float = FINAL_ALPHA

    def power(self, effect: float, sd: float, rounds: int) -> float:
        """Return the probability, 0..1, that a rollout meets both gates (conditions on estimate and interval).

        Args:
            effect: the true log ratio of arm B (new flags) to arm A (old flags).
            sd: standard deviation of the log ratio between rounds.
            rounds: number of rounds; a round has one measurement of each arm.
        """
        if rounds < MIN_PASS_ROUNDS:
            return 0.0
        if sd <= 0:
            return float(effect <= self.bound)
        from scipy import special

        # Quantiles of the measured deviation as a multiple of the true one: a chi variable over its degrees of freedom.
        freedom, shares = rounds - 1, (np.arange(_POINTS) + 0.5) / _POINTS
        measured = np.sqrt(2 * special.gammaincinv(freedom / 2, shares) / freedom)
        error = sd / math.sqrt(rounds)
        greatest = np.minimum(self.bound, special.stdtrit(freedom, self.alpha) * measured * error)
        return float(special.ndtr((greatest - effect) / error).mean())

    def rounds_needed(self, effect: float, sd: float) -> int | None:
        """Return the smallest number of rounds with which a rollout passes with the probability `POWER`.

        A round has one measurement of each arm: A (old flags) and B (new flags).

        Args:
            effect: the true log ratio of arm B to arm A.
            sd: standard deviation of the log ratio between rounds.

        Returns:
            The number of rounds; None if it would exceed `MAX_ROUNDS`.
        """
        low, high = MIN_PASS_ROUNDS - 1, MIN_PASS_ROUNDS
        while self.power(effect, sd, high) < POWER:
            if high >= MAX_ROUNDS:
                return None
            low, high = high, min(2 * high, MAX_ROUNDS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(effect, sd, middle) >= POWER else (middle, high)
        return high

    def detectable_effect(self, sd: float, rounds: int) -> float | None:
        """Return the smallest true improvement that passes with the probability `POWER`, as a negative log ratio.

        Args:
            sd: standard deviation of the log ratio between rounds.
            rounds: number of rounds; a round has one measurement of each arm.

        Returns:
            The log ratio of arm B (new flags) to arm A (old flags); None for fewer than `MIN_PASS_ROUNDS` rounds.
        """
        if rounds < MIN_PASS_ROUNDS:
            return None
        near, far = self.bound, self.bound - 1
        while self.power(far, sd, rounds) < POWER:
            near, far = far, 2 * far
        for _ in range(40):
            middle = (near + far) / 2
            near, far = (near, middle) if self.power(middle, sd, rounds) >= POWER else (middle, far)
        return far


def gates_of(plan: Plan) -> PassGates:
    """Return the two conditions (gates) for a PASS that a plan sets by `pass_delta_p95_max` and `alpha_share`."""
    return PassGates(log_of(plan.thresholds.pass_delta_p95_max), FINAL_ALPHA * plan.alpha_share)


def detectable_pct(plan: Plan, sd: float, rounds: int) -> float | None:
    """Return the smallest true improvement that a rollout finds with a power of 80 %, as a negative percentage.

    Args:
        plan: the plan with the thresholds of the verdict.
        sd: standard deviation of the log ratio (new flags to old flags) between rounds.
        rounds: number of rounds; a round has one measurement of each set of flags.

    Returns:
        The change in percent; None for fewer than `MIN_PASS_ROUNDS` rounds.
    """
    found = gates_of(plan).detectable_effect(sd, rounds)
    return None if found is None else percent(found)


def planned_rounds(plan: Plan, sd: Floats, rounds: int) -> NDArray[np.int64]:
    """Return for each rollout how many rounds a plan with `rounds: auto` measures, from `min_rounds` to `max_rounds`.

    A round has one measurement of each arm: A (old flags) and B (new flags).

    Args:
        plan: the plan.
        sd: the measured standard deviation of the log ratio of arm B to arm A between rounds, for each rollout.
        rounds: the number of rounds in which `sd` was measured.
    """
    return np.searchsorted(_largest_sds(plan), sd * planning_factor(rounds)) + plan.experiment.min_rounds


def planning_factor(rounds: int) -> float:
    """Return the factor by which a measured standard deviation is multiplied before rounds are planned with it.

    A measured value can be too small by chance. The product is the upper confidence bound, at the level 70 %, of the
    true standard deviation. `rounds` is the number of rounds in which the value was measured; a round has one
    measurement of each set of flags.
    """
    from scipy import special

    # Without the factor, the measured value is too small in half of all cases.
    freedom = rounds - 1
    return math.sqrt(freedom / (2 * float(special.gammaincinv(freedom / 2, 1 - _PLANNED_SD_LEVEL))))


def _largest_sds(plan: Plan) -> Floats:
    measured = plan.experiment
    return _sd_table(gates_of(plan), log_of(plan.detected_pct), measured.min_rounds, measured.max_rounds)


@lru_cache(maxsize=32)
def _sd_table(gates: PassGates, effect: float, least: int, greatest: int) -> Floats:
    """Return, for each number of rounds, the largest standard deviation at which a rollout probably passes.

    A round has one measurement of each arm: A (old flags) and B (new flags). "Probably" means with at least the
    probability `POWER`. The standard deviation describes how much the log ratio of arm B to arm A varies between
    rounds. An element is 0 if its number of rounds is too small for a PASS.

    Args:
        gates: the conditions of a PASS.
        effect: the true log ratio.
        least: the number of rounds of the first element.
        greatest: one more than the number of rounds of the last element.
    """
    grid = np.concatenate([[0.0], np.geomspace(_SMALLEST_SD, _LARGEST_SD, _SDS)])
    needed = np.array([gates.rounds_needed(effect, float(sd)) or MAX_ROUNDS + 1 for sd in grid])
    last = np.searchsorted(needed, np.arange(least, greatest), side="right") - 1
    return np.where(last < 0, 0.0, grid[last])
