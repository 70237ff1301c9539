"""Values that the parts of a rollout pass to one another: arms, measured windows, the judgement, the final state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relab.core.clock import Timestamp
from relab.stats.verdicts import Verdict

EXECUTE_JOB: Final = "rollouts.execute"
"""The name of the jobs that execute queued rollouts."""
MAX_EXECUTIONS: Final = 1_500
"""How often such a job is tried.

It waits for a target that is down or in use: with pauses of at most a minute, for about a day.
"""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Arm(StrEnum):
    """A set of flags that a rollout measures: arm A has the flags from before the rollout, arm B the new ones.

    A plan with `factorial` also measures arm C, which has only the new flow control, and arm D, which has only the new
    routing.
    """

    A = "A"
    B = "B"
    C = "C"
    D = "D"


class RouteFigures(_Value):
    """The figures of one route (kind of request) in one window, that is, in one measurement of an arm (set of flags).

    Attributes:
        name: name of the request in the mix (kinds of requests with their shares).
        completed: number of requests that ended, good or bad.
        bad: number of requests that failed.
        p95_ms: 95th percentile of the latencies in ms; None without requests. The latency of a failed request counts as
            at least the time limit of a request.
    """

    name: str
    completed: int = Field(ge=0)
    bad: int = Field(ge=0)
    p95_ms: float | None = Field(ge=0)


class ArmWindow(_Value):
    """The measurements of one arm (set of flags) in one window of time, without the warm-up.

    Attributes:
        index: number of the window in the rollout, from 0.
        round: number of the round, from 0; each round has one window of each arm.
        arm: the flags that were in force.
        started_at: start of the measurement, after the warm-up.
        duration_s: length of the measurement in seconds; 0 for a window that was not measured.
        offered: number of requests that were due.
        sent: number of requests that were sent.
        completed: number of requests that ended, good or bad.
        bad: number of completed requests that failed: no answer, time-out, or an unexpected status of 400 or more.
        dropped: number of requests that were due and never sent.
        p95_ms: 95th percentile of the latencies in ms, from the time at which a request was due to its end; None
            without a generated load or without requests. The latency of a failed request counts as at least the time
            limit of a request. The estimator is that of Harrell and Davis, a weighted mean of all latencies.
        metric: the judged figure, which decides the rollout; smaller is better. It is the metric that the plan names,
            or else `p95_ms`. None if it is missing.
        lag_p99_ms: 99th percentile, in ms, of the delay that the load generator adds between the due time and the start
            of a request. None if no load was generated.
        routes: figures of each kind of request; empty if they are unknown.
        problems: why the window is unusable, one sentence each; empty for a valid window.
        remedy: what a person should do about the problems, as sentences; empty if there is no advice.
    """

    index: int = Field(ge=0)
    round: int = Field(ge=0)
    arm: Arm
    started_at: Timestamp
    duration_s: float = Field(ge=0)
    offered: int = Field(ge=0)
    sent: int = Field(ge=0)
    completed: int = Field(ge=0)
    bad: int = Field(ge=0)
    dropped: int = Field(ge=0)
    p95_ms: float | None = Field(ge=0)
    metric: float | None
    lag_p99_ms: float | None = Field(default=None, ge=0)
    routes: tuple[RouteFigures, ...] = ()
    problems: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def qps(self) -> float | None:
        """The number of completed requests per second; None if the window (measurement) had no duration."""
        return self.completed / self.duration_s if self.duration_s else None


@dataclass(frozen=True, slots=True)
class DataProblem:
    """A reason why windows (measurements) allow no verdict: one sentence, and what to do, if that is known."""

    sentence: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}" if self.remedy else self.sentence


class Thresholds(_Value):
    """The limits that decide the verdict of a rollout, with the names and defaults of the plan file.

    The judged figure is by default the P95 latency; arm A has the old flags, arm B the new ones. The change from arm A
    to arm B gives the verdict:

    - PASS: it is at most `pass_delta_p95_max`.
    - EDGE (a person decides): it is above that limit, and at most `edge_delta_p95_max`.
    - FAIL: it is above `edge_delta_p95_max`, or the error rate is too high.

    Attributes:
        pass_delta_p95_max: the greatest change of the judged figure, in percent of arm A, that can pass; negative for a
            decrease.
        edge_delta_p95_max: the change of the judged figure, in percent of arm A, above which the rollout fails.
        max_error_rate: error rate of arm B, in percent, at which the rollout fails.
        ab_balance_warn: difference between the numbers of completed requests of the two arms, in percent of the larger
            number, above which a warning is given.
        min_delta_qps: change of the throughput, in percent, below which a warning is given.
        max_route_delta_p95: change of one route's P95, in percent, above which a warning is given.
        max_drift: the greatest drift, in percent up or down, at which arm A counts as stable. The drift is the change
            of the judged figure from the first to the last window (measurement) of arm A, by a linear trend. A drift
            that is not significant is ignored.
        max_window_sd: the greatest standard deviation, in percent, with which arm A counts as stable. It describes how
            much the judged figure of arm A's windows varies around the linear trend.
    """

    model_config = ConfigDict(strict=True)

    pass_delta_p95_max: float = Field(default=-10.0, gt=-100, le=0)
    edge_delta_p95_max: float = Field(default=-5.0, gt=-100, le=100)
    max_error_rate: float = Field(default=1.0, gt=0, le=100)
    ab_balance_warn: float = Field(default=5.0, gt=0, le=100)
    min_delta_qps: float = Field(default=-20.0, ge=-100, lt=0)
    max_route_delta_p95: float = Field(default=25.0, gt=0)
    max_drift: float = Field(default=50.0, gt=0)
    max_window_sd: float = Field(default=50.0, gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.edge_delta_p95_max < self.pass_delta_p95_max:
            raise ValueError("edge_delta_p95_max must not be smaller than pass_delta_p95_max")
        return self


class DecisionPolicy(StrEnum):
    """The rule that decides a rollout.

    - `seed` (the rule of the first specification): only the estimates are compared with the thresholds.
    - `statistical`: for a PASS, the interval of the effect must also lie below 0, and the upper bound of the error rate
      below its limit.
    """

    STATISTICAL = "statistical"
    SEED = "seed"


class Effect(_Value):
    """A change from arm A (old flags) to arm B (new flags), in percent of arm A.

    Attributes:
        estimate_pct: the estimated change; negative if arm B is smaller.
        low_pct, high_pct: ends of the confidence interval; None without an interval. `high_pct` is also None if it is
            unlimited, or above 1,000 times arm A.
        level: confidence level of the interval, 0..1.
    """

    estimate_pct: float
    low_pct: float | None = None
    high_pct: float | None = None
    level: float | None = None


class RouteEffect(Effect):
    """The change of a route's P95 latency from arm A (old flags) to arm B (new flags).

    A route is a kind of request; `name` is its name.
    """

    name: str


class FactorEffects(_Value):
    """The separate effects of flow control and of routing, from the four arms (sets of flags) of a 2x2 plan.

    Attributes:
        flow: the effect of flow control, averaged over both routings.
        routing: the effect of routing, averaged over both flow controls.
        interaction: `r1 / r0 - 1` in percent; 0 if the two factors do not influence each other. `r1` and `r0` are
            ratios: the judged figure (the P95 latency, or the metric that the plan names) with the new flow control,
            divided by the figure with the old flow control. `r1` is measured with the new routing, `r0` with the old
            routing.
        attribution: one sentence that names the cause of the improvement, or says that it is unknown.
    """

    flow: Effect
    routing: Effect
    interaction: Effect
    attribution: str


class RolloutJudgement(_Value):
    """The verdict about a rollout, with all figures behind it; a figure that was not measured is None, never 0.

    Arm A has the old flags, arm B the new ones. A window is one measurement of an arm; a round has one window of each
    arm.

    Attributes:
        verdict: the verdict.
        reason: the reason for the verdict, in one sentence.
        policy: the rule that decided the verdict.
        delta_p95: change of the judged figure (the P95 latency, or the metric that the plan names) from arm A to B in
            percent, with its interval.
        delta_qps_pct: change of the completed requests per second, in percent of arm A.
        error_rate_pct: failed requests of arm B, in percent of its completed requests.
        error_rate_upper_pct: upper end of the 95 % confidence interval of `error_rate_pct`.
        ab_imbalance_pct: difference between the completed requests of arms A and B, in percent of the larger number.
        windows: for each arm, the number of windows whose judged figure was measured. Windows of incomplete rounds do
            not count.
        window_sd_pct: how much the change varies between rounds, about in percent: the standard deviation of the log
            ratio of arm B to arm A, times 100.
        minimum_detectable_effect_pct: the smallest true improvement, as a negative percentage, that this number of
            rounds finds with a power of 80 %.
        rounds_needed: number of rounds with which a true change of `detected_pct` of the plan passes with a
            probability of 80 %. None after fewer than 2 rounds, or if it exceeds `MAX_ROUNDS`.
        false_pass_rate: probability, 0..1, of a PASS by chance: the share of simulated rollouts with equal arms that
            pass by this plan.
        warnings: one sentence each; they do not change the verdict.
        problems: why the data are invalid, one sentence each.
        remedies: problems whose cause a person can remove, each followed by what to do.
        routes: change of the P95 latency of each kind of request.
        factors: the separate effects of flow control and routing, if the plan measures four arms (`factorial`);
            otherwise None.
        stopped_early: whether an early look (interim analysis) ended the measurement before its planned last round.
        early_stop: one sentence: the result of the early look that ended the measurement, or that no look ended it. None
            if the plan has no `early_stop`.
    """

    verdict: Verdict
    reason: str
    policy: DecisionPolicy
    delta_p95: Effect | None = None
    delta_qps_pct: float | None = None
    error_rate_pct: float | None = None
    error_rate_upper_pct: float | None = None
    ab_imbalance_pct: float | None = None
    windows: dict[Arm, int] = {}
    window_sd_pct: float | None = None
    minimum_detectable_effect_pct: float | None = None
    rounds_needed: int | None = None
    false_pass_rate: float | None = None
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    routes: tuple[RouteEffect, ...] = ()
    factors: FactorEffects | None = None
    stopped_early: bool = False
    early_stop: str | None = None


class GateFigures(_Value):
    """The result of one gate: a condition on the difference of a metric between a variant and the baseline.

    Attributes:
        metric: the metric.
        gate: the condition as text, such as `success>=-0.02` or `latency_ms is better`.
        verdict: the verdict of this gate.
        reason: the reason for the verdict, in one sentence.
        estimate: the mean of the variant minus the mean of the baseline, in the metric's own unit. For a gate
            with a bound in percent of the baseline, it is the mean of the variant minus the bound. With
            `latency_ms<=5%`, the bound is 1.05 times the mean of the baseline.
        low, high: ends of the interval of the estimate; None if the interval is unlimited on this side, or if there is
            no interval.
        interval_method: name of the method of the interval, or why it has no bounds; None if unknown.
        pairs: number of compared tasks, or of clusters of tasks; 0 if the metric could not be compared.
        minimum_detectable_effect: the smallest true difference that this run finds with a power of 80 %.
        false_pass_rate: share of simulated runs of equal variants that this gate passes, 0..1.
    """

    metric: str
    gate: str
    verdict: Verdict
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    interval_method: str | None = None
    pairs: int = 0
    minimum_detectable_effect: float | None = None
    false_pass_rate: float | None = None


class ExperimentEvidence(_Value):
    """The comparison of two variants in a run of an experiment, which decides a rollout without measurements.

    Attributes:
        run_id: the id of the run.
        run_dir: the folder of the run.
        baseline: the variant that stands for the flags before the rollout (arm A).
        variant: the variant that stands for the new flags (arm B).
        level: probability that all intervals of the comparison hold at the same time; None without intervals.
        gates: the results of the variant's gates (conditions on differences from the baseline).
    """

    run_id: str
    run_dir: str
    baseline: str
    variant: str
    level: float | None
    gates: tuple[GateFigures, ...]


@dataclass(frozen=True, slots=True)
class ExperimentQuestion:
    """A question that the results of an experiment's run answer: may a variant replace the baseline?

    Attributes:
        root: the project's folder, which contains the run.
        run: the folder or id of the run.
        variant: the variant; None for the only one besides the baseline.
        baseline: the variant to compare with; None for the baseline of the experiment's configuration.
        metrics: metrics in which the variant must be better. If `metrics` and `gates` are both empty, the variant must
            be better in the primary metrics.
        gates: conditions on the differences, such as `success>=-0.02`.
    """

    root: Path
    run: Path
    variant: str | None = None
    baseline: str | None = None
    metrics: Sequence[str] = ()
    gates: Sequence[str] = ()
