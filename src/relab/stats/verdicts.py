"""Verdicts: what an interval says about a gate. The judge of experiments, rollouts and builds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from relab.stats.intervals import LEVEL, Interval
from relab.stats.paired import Clusters, interval_of
from relab.stats.power import POWER


class Verdict(StrEnum):
    """What was decided. EDGE is neither: the data allow both; INVALID means that they allow no judgement."""

    PASS = "PASS"  # noqa: S105 a verdict
    EDGE = "EDGE"
    FAIL = "FAIL"
    INVALID = "INVALID"


_SEVERITY = (Verdict.PASS, Verdict.EDGE, Verdict.INVALID, Verdict.FAIL)
_MAX_GATE_LENGTH = 300
# No part can match what another does, so that text of any kind is read in one go.
_GATE = re.compile(r"(?P<metric>[^<>=]+)(?P<sign>[<>]=)(?P<number>[^<>=%]+)(?P<percent>%?)")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Gate:
    """What the difference between variant and baseline must be.

    Attributes:
        at_least: whether the difference must not lie below the threshold; else not above.
        threshold: in the unit of the metric, or as a share of the baseline if `is_relative`.
    """

    metric: str
    at_least: bool
    threshold: float
    is_relative: bool = False

    def __str__(self) -> str:
        # Digits enough for any threshold that was written, and none of the rounding of a percentage.
        number = f"{self.threshold * 100:.12g}%" if self.is_relative else f"{self.threshold:.12g}"
        return f"{self.metric}{'>=' if self.at_least else '<='}{number}"

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read `success>=-0.02` or `latency_ms<=5%`: a bound of variant less baseline.

        A metric's name is any printable text without `<`, `>` and `=`.

        Raises:
            ValueError: the text is no gate, or longer than 300 characters.
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
        """Return what an interval of the difference says: PASS or FAIL only if all of it does.

        Args:
            interval: of the difference, in the unit of the threshold.
            threshold: instead of the gate's own, for an interval in another unit.
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
    """How much larger a run would decide a gate with a chance of 80 %, if the true difference were known.

    Attributes:
        assumed: why this true difference is taken, as it should be named to a reader.
        difference: the true difference that is assumed; verdict: what a large enough run says then.
        tasks: how many at the run's own repeats; None if no number does.
        repeats: how many at the run's own tasks; None if no number does, or it is not known how much repeats vary.
    """

    assumed: str
    difference: float
    verdict: Verdict
    tasks: int | None
    repeats: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and all that it rests on.

    Attributes:
        reason: one sentence.
        windows: how many independent observations there are: clusters of tasks, or windows of time.
        minimum_detectable_effect: the difference that so many would show with 80 %.
        rerun_chance: of a PASS or FAIL, how often another run of this size would say the same if the true difference
            were the estimate; below 80 % the verdict is near its bound.
        needed: what would decide it; see `Needed`.
        false_pass_rate: how often this very procedure passes data like these that lie exactly on the threshold.
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
        """Whether a PASS or FAIL lies so near its bound that another run might well not repeat it."""
        return self.rerun_chance is not None and self.rerun_chance < POWER


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict on several gates together: FAIL before INVALID before EDGE before PASS.

    Raises:
        ValueError: there are none.
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
    """Measure how often the gate passes by chance.

    Clusters are moved so that their mean lies on the threshold, drawn anew with replacement, and judged as the
    real ones are. None where nothing varies: then there is nothing to draw from.

    Args:
        clusters: the differences that the gate is for.
        gate: that is judged.
        threshold: in the unit of the differences, where the true mean is put: 0 for a relative gate.
        bounds: the least and the greatest difference there can be; they move with the clusters.
        runs: draws; with 200 a rate of 5 % is measured to within 3 points.
        resamples: of each draw's bootstrap; fewer than a verdict's, for speed. Where events are rare that can change
            the rate; see `relab.stats.paired.RESAMPLES`.
        seed: of all of it.
        level: of the interval that is judged, 0..1.

    Raises:
        ValueError: the threshold is not finite, or there is no run.
    """
    if not math.isfinite(threshold) or runs < 1:
        raise ValueError(f"a finite threshold and a run at least are needed, not {threshold} and {runs}")
    width = 0.0 if bounds is None else bounds[1] - bounds[0]
    if clusters.count < 2 or not clusters.varies(width):
        return None
    import numpy as np

    random = np.random.default_rng(seed % 2**64)
    shift = threshold - clusters.mean
    moved = clusters.sums + shift * clusters.sizes
    limits = None if bounds is None else (bounds[0] + shift, bounds[1] + shift)
    passes = 0
    for _ in range(runs):
        drawn = random.integers(0, clusters.count, size=clusters.count)
        sample = Clusters(moved[drawn], clusters.sizes[drawn])
        # Seeds are drawn too: with the seed itself the bootstrap would repeat the draw that it is to judge.
        draw = int(random.integers(2**32))
        interval = interval_of(sample, level=level, bounds=limits, seed=draw, resamples=resamples)
        passes += gate.judge(interval, threshold) is Verdict.PASS
    return passes / runs
