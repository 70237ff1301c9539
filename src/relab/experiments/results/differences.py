"""Compute the difference between a variant and the baseline in a metric: paired by task, or from two samples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from relab.experiments.results.aggregates import ERRORS_DROPPED, MAX_FIGURE, TaskMeans, TrialData, sum_by_group
from relab.experiments.results.run_metadata import SUCCESS
from relab.stats.intervals import LEVEL, Interval
from relab.stats.paired import Clusters, PairedDelta, paired_delta
from relab.stats.power import minimum_detectable_effect
from relab.stats.sequential import always_valid_interval, always_valid_test
from relab.stats.simultaneous import Errors, Joint, joint_level
from relab.stats.two_sample import TestResult
from relab.stats.unpaired import UnpairedDelta, unpaired_delta

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

MIN_CLUSTERS: Final = 2
RATES: Final = frozenset((SUCCESS, ERRORS_DROPPED))


@dataclass(frozen=True, slots=True)
class Delta:
    """The difference of a metric between a variant and the baseline: variant minus baseline.

    Attributes:
        metric: the requested metric.
        source_name: the name under which the values are stored, such as `duration_ms` for `latency_ms`.
        baseline_mean, variant_mean: the means over the tasks that are compared.
        estimate: variant minus baseline. For a relative gate, such as the condition "at most 5 % more", variant minus
            1.05 times baseline.
        interval: the confidence interval of the estimate; None if the data cannot be compared.
        test: the significance test for a true difference of zero; None if the data cannot be compared.
        standard_error: the standard error of the estimate.
        tasks: the number of compared tasks. In an unpaired comparison, variant and baseline may have different numbers
            of tasks; this is the smaller number.
        clusters: the number of independent groups of these tasks.
        unpaired_tasks: the number of tasks for which only the variant or only the baseline has values.
        minimum_detectable_effect: the smallest difference that this sample detects with 80 % power; None if unknown.
        differences: the sum of the tasks' differences in each cluster; None for an unpaired comparison.
        repeat_variance: the part of the estimate's variance that more repeats would reduce; None if no task is
            repeated.
        is_always_valid: whether interval and test stay valid if the run stops early because of its results.
        problem: why the difference cannot be judged: no comparable data, or too few clusters. None if it can be judged.
    """

    metric: str
    source_name: str
    baseline_mean: float | None
    variant_mean: float | None
    estimate: float | None = None
    interval: Interval | None = None
    test: TestResult | None = None
    standard_error: float | None = None
    tasks: int = 0
    clusters: int = 0
    unpaired_tasks: int = 0
    minimum_detectable_effect: float | None = None
    differences: Clusters | None = None
    repeat_variance: float | None = None
    is_always_valid: bool = False
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the difference between variant and baseline as a JSON object; infinite values are None."""
        mean = self.baseline_mean
        relative = self.estimate / abs(mean) if self.estimate is not None and mean else None
        return {
            "metric": self.metric,
            "source_name": self.source_name,
            "baseline_mean": finite(self.baseline_mean),
            "variant_mean": finite(self.variant_mean),
            "delta": finite(self.estimate),
            "relative_delta": finite(relative),
            "interval": interval_json(self.interval),
            "test": significance_json(self.test),
            "standard_error": finite(self.standard_error),
            "tasks": self.tasks,
            "clusters": self.clusters,
            "unpaired_tasks": self.unpaired_tasks,
            "minimum_detectable_effect": finite(self.minimum_detectable_effect),
            "always_valid": self.is_always_valid,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The data of one comparison, before its interval is computed. `sample_of` creates it.

    Attributes:
        delta: the difference, whose interval and test are not computed yet. Its `problem` says why the sample is not
            comparable.
        share: for a limit relative to the baseline, such as `<=5%`, its percentage as a fraction (0.05); 0 for other
            limits. The variant is compared with the baseline times 1 + share.
        pairs: for a paired comparison, the difference of each task, and the index of each task's cluster (a group of
            tasks that depend on each other); else None.
        arms: for an unpaired comparison, the figures of the baseline (times 1 + share) and of the variant: for each
            cluster, the sum of its tasks' means. Else None.
        is_sequential: whether the run could stop early; the pairs are then in the order of the plan.
    """

    delta: Delta
    share: float = 0.0
    pairs: tuple[Floats, Ints] | None = None
    arms: tuple[Clusters, Clusters] | None = None
    is_sequential: bool = False

    @property
    def is_comparable(self) -> bool:
        """Whether there is enough data for a confidence interval of the difference."""
        return self.pairs is not None or self.arms is not None

    def errors(self) -> Errors | None:
        """Return the contribution of each cluster to the statistical error of the estimated difference.

        A cluster is a group of tasks that depend on each other. The correlation between several comparisons is
        computed from these contributions. Return None if the comparison is unpaired or has too little data, or if the
        run could stop early.
        """
        if self.pairs is None or self.is_sequential:
            return None
        import numpy as np  # noqa: PLC0415 takes longer to load than most commands take

        differences, groups = self.pairs
        return Errors(np.unique(groups), sum_by_group(differences, groups).spread)

    def estimate(self, *, level: float = LEVEL, seed: int = 0) -> Delta:
        """Return the difference between variant and baseline, with its confidence interval and significance test.

        If there is too little data for an interval (`is_comparable` is False), interval and test are None.

        Args:
            level: the confidence level of the interval, 0 to 1.
            seed: the seed of the resampling.
        """
        name, found = self.delta.source_name, None
        if self.pairs is not None:
            differences, numbers = self.pairs
            if self.is_sequential:
                return _always_valid(self.delta, differences, level, rate_bounds(name, self.share))
            groups: list[Hashable] | None = numbers.tolist() if bool((numbers >= 0).any()) else None
            bounds = rate_bounds(name, self.share)
            found = paired_delta(differences.tolist(), groups, level=level, bounds=bounds, seed=seed)
            return _with_figures(replace(self.delta, differences=sum_by_group(differences, numbers)), found)
        if self.arms is not None:
            is_rate = name in RATES and not self.share
            return _with_figures(self.delta, unpaired_delta(*self.arms, level=level, is_rate=is_rate))
        return self.delta


def joint_of(samples: Sequence[Sample], level: float = LEVEL) -> Joint:
    """Return the confidence level that each interval needs, so that all intervals together have the level `level`.

    The joint level (0 to 1) is the probability that every interval contains its true difference. Ignore samples that
    have too little data for an interval (`is_comparable` is False).
    """
    return joint_level([sample.errors() for sample in samples if sample.is_comparable], level=level)


def sample_of(
    data: TrialData, metric: str, *, baseline: str, variant: str, is_paired: bool = True, share: float = 0.0
) -> Sample:
    """Collect the data to compare a variant with the baseline in one metric.

    If the metric cannot be compared, the sample's `delta.problem` says why.

    Args:
        data: the values of the run's metrics.
        metric: `success`, `ERRORS_DROPPED` (success without the trials that ended in an error), or a metric of the
            trials.
        baseline: the id of the baseline.
        variant: the id of the variant.
        is_paired: whether tasks are paired; if not, the variants are two independent samples of tasks.
        share: for a limit relative to the baseline, such as `<=5%`, its percentage as a fraction (0.05); 0 for other
            limits. The variant is compared with the baseline times 1 + share.
    """
    name = metric if metric == ERRORS_DROPPED else data.name_of(metric)
    if name is None:
        return Sample(Delta(metric, metric, None, None, problem=f"no trial has a figure for {metric!r}"))
    arms = data.task_means(baseline, name), data.task_means(variant, name)
    base = Delta(metric, name, _mean(arms[0]), _mean(arms[1]))
    if name in data.partial:
        problem = f"{metric!r} counts from the fork on for a fork, but from the beginning for its parent; use --control"
        return Sample(replace(base, problem=problem))
    for side, arm in zip((baseline, variant), arms, strict=True):
        if not arm.tasks.size:
            return Sample(replace(base, problem=f"{side!r} has no figure for {metric!r}"))
        if not arm.can_be_summed:
            return Sample(replace(base, problem=f"{side!r} has a figure for {metric!r} over {MAX_FIGURE:g}"))
    if not is_paired:
        return _unpaired(base, *arms, share=share)
    return _paired(base, *arms, share=share, sequence=data.sequence(baseline, variant))


def rate_bounds(name: str, share: float = 0.0) -> tuple[float, float] | None:
    """Return the smallest and the largest possible difference of a rate; None for a metric that is not a rate.

    The difference is the variant's rate minus (1 + `share`) times the baseline's rate.

    Args:
        name: the name of the metric.
        share: the percentage of a relative gate as a fraction, such as 0.05 for `<=5%`; 0 for other gates.
    """
    if name not in RATES:
        return None
    factor = 1 + share
    return min(0.0, -factor), 1 + max(0.0, -factor)


def finite(value: float | None) -> float | None:
    """Return a finite number unchanged; None for an infinity, NaN or None."""
    return None if value is None or not math.isfinite(value) else value


def interval_json(interval: Interval | None) -> dict[str, Any] | None:
    """Return an interval as `{low, high, level, method}`, where an infinite end is None; return None for None."""
    if interval is None:
        return None
    return {
        "low": finite(interval.low),
        "high": finite(interval.high),
        "level": interval.level,
        "method": interval.method,
    }


def joint_json(joint: Joint) -> dict[str, Any]:
    """Return the number of comparisons of a run and their confidence levels, as a JSON object.

    Keys: `comparisons`, `level_each` (of each single interval), `level_together` (of all intervals at once), `method`.
    """
    return {
        "comparisons": joint.comparisons,
        "level_together": joint.level,
        "level_each": joint.each,
        "method": joint.method,
    }


def significance_json(test: TestResult | None) -> dict[str, Any] | None:
    """Return a significance test as `{name, p_value, statistic}`; return None for None."""
    if test is None:
        return None
    return {"name": test.name, "p_value": test.p_value, "statistic": finite(test.statistic)}


def _paired(
    base: Delta, baseline: TaskMeans, variant: TaskMeans, *, share: float, sequence: Sequence[int] | None
) -> Sample:
    import numpy as np  # noqa: PLC0415 takes longer to load than most commands take

    common, at_b, at_v = np.intersect1d(baseline.tasks, variant.tasks, assume_unique=True, return_indices=True)
    lonely = baseline.tasks.size + variant.tasks.size - 2 * common.size
    if sequence is not None:
        place = {task: index for index, task in enumerate(common.tolist())}
        chosen = np.array([place[task] for task in sequence if task in place], dtype=int)
        common, at_b, at_v = common[chosen], at_b[chosen], at_v[chosen]
    base = replace(base, unpaired_tasks=int(lonely))
    if not common.size:
        return Sample(replace(base, problem=f"no task has figures for {base.metric!r} from both"))
    of_baseline, of_variant = baseline.means[at_b], variant.means[at_v]
    parts = _repeat_variance(baseline, at_b), _repeat_variance(variant, at_v)
    return Sample(
        replace(
            base,
            baseline_mean=float(of_baseline.mean()),
            variant_mean=float(of_variant.mean()),
            tasks=int(common.size),
            repeat_variance=_sum_of(parts, share),
        ),
        share,
        pairs=(of_variant - (1 + share) * of_baseline, baseline.groups[at_b]),
        is_sequential=sequence is not None,
    )


def _unpaired(base: Delta, baseline: TaskMeans, variant: TaskMeans, *, share: float) -> Sample:
    first = baseline.clusters()
    if share:
        first = Clusters(first.sums * (1 + share), first.sizes)
    parts = _repeat_variance(baseline), _repeat_variance(variant)
    tasks = int(min(baseline.tasks.size, variant.tasks.size))
    base = replace(base, tasks=tasks, repeat_variance=_sum_of(parts, share))
    return Sample(base, share, arms=(first, variant.clusters()))


def _repeat_variance(arm: TaskMeans, at: Ints | None = None) -> float | None:
    """Return the part of the variance of the mean over the tasks that more repeats of the tasks would reduce.

    It comes from the differences between the repeats of the same task. Return None if no task was repeated.

    Args:
        arm: the values of the baseline or of a variant, by task.
        at: the positions in `arm` of the tasks to use; None for all tasks.
    """
    import numpy as np  # noqa: PLC0415 takes longer to load than most commands take

    variances, trials = (arm.variances, arm.trials) if at is None else (arm.variances[at], arm.trials[at])
    is_known = np.isfinite(variances)
    if not bool(is_known.any()):
        return None
    # A task with one trial gets the average variance of the other tasks.
    filled = np.where(is_known, variances, variances[is_known].mean())
    return float((filled / trials).sum()) / trials.size**2


def _sum_of(parts: tuple[float | None, float | None], share: float) -> float | None:
    of_baseline, of_variant = parts
    if of_baseline is None or of_variant is None:
        return None
    return (1 + share) ** 2 * of_baseline + of_variant


def _always_valid(base: Delta, differences: Floats, level: float, bounds: tuple[float, float] | None) -> Delta:
    count = int(differences.size)
    found = PairedDelta(
        estimate=float(differences.mean()),
        interval=always_valid_interval(differences, level=level, bounds=bounds),
        test=always_valid_test(differences, bounds),
        standard_error=float(differences.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan,
        pairs=count,
        clusters=count,
    )
    # The detectable effect is defined for a run of fixed size, but here the data decide when the run ends.
    return replace(_with_figures(base, found), minimum_detectable_effect=None, is_always_valid=True)


def _with_figures(base: Delta, found: PairedDelta | UnpairedDelta) -> Delta:
    error, count = found.standard_error, found.clusters
    problem = None
    if count < MIN_CLUSTERS:
        noun = "task" if base.tasks == count else "group of tasks that depend on each other"
        problem = f"{count} {noun} is not enough to compare {base.metric!r}; {MIN_CLUSTERS} at least are needed"
    return replace(
        base,
        estimate=found.estimate,
        interval=found.interval,
        test=found.test,
        standard_error=error,
        clusters=count,
        minimum_detectable_effect=_detectable(error, count, 1 - found.interval.level),
        problem=problem,
    )


def _detectable(error: float, count: int, alpha: float) -> float | None:
    # Equal differences have a spread of 0, from which a detectable effect of 0 would follow.
    if error <= 0:
        return None
    try:
        return minimum_detectable_effect(error * math.sqrt(count), count, alpha=alpha)
    except ValueError:
        # With one degree of freedom scipy's noncentral t has no value in the far tail; two tasks detect almost nothing anyway.
        return None


def _mean(arm: TaskMeans) -> float | None:
    return float(arm.means.mean()) if arm.tasks.size and arm.can_be_summed else None
