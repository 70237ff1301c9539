"""Verdicts: compare a confidence interval with a gate. Used for experiments, rollouts and builds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from relab.stats.intervals import LEVEL, Interval
from relab.stats.power import POWER

if TYPE_CHECKING:
    from relab.stats.paired import Clusters


class Verdict(StrEnum):
    """The decision whether a variant passes a gate, which bounds the variant's difference from the baseline.

    EDGE: the data are compatible with both PASS and FAIL. INVALID: the data allow no decision.
    """

    PASS = "PASS"  # noqa: S105 a verdict
    EDGE = "EDGE"
    FAIL = "FAIL"
    INVALID = "INVALID"


_SEVERITY = (Verdict.PASS, Verdict.EDGE, Verdict.INVALID, Verdict.FAIL)
_MAX_GATE_LENGTH = 300
# No two parts can match the same character, so that matching takes linear time for any text.
_GATE = re.compile(r"(?P<metric>[^<>=]+)(?P<sign>[<>]=)(?P<number>[^<>=%]+)(?P<percent>%?)")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on the difference (variant minus baseline) in one metric.

    Attributes:
        metric: name of the metric.
        at_least: True if the threshold is the lower bound of the difference, False if it is the upper bound.
        threshold: the bound, in the unit of the metric; if `is_relative`, as a share of the baseline.
        is_relative: whether the difference is measured as a share of the baseline.
    """

    metric: str
    at_least: bool
    threshold: float
    is_relative: bool = False

    def __str__(self) -> str:
        # Enough digits for every written threshold, without the rounding error of a percentage.
        number = f"{self.threshold * 100:.12g}%" if self.is_relative else f"{self.threshold:.12g}"
        return f"{self.metric}{'>=' if self.at_least else '<='}{number}"

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Return the gate that a text describes, such as `success>=-0.02` or `latency_ms<=5%`.

        The number bounds the difference of the variant from the baseline; with `%` it is a share of the baseline. A
        metric's name is any printable text without `<`, `>` and `=`.

        Raises:
            ValueError: the text is not a gate, or is longer than 300 characters.
        """
        match = _GATE.fullmatch(text.strip()) if len(text) <= _MAX_GATE_LENGTH else None
        metric, number = (match["metric"].strip(), match["number"].strip()) if match else ("", "")
        is_number = _NUMBER.fullmatch(number) is not None and math.isfinite(float(number))
        if match is None or not metric or not metric.isprintable() or not is_number:
            shown = text if len(text) <= _MAX_GATE_LENGTH else text[: _MAX_GATE_LENGTH - 3] + "..."
            raise ValueError(
                f"{shown!r} is no gate; write a metric, >= or <=, and the least or greatest difference from the "
                "baseline, such as success>=-0.02 or latency_ms<=5%"
            )
        is_relative = bool(match["percent"])
        return cls(metric, match["sign"] == ">=", float(number) / (100 if is_relative else 1), is_relative)

    def judge(self, interval: Interval, threshold: float | None = None) -> Verdict:
        """Return the verdict of this gate on the confidence interval of a difference.

        Args:
            interval: interval of the difference (variant minus baseline), in the unit of the threshold.
            threshold: the bound in the unit of the interval; None for the gate's own threshold.

        Returns:
            - PASS: the whole interval meets the bound.
            - FAIL: the whole interval violates the bound.
            - EDGE: the bound lies inside the interval.
            - INVALID: an end of the interval, or the bound, is nan.
        """
        bound = self.threshold if threshold is None else threshold
        if math.isnan(interval.low) or math.isnan(interval.high) or math.isnan(bound):
            return Verdict.INVALID
        low, high = (interval.low, interval.high) if self.at_least else (-interval.high, -interval.low)
        bound = bound if self.at_least else -bound
        if low >= bound:
            return Verdict.PASS
        return Verdict.FAIL if high < bound else Verdict.EDGE


@dataclass(frozen=True, slots=True)
class Needed:
    """The size that a run needs to decide a gate (limit) with a probability of 80 %, under an assumed true difference.

    Attributes:
        assumed: why this true difference is assumed, as shown to a reader.
        difference: the assumed true difference.
        verdict: the verdict that a large enough run would get.
        tasks: number of tasks needed with the run's repeats; None if no number is enough.
        repeats: number of repeats needed with the run's tasks; None if no number is enough, or if the variance between
            repeats is unknown.
    """

    assumed: str
    difference: float
    verdict: Verdict
    tasks: int | None
    repeats: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a gate (a limit on a difference), with the figures behind it.

    Attributes:
        verdict: the verdict.
        reason: the reason for the verdict, in one sentence.
        estimate: the estimated difference, variant minus baseline; None if it cannot be computed. For a relative gate,
            it is the variant minus (1 + threshold) times the baseline, so that the bound is 0.
        interval: the confidence interval of the estimate; None if it cannot be computed.
        windows: number of clusters from which the estimate was made. A cluster is a group of observations, such as the
            trials of one task; observations of different clusters are independent.
        minimum_detectable_effect: the smallest true difference that a test of this size detects with a probability of
            80 %; None if unknown.
        false_pass_rate: the share, 0..1, of simulated data sets that pass the gate although their true mean lies on the
            threshold; None if it was not simulated.
        rerun_chance: the probability that another run of this size gets the same verdict, if the true difference equals
            the estimate. None if unknown, or for a verdict other than PASS or FAIL.
        needed: for the verdict EDGE (PASS and FAIL are both possible), the sizes of a run that would decide the gate,
            each under one assumed true difference. Empty for other verdicts.
    """

    verdict: Verdict
    reason: str
    estimate: float | None = None
    interval: Interval | None = None
    windows: int = 0
    minimum_detectable_effect: float | None = None
    false_pass_rate: float | None = None
    rerun_chance: float | None = None
    needed: tuple[Needed, ...] = ()

    @property
    def is_near(self) -> bool:
        """Whether the verdict is PASS or FAIL, but so near the gate's bound that a new run may get another verdict.

        A verdict is near if another run of this size gets the same verdict with a probability below 80 %.
        """
        return self.rerun_chance is not None and self.rerun_chance < POWER


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of several verdicts: from worst to best FAIL, INVALID, EDGE, PASS.

    Raises:
        ValueError: `verdicts` is empty.
    """
    if not verdicts:
        raise ValueError("without a gate there is no verdict")
    return max(verdicts, key=_SEVERITY.index)


def false_pass_rate(
    clusters: Clusters,
    gate: Gate,
    threshold: float,
    *,
    bounds: tuple[float, float] | None = None,
    runs: int = 200,
    resamples: int = 999,
    seed: int = 0,
    level: float = LEVEL,
) -> float | None:
    """Estimate how often (0..1) a sample passes a gate by chance if its true mean lies on the threshold.

    The differences are shifted so that their mean is `threshold`. Each simulated sample draws from their clusters
    (groups of dependent values) with replacement. Return None if there is only one cluster, or if clusters do not vary.

    Args:
        clusters: the differences that the gate judges, summed by cluster.
        gate: the gate.
        threshold: the assumed true mean, in the unit of the differences. Use 0 for a relative gate: its differences
            are the variant minus (1 + the gate's threshold) times the baseline.
        bounds: smallest and largest possible difference; None if there are no limits.
        runs: number of simulated samples; 200 measure a rate of 5 % to within 3 percentage points.
        resamples: bootstrap draws per sample; with fewer draws, each interval and so the rate are less exact.
        seed: seed of the simulation.
        level: confidence level of the judged interval, 0..1.

    Raises:
        ValueError: the threshold is not finite, `runs` is below 1, or the level is not between 0 and 1.
    """
    if not math.isfinite(threshold) or runs < 1:
        raise ValueError(f"a finite threshold and a run at least are needed, not {threshold} and {runs}")
    width = 0.0 if bounds is None else bounds[1] - bounds[0]
    if clusters.count < 2 or not clusters.varies(width):
        return None
    import numpy as np

    from relab.stats.paired import Clusters, interval_of

    random = np.random.default_rng(seed % 2**64)
    shift = threshold - clusters.mean
    moved = clusters.sums + shift * clusters.sizes
    limits = None if bounds is None else (bounds[0] + shift, bounds[1] + shift)
    passes = 0
    for _ in range(runs):
        drawn = random.integers(0, clusters.count, size=clusters.count)
        sample = Clusters(moved[drawn], clusters.sizes[drawn])
        # Each bootstrap gets a new random seed: with `seed` itself it would repeat the draw of the sample.
        draw = int(random.integers(2**32))
        interval = interval_of(sample, level=level, bounds=limits, seed=draw, resamples=resamples)
        passes += gate.judge(interval, threshold) is Verdict.PASS
    return passes / runs
