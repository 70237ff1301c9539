"""Judge a rollout: decide its verdict (PASS, EDGE, FAIL or INVALID), and compute the figures for its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relab.rollouts.judging.carry_over import carry_over
from relab.rollouts.judging.early import certain_failure, early_look, error_upper_pct
from relab.rollouts.judging.effects import RunningEffect, effect_pct, log_of, running_effect
from relab.rollouts.judging.factors import factor_effects
from relab.rollouts.judging.guardrails import qps_change_pct, route_effects, warnings_of
from relab.rollouts.judging.procedure import false_pass_rate, look_alpha
from relab.rollouts.judging.rollout_data import RolloutData, error_rate_pct
from relab.rollouts.judging.rounds import FINAL_ALPHA, MIN_PASS_ROUNDS, detectable_pct, gates_of
from relab.rollouts.judging.settling import unsettled
from relab.rollouts.judging.validity import biased_data, imbalance_pct, missing_data, unstable_baseline
from relab.rollouts.models import Arm, ArmWindow, DataProblem, DecisionPolicy, Effect, RolloutJudgement, RouteEffect
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import blind_spots
from relab.stats.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class _Figures:
    """The figures on which the verdict about a rollout depends. Arm A has the old flags, arm B has the new flags.

    Attributes:
        effect: the change of the judged figure (the P95 latency, or the metric that the plan names) from arm A to arm
            B.
        error_rate_pct: arm B's error rate in percent.
        error_upper_pct: the upper bound of arm B's error rate, in percent.
        rounds: the number of measured rounds; a round has one measurement of each arm.
        rounds_needed: the number of rounds that would probably give a PASS; None if not known.
    """

    effect: Effect
    error_rate_pct: float
    error_upper_pct: float
    rounds: int
    rounds_needed: int | None


def judge(
    windows: Sequence[ArmWindow],
    plan: Plan,
    *,
    stopped_early: bool = False,
    warnings: Sequence[str] = (),
) -> RolloutJudgement:
    """Judge the measured windows of a rollout by its plan.

    A window is one measurement of an arm (set of flags); a round has one window of each arm.

    Args:
        windows: all completely measured windows. An incomplete last round is ignored.
        plan: the plan with its thresholds and its policy.
        stopped_early: whether an early look (interim analysis) ended the measurement. The verdict then uses the wider
            interval of that look, unless there are fewer than `MIN_PASS_ROUNDS` rounds.
        warnings: warnings about the measurement; the judgement lists them before its own warnings.
    """
    data = RolloutData.of(windows, plan)
    pairs = data.pairs()
    running = None if pairs is None else running_effect(pairs)
    found, doubts = _doubts(data, plan, running)
    problems = tuple(problem.sentence for problem in found)
    effect = _effect(data, plan, running, stopped_early=stopped_early)
    rate, upper = error_rate_pct(data.windows(Arm.B)), error_upper_pct(data)
    sd = running.last()[1] if running is not None else math.nan
    routes = route_effects(data)
    needed = None if math.isnan(sd) else gates_of(plan).rounds_needed(log_of(plan.detected_pct), sd)
    if problems or effect is None or rate is None or upper is None:
        verdict, reason = Verdict.INVALID, _shortened(problems or ("A figure is missing.",))
    else:
        figures = _Figures(effect, rate, upper, len(data.rounds), needed)
        decide = _decide_as_seed if plan.policy is DecisionPolicy.SEED else _decide
        verdict, reason = decide(figures, plan)
    return RolloutJudgement(
        verdict=verdict,
        reason=reason,
        policy=plan.policy,
        delta_p95=effect,
        delta_qps_pct=qps_change_pct(data),
        error_rate_pct=rate,
        error_rate_upper_pct=upper,
        ab_imbalance_pct=imbalance_pct(data),
        windows=data.measured_windows(),
        window_sd_pct=None if math.isnan(sd) else 100 * sd,
        minimum_detectable_effect_pct=None if math.isnan(sd) else detectable_pct(plan, sd, len(data.rounds)),
        rounds_needed=needed,
        false_pass_rate=_false_pass_rate(plan, sd, len(data.rounds), stopped_early=stopped_early),
        warnings=(*warnings, *doubts, *_warnings(data, plan, routes)),
        problems=problems,
        remedies=tuple(dict.fromkeys(str(problem) for problem in found if problem.remedy)),
        routes=routes,
        factors=factor_effects(data) if plan.experiment.factorial else None,
        stopped_early=stopped_early,
        early_stop=_early_stop(windows, plan, stopped_early=stopped_early),
    )


def effect_so_far(windows: Sequence[ArmWindow], plan: Plan) -> Effect | None:
    """Return the change from the old to the new flags after the complete rounds of `windows`, with its interval.

    A window is one measurement of an arm (set of flags); a round has one window of each arm. After only one round, the
    effect has no interval. The level of the interval is 99 %, or higher if the plan's `alpha_share` is below 1.

    Return None without a complete round, or if a window lacks the judged figure (the P95 latency, or the metric that
    the plan names).
    """
    pairs = RolloutData.of(windows, plan).pairs()
    return None if pairs is None else effect_pct(running_effect(pairs), alpha=gates_of(plan).alpha)


def effects_by_round(windows: Sequence[ArmWindow], plan: Plan) -> list[tuple[int, Effect]]:
    """Return pairs (number of rounds, effect after these rounds); from 2 rounds on, the effect has an interval.

    The effect is the change from the old to the new flags. The intervals have the level 99 %, or a higher one if the
    plan's `alpha_share` is below 1. A round has one window (measurement) of each arm (set of flags). The judged figure
    is the P95 latency, or the metric that the plan names. A round is a gap if a window or its judged figure is missing;
    the first gap and all later rounds are ignored.
    """
    pairs = RolloutData.of(windows, plan).before_gap().pairs()
    if pairs is None:
        return []
    running = running_effect(pairs)
    return [
        (rounds, effect_pct(running.after(rounds), alpha=gates_of(plan).alpha)) for rounds in range(1, pairs.rounds + 1)
    ]


def _doubts(
    data: RolloutData, plan: Plan, running: RunningEffect | None
) -> tuple[tuple[DataProblem, ...], tuple[str, ...]]:
    """Return `(problems, warnings)`; only the problems make the verdict INVALID.

    Four kinds of doubts exist: missing data, biased data (such as dropped requests, or very different numbers of
    requests of the arms), an unstable arm A (its figures drift or vary too much), and a carry-over (figures depend on
    the flags of an earlier window). Arm A has the old flags, arm B the new ones. The plan's policy says which doubts
    are problems; the others are warnings:

    - `seed`: only missing data are problems.
    - `statistical`: all doubts are problems. But if the change fails beyond chance, an unstable arm A and a carry-over
      are only warnings.

    `running` is the effect after each round (one measurement of each arm); None if it cannot be computed.
    """
    missing, biased, unstable = missing_data(data), biased_data(data), unstable_baseline(data, plan.thresholds)
    late = carry_over(data)
    unstable = unstable if late is None else (late, *unstable)
    if plan.policy is DecisionPolicy.SEED:
        # The seed's rule compares the figures alone.
        return missing, _sentences((*biased, *unstable))
    if _fails_beyond_chance(data, plan, running):
        # An unstable arm A widens the interval and does not shift it, so it is no reason against a FAIL beyond chance.
        # A carry-over may shift it, but a FAIL only keeps the old flags.
        return (*missing, *biased), _sentences(unstable)
    return (*missing, *biased, *unstable), ()


def _warnings(data: RolloutData, plan: Plan, routes: tuple[RouteEffect, ...]) -> tuple[str, ...]:
    return (*blind_spots(plan), *unsettled(data), *warnings_of(data, plan.thresholds, routes))


def _sentences(problems: Sequence[DataProblem]) -> tuple[str, ...]:
    return tuple(str(problem) for problem in problems)


def _fails_beyond_chance(data: RolloutData, plan: Plan, running: RunningEffect | None) -> bool:
    if running is None:
        return False
    return certain_failure(data, plan, effect_pct(running, alpha=FINAL_ALPHA), FINAL_ALPHA) is not None


def _effect(data: RolloutData, plan: Plan, running: RunningEffect | None, *, stopped_early: bool) -> Effect | None:
    if running is None:
        return None
    early = stopped_early and plan.early_stop is not None and running.rounds >= MIN_PASS_ROUNDS
    effect = effect_pct(running, alpha=look_alpha(plan, running.rounds) if early else gates_of(plan).alpha)
    if plan.policy is not DecisionPolicy.SEED:
        return effect
    means = [_mean(data.windows(arm)) for arm in (Arm.A, Arm.B)]
    return effect.model_copy(update={"estimate_pct": 100 * (means[1] / means[0] - 1)})


def _early_stop(windows: Sequence[ArmWindow], plan: Plan, *, stopped_early: bool) -> str | None:
    look = early_look(windows, plan)
    # There is no look after the last round: the verdict itself follows, at its own level.
    return None if look is None else look.sentence if stopped_early else "No early look ended the measurement."


def _mean(windows: Sequence[ArmWindow]) -> float:
    values = [window.metric for window in windows if window.metric is not None]
    return math.fsum(values) / len(values)


def _false_pass_rate(plan: Plan, sd: float, rounds: int, *, stopped_early: bool) -> float | None:
    if math.isnan(sd):
        return None
    # A measurement that the budget ended is judged with the rounds that it has, whatever the data say.
    is_whole = stopped_early or plan.experiment.rounds == "auto"
    return false_pass_rate(plan, sd / math.sqrt(2), rounds=None if is_whole else rounds)


def _decide(figures: _Figures, plan: Plan) -> tuple[Verdict, str]:
    failure = _failure(figures, plan)
    if failure:
        return Verdict.FAIL, failure
    limits, effect = plan.thresholds, figures.effect
    change = f"{plan.judged_figure} changed by {effect.estimate_pct:+.1f} %"
    if effect.estimate_pct > limits.pass_delta_p95_max:
        return Verdict.EDGE, f"The {change}, less than a PASS needs ({limits.pass_delta_p95_max:g} %)."
    if figures.rounds < MIN_PASS_ROUNDS:
        needed = max(MIN_PASS_ROUNDS, figures.rounds_needed or 0)
        return Verdict.EDGE, (
            f"Underpowered: the {change}, but {figures.rounds} rounds cannot exclude chance; at least {needed} are "
            "needed."
        )
    if effect.high_pct is None or effect.high_pct >= 0:
        return Verdict.EDGE, (
            f"Underpowered: the {change}, but its interval reaches {_shown(effect.high_pct)}, so chance is not "
            f"excluded{_advice(figures)}."
        )
    if figures.error_upper_pct >= limits.max_error_rate:
        return Verdict.EDGE, (
            f"The {change}, but the error rate may be {figures.error_upper_pct:.2f} % (upper bound; the limit is "
            f"{limits.max_error_rate:g} %)."
        )
    return Verdict.PASS, (
        f"The {change} (at most {effect.high_pct:+.1f} %), and the error rate is at most "
        f"{figures.error_upper_pct:.2f} %."
    )


def _decide_as_seed(figures: _Figures, plan: Plan) -> tuple[Verdict, str]:
    failure = _failure(figures, plan)
    if failure:
        return Verdict.FAIL, failure
    change = f"The {plan.judged_figure} changed by {figures.effect.estimate_pct:+.1f} %"
    if figures.effect.estimate_pct <= plan.thresholds.pass_delta_p95_max:
        return Verdict.PASS, f"{change} (the threshold is {plan.thresholds.pass_delta_p95_max:g} %)."
    return Verdict.EDGE, f"{change}, less than a PASS needs ({plan.thresholds.pass_delta_p95_max:g} %)."


def _failure(figures: _Figures, plan: Plan) -> str | None:
    limits = plan.thresholds
    if figures.error_rate_pct >= limits.max_error_rate:
        return f"The error rate is {figures.error_rate_pct:.2f} % (the limit is {limits.max_error_rate:g} %)."
    if figures.effect.estimate_pct > limits.edge_delta_p95_max:
        return (
            f"The {plan.judged_figure} changed by {figures.effect.estimate_pct:+.1f} %, above the threshold of "
            f"{limits.edge_delta_p95_max:g} %."
        )
    return None


def _advice(figures: _Figures) -> str:
    needed = figures.rounds_needed
    return f"; about {needed} rounds are needed" if needed is not None and needed > figures.rounds else ""


def _shown(change_pct: float | None) -> str:
    return "any value" if change_pct is None else f"{change_pct:+.1f} %"


def _shortened(problems: Sequence[str]) -> str:
    number = len(problems) - 1
    more = f" ({number} more problem{'s' if number > 1 else ''})" if number else ""
    return f"{problems[0]}{more}"
