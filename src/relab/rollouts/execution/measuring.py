"""Measure windows: one arm after the other under a generated load, or all arms at once in the service's traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.load.models import LatencySummary, LoadPlan, LoadResult, Mix, Stage
from relab.load.service import (
    LatencyHistogram,
    built_in_mix,
    built_in_names,
    check_target,
    make_plan,
    read_mix,
    run_load,
)
from relab.rollouts.errors import MetricMissingError
from relab.rollouts.execution.halt import Halt
from relab.rollouts.judging import window_quantile_ms
from relab.rollouts.judging.rollout_data import is_judgeable
from relab.rollouts.models import Arm, ArmWindow, DataProblem, RouteFigures
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import PlannedWindow
from relab.rollouts.targets.metrics import MetricReading
from relab.rollouts.targets.opening import RolloutTarget

_MAX_WINDOW_S = 3_600.0
_CHECK_REQUESTS = "Check `requests` in `subject.metric`."
_CHECK_ERRORS = "Check `errors` in `subject.metric`; in a Prometheus query of errors, write `… or vector(0)`."


@dataclass(frozen=True, slots=True)
class LoadMeasurement:
    """Measures the arms (sets of flags) one after the other, with a generated load of requests.

    A window is one measurement of an arm; a round has one window of each arm. All windows of a round get the same
    requests.

    Attributes:
        plan: the plan of the rollout.
        mix: the requests of the load.
        target: the target with its metric.
        clock: the wall clock, for the times in the measurements.
    """

    plan: Plan
    mix: Mix
    target: RolloutTarget
    clock: Clock

    def measure(self, window: PlannedWindow, halt: Halt) -> ArmWindow | None:
        """Send the load of a window to the target, and return the measured figures; None if `halt` stopped the load.

        A window is one measurement of an arm (set of flags). The flags of the arm must be in force.

        Raises:
            TargetUnavailableError: the source of the metric does not answer.
            ClockSkewError: the source's clock shows another time than this machine's clock.
            SubjectError: the query of the metric is wrong.
        """
        # All windows of a round have the same seed, so that they get the same requests; each round has another seed.
        result = run_load(self._load_plan(self.plan.experiment.seed + window.round), stop=halt)
        if result.stopped or halt.is_set() or not _wait_for_metric(self.target, halt):
            return None
        return self.figures(window, result)

    def check(self) -> None:
        """Check that the load can be sent, and that the source of the metric can be read.

        Raises:
            RemoteTargetError: the target is another machine, and the plan does not allow that.
            UnreachableTargetError: the target accepts no connections.
            TargetUnavailableError, ClockSkewError, SubjectError: the metric cannot be read.
        """
        check_target(self._load_plan(0))
        _check_metric(self.plan, self.target, self.clock)

    def figures(self, window: PlannedWindow, result: LoadResult) -> ArmWindow:
        """Return the figures of one window of a rollout.

        Counts and latencies are those of the load. If the target has a metric, its source is asked for it.

        Args:
            window: the planned window.
            result: the result of the load in this window.
        """
        counts = result.counts
        p95_ms = self._p95_ms(result.latency, result.good_latency)
        ended_at = result.started_at + int(result.planned_s * 1e6)
        metric = p95_ms
        absence = DataProblem("No request has a latency.", "Raise `qps` or `window_sec`.")
        if self.target.metric is not None:
            reading = self.target.metric.read(self.target.label_of(window.arm), result.started_at, ended_at)
            metric, absence = reading.metric, self.target.metric.absence
        problems = () if metric is not None else (absence.sentence,)
        return ArmWindow(
            index=window.index,
            round=window.round,
            arm=window.arm,
            started_at=result.started_at,
            duration_s=result.planned_s,
            offered=counts.offered,
            sent=counts.offered - counts.dropped,
            completed=counts.good + counts.bad,
            bad=counts.bad,
            dropped=counts.dropped,
            p95_ms=p95_ms,
            metric=metric,
            lag_p99_ms=result.generator.lag_p99_ms,
            routes=tuple(
                RouteFigures(
                    name=route.name,
                    completed=route.counts.good + route.counts.bad,
                    bad=route.counts.bad,
                    p95_ms=self._p95_ms(route.latency, route.good_latency),
                )
                for route in result.routes
            ),
            problems=problems,
            remedy=absence.remedy if problems else "",
        )

    def _load_plan(self, seed: int) -> LoadPlan:
        experiment = self.plan.experiment
        return make_plan(
            url=self.target.base_url,
            mix=self.mix,
            stages=[Stage(duration_s=experiment.window_sec, rate_per_s=experiment.qps)],
            arrivals=experiment.arrivals,
            seed=seed,
            warmup_s=experiment.warmup_sec,
            window_s=min(experiment.window_sec, _MAX_WINDOW_S),
            timeout_s=experiment.request_timeout,
            max_in_flight=experiment.max_in_flight,
            allow_remote=self.plan.subject.allow_remote,
        )

    def _p95_ms(self, every: LatencySummary, good: LatencySummary) -> float | None:
        return window_quantile_ms(
            LatencyHistogram.decode(every.histogram),
            LatencyHistogram.decode(good.histogram),
            timeout_ms=self.plan.experiment.request_timeout * 1_000,
        )


@dataclass(frozen=True, slots=True)
class LiveMeasurement:
    """Measures a service's own traffic; each arm (set of flags) gets a share of it at the same time.

    Attributes:
        plan: the plan, with the length of the windows (measurements) and of the warm-ups.
        target: the target, with the source of the judged metric.
        clock: the wall clock, for the times in the measurements.
    """

    plan: Plan
    target: RolloutTarget
    clock: Clock

    def check(self) -> None:
        """Check that the source of the metric can be read.

        Raises:
            TargetUnavailableError, ClockSkewError, SubjectError: the metric cannot be read.
        """
        _check_metric(self.plan, self.target, self.clock)

    def measure_round(self, windows: Sequence[PlannedWindow], halt: Halt) -> tuple[ArmWindow, ...] | None:
        """Measure all arms (sets of flags) at once: wait for the warm-up and the measured time; return all figures.

        Return None if `halt` ended the wait.

        Raises:
            TargetUnavailableError: the source of the metric does not answer.
            ClockSkewError: the source's clock shows another time than this machine's clock.
            SubjectError: a query of the metric is wrong.
        """
        if not halt.sleep(self.plan.experiment.warmup_sec):
            return None
        started_at = self.clock.now_us()
        if not halt.sleep(self.plan.experiment.window_sec):
            return None
        assert self.target.metric is not None
        if not _wait_for_metric(self.target, halt):
            return None
        ended_at = started_at + int(self.plan.experiment.window_sec * 1e6)
        return tuple(
            self._figures(
                window, started_at, self.target.metric.read(self.target.label_of(window.arm), started_at, ended_at)
            )
            for window in windows
        )

    def _figures(self, window: PlannedWindow, started_at: int, reading: MetricReading) -> ArmWindow:
        assert self.target.metric is not None
        missing = [
            problem
            for problem, value in (
                (self.target.metric.absence, reading.metric),
                (DataProblem("The number of requests has no value.", _CHECK_REQUESTS), reading.requests),
                (DataProblem("The number of errors has no value.", _CHECK_ERRORS), reading.errors),
            )
            if value is None
        ]
        requests = reading.requests or 0
        return ArmWindow(
            index=window.index,
            round=window.round,
            arm=window.arm,
            started_at=started_at,
            duration_s=self.plan.experiment.window_sec,
            offered=requests,
            sent=requests,
            completed=requests,
            bad=min(reading.errors or 0, requests),
            dropped=0,
            p95_ms=None,
            metric=reading.metric,
            problems=tuple(problem.sentence for problem in missing),
            remedy=" ".join(problem.remedy for problem in missing),
        )


def _wait_for_metric(target: RolloutTarget, halt: Halt) -> bool:
    """Wait until the metric of the last window (measurement) can be read; return False if `halt` ended the wait."""
    return target.metric is None or halt.sleep(target.metric.delay_s)


def _check_metric(plan: Plan, target: RolloutTarget, clock: Clock) -> None:
    """Read the metric once, so that a wrong address or query is found before the first change of flags.

    The metric is read for a time of `window_sec` seconds that ended `delay_s` seconds ago. A missing value is not an
    error.

    Raises:
        TargetUnavailableError, ClockSkewError, SubjectError: the metric cannot be read.
    """
    if target.metric is not None:
        # The source has its last values only after this delay.
        ended_at = clock.now_us() - int(target.metric.delay_s * 1e6)
        started_at = ended_at - int(plan.experiment.window_sec * 1e6)
        target.metric.read(target.label_of(Arm.A), started_at, ended_at)


def measurement_of(plan: Plan, target: RolloutTarget, clock: Clock) -> LoadMeasurement | LiveMeasurement:
    """Return the measurement that a plan describes: of the service's own traffic, or of a generated load.

    Raises:
        MixError: the plan's mix of requests does not exist or is invalid.
    """
    if plan.subject.live:
        return LiveMeasurement(plan, target, clock)
    return LoadMeasurement(plan, mix_of(plan.experiment.mix), target, clock)


def mix_of(name: str) -> Mix:
    """Return the built-in request mix with this name; if there is none, the mix in the file with this path.

    Raises:
        MixError: there is no such mix or file, or the file is invalid.
    """
    return built_in_mix(name) if name in built_in_names() else read_mix(Path(name))


def require_figures(*windows: ArmWindow) -> None:
    """Check that each window (the record of one measurement) was measured without problems and has a usable figure.

    Raises:
        MetricMissingError: a window fails this check. Further measurements are useless, because the verdict would be
            INVALID.
    """
    for window in windows:
        if not is_judgeable(window):
            raise MetricMissingError(f"It was not measured, because window {window.index + 1} cannot be judged.")


def unmeasured(
    planned: Sequence[PlannedWindow], measured: Sequence[ArmWindow], at: int, error: RelabError
) -> list[ArmWindow]:
    """Return a window without figures (`unusable`) for each planned window that is not among the measured ones.

    `at` is the current time in microseconds since 1970, and `error` the reason why these windows were not measured.
    """
    done = {window.index for window in measured}
    return [unusable(window, at, error) for window in planned if window.index not in done]


def unusable(window: PlannedWindow, at: int, error: RelabError | str) -> ArmWindow:
    """Return the record of a window (measurement) that gave no figures, with the message and the remedy of `error`.

    Args:
        window: the planned window.
        at: the current time, in microseconds since 1970.
        error: the error.
    """
    return ArmWindow(
        index=window.index,
        round=window.round,
        arm=window.arm,
        started_at=at,
        duration_s=0,
        offered=0,
        sent=0,
        completed=0,
        bad=0,
        dropped=0,
        p95_ms=None,
        metric=None,
        problems=(error if isinstance(error, str) else error.message,),
        remedy="" if isinstance(error, str) else error.remedy or "",
    )
