"""Decide whether the effect of a change passes, with arrays, so that real and simulated rollouts share the code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.rollouts.judging.effects import Floats, Pairs, RunningEffect, running_effect
from relab.rollouts.judging.rounds import MIN_PASS_ROUNDS, gates_of, planned_rounds
from relab.rollouts.models import Arm, DecisionPolicy
from relab.rollouts.plans.models import Plan, WindowOrder
from relab.rollouts.plans.schedule import arms_of, rounds_that_fit, windows_of

Booleans = NDArray[np.bool_]

_MOST_VALUES: Final = 2_000_000
_ROUNDING: Final = 1e-11


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The outcomes of several simulated rollouts; each array has one element for each rollout.

    Attributes:
        passed: whether the effect meets the gates (conditions) of a PASS.
        rounds: number of rounds (one measurement of each set of flags) after which the rollout ended.
        early: whether the rollout passed at an early look (interim analysis), before the planned last round.
    """

    passed: Booleans
    rounds: NDArray[np.int64]
    early: Booleans


def look_alpha(plan: Plan, rounds: int) -> float:
    """Return the one-sided significance level of the early look (interim analysis) after a number of rounds.

    The k-th look has the level `alpha / (k * (k + 1))`; `alpha` is the `alpha` of the plan's `early_stop` times the
    plan's `alpha_share`. The levels of all looks add up to at most `alpha` (Bonferroni).

    Args:
        plan: a plan with `early_stop`.
        rounds: number of measured rounds (a round has one measurement of each set of flags), at least
            `MIN_PASS_ROUNDS`. With exactly `MIN_PASS_ROUNDS`, it is the first look (k = 1).
    """
    assert plan.early_stop is not None
    look = rounds - MIN_PASS_ROUNDS + 1
    return plan.alpha_share * plan.early_stop.alpha / (look * (look + 1))


def last_rounds(plan: Plan) -> int:
    """Return the most rounds (one measurement of each set of flags) that a plan can measure within its time budget."""
    measured = plan.experiment
    most = measured.max_rounds if measured.rounds == "auto" else measured.rounds
    return min(most, rounds_that_fit(plan))


def decide(plan: Plan, pairs: Pairs) -> Outcomes:
    """Return the outcomes of simulated rollouts: whether each passes, and after how many rounds it ends.

    Only the gates (conditions) on the effect are applied, not the rules about errors and invalid data.

    Args:
        plan: the plan, which determines after how many rounds a rollout ends.
        pairs: the logarithms of the simulated measurements with the old flags (`log_a`) and with the new flags
            (`log_b`). Each array has one row for each rollout, and one column for each round (one measurement with each
            set of flags). The number of columns is the maximum number of rounds of the plan.
    """
    running = running_effect(pairs)
    planned = _planned(plan, running)
    ended = _ended(plan, running, planned)
    early = ended < planned
    if plan.policy is DecisionPolicy.SEED:
        return Outcomes(_seed_passes(plan, pairs, ended), ended, early)
    passed = early.copy()
    for rounds in range(MIN_PASS_ROUNDS, pairs.rounds + 1):
        passed |= ~early & (planned == rounds) & meets_gates(plan, running, rounds, gates_of(plan).alpha)
    return Outcomes(passed, ended, early)


def meets_gates(plan: Plan, running: RunningEffect, rounds: int, alpha: float) -> Booleans:
    """Return for each rollout whether its effect after a number of rounds meets both gates (conditions) of a PASS.

    The gates: the estimate reaches the plan's threshold, and the whole interval lies below 0.

    Args:
        plan: the plan, for the threshold.
        running: the effect of each rollout after each round (one measurement of each set of flags).
        rounds: number of rounds, at least 2.
        alpha: one-sided significance level of the interval.
    """
    from scipy import special

    mean, error = running.mean[..., rounds - 1], running.error[..., rounds - 1]
    is_enough = mean <= gates_of(plan).bound + _ROUNDING
    return np.asarray(is_enough & (mean - special.stdtrit(rounds - 1, alpha) * error < 0))


def _planned(plan: Plan, running: RunningEffect) -> NDArray[np.int64]:
    """Return for each simulated rollout how many rounds it measures if no early look (interim test) ends it before.

    A round has one measurement of each arm (set of flags).

    `running` has the effects of all simulated rollouts. With `rounds: auto`, a number is computed from the first
    `min_rounds` rounds of the rollout; otherwise, all rounds of `running` are measured.
    """
    runs, most = running.mean.shape[0], running.rounds
    first = min(plan.experiment.first_rounds, most)
    if plan.experiment.rounds != "auto" or first < 2:
        return np.full(runs, most)
    chosen = planned_rounds(plan, running.sd[:, first - 1], first)
    return np.minimum(chosen, most)


def _ended(plan: Plan, running: RunningEffect, planned: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each simulated rollout the number of rounds (measurements of each set of flags) after which it ends.

    It ends after the first early look (interim test) that passes. If none passes, it ends after the number of rounds
    that `planned` has for this rollout. `running` has the effect of each rollout after each round.
    """
    ended = planned.copy()
    if plan.early_stop is not None:
        for rounds in range(MIN_PASS_ROUNDS, running.rounds):
            ended[(ended > rounds) & meets_gates(plan, running, rounds, look_alpha(plan, rounds))] = rounds
    return ended


def _seed_passes(plan: Plan, pairs: Pairs, rounds: NDArray[np.int64]) -> Booleans:
    """Return for each simulated rollout whether it passes by `DecisionPolicy.SEED`.

    This rule compares only the estimate with the plan's `pass_delta_p95_max`, the greatest change that passes, and
    ignores the interval of the estimate. The estimate is the change, in percent, from the mean figure of arm A (old
    flags) to that of arm B (new flags).

    `pairs` has the logarithms of the figures of both arms in each round (one measurement of each arm). `rounds` has the
    number of measured rounds of each rollout.
    """
    last = rounds[:, np.newaxis] - 1
    sums = [np.take_along_axis(np.cumsum(np.exp(logs), axis=-1), last, axis=-1) for logs in (pairs.log_a, pairs.log_b)]
    return np.asarray(100 * (sums[1][:, 0] / sums[0][:, 0] - 1) <= plan.thresholds.pass_delta_p95_max)


def false_pass_rate(plan: Plan, window_sd: float, *, rounds: int | None = None, runs: int = 25_000) -> float:
    """Return the share, 0..1, of simulated rollouts that pass although old and new flags have the same effect.

    The result is 0 if there are too few rounds for a PASS. A round has one measurement of each arm (set of flags).

    Args:
        plan: the plan.
        window_sd: standard deviation of the natural logarithm of the judged figure (the P95 latency, or the metric that
            the plan names) between measurements.
        rounds: greatest number of rounds; None for the greatest number of the plan.
        runs: number of simulated rollouts; fewer are simulated if the plan has very many rounds.
    """
    most = last_rounds(plan) if rounds is None else rounds
    if most < (1 if plan.policy is DecisionPolicy.SEED else MIN_PASS_ROUNDS):
        return 0.0
    number = min(runs, max(1, _MOST_VALUES // most))
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((2, number, most)) * window_sd
    index_a, index_b = positions(plan, most, runs=number, draw=draw)
    return float(decide(plan, Pairs(noise[0], noise[1], index_a, index_b)).passed.mean())


def positions(plan: Plan, rounds: int, *, runs: int, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the positions in time of all windows of arm A and of arm B, for simulated rollouts.

    A window is one measurement of an arm (set of flags); a round has one window of each arm.

    Args:
        plan: the plan, for its arms and their order.
        rounds: number of rounds.
        runs: number of rollouts.
        draw: draws the order of each rollout, if the plan's order is random.

    Returns:
        `(positions of arm A, positions of arm B)`, each of the shape (rollouts, rounds). A position is the number of
        the window in the rollout or, if all arms are measured at once, the number of the round; both from 0.
    """
    number, arms, shape = np.arange(rounds, dtype=np.float64), len(arms_of(plan)), (runs, rounds)
    if plan.subject.live:
        a = b = number
    elif plan.experiment.order is WindowOrder.RANDOM:
        places = draw.random((runs, rounds, arms)).argsort(axis=-1)
        a, b = (number * arms + places[..., arm] for arm in (0, 1))
    else:
        windows = windows_of(plan, rounds, "")
        a, b = (
            np.array([window.index for window in windows if window.arm is arm], dtype=np.float64)
            for arm in (Arm.A, Arm.B)
        )
    return np.broadcast_to(a, shape), np.broadcast_to(b, shape)
