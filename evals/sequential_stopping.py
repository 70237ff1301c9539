"""Measure how often `policies.stopping` ends a run wrongly, how often it finds a true difference, and what it saves.

The simulation uses the functions that decide in a run (`relab.stats.sequential`), with a look after each task.
python -m evals.sequential_stopping            # 10,000 runs of each setting, about 3 minutes
python -m evals.sequential_stopping --runs 500
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relab.stats.distributions import t_quantile
from relab.stats.intervals import clopper_pearson
from relab.stats.sequential import MarginFinding, evidence_path, finding

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]
"""Draws differences of tasks, shape `(runs, tasks)`, of one variant from the baseline."""

ALPHA = 0.05
RATE = (-1.0, 1.0)
_BATCH = 250
_FIRST = 10


@dataclass(frozen=True, slots=True)
class Setting:
    """A simulated experiment.

    Attributes:
        name: its description.
        tasks: the planned number of tasks.
        draw: draws the differences of one variant.
        bounds: smallest and largest possible difference; None for a metric without bounds.
        margin: the margin of the rule.
        variants: the number of variants besides the baseline, which have no tasks in common here.
        truth: the finding that is right; None if every stop is wrong.
    """

    name: str
    tasks: int
    draw: Draw
    bounds: tuple[float, float] | None = RATE
    margin: float = 0.0
    variants: int = 1
    truth: MarginFinding | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The results of a setting.

    Attributes:
        wrong: the number of runs with a wrong finding for a variant at least.
        right: the number of runs whose (first) variant was decided rightly.
        used: the mean share of the planned tasks that the (first) variant used.
        naive: the number of runs that a look at Student's interval after each task would have stopped wrongly.
        fixed: the number of runs that Student's interval after all tasks decides.
    """

    setting: Setting
    runs: int
    wrong: int
    right: int
    used: float
    naive: int
    fixed: int

    @property
    def line(self) -> str:
        """The row of a Markdown table; shares have their 95 % interval."""
        found = clopper_pearson(self.wrong, self.runs)
        wrong = f"{self.wrong / self.runs:.2%} ({found.low:.2%} to {found.high:.2%})"
        right = "" if self.setting.truth is None else f"{self.right / self.runs:.0%}"
        naive = f"{self.naive / self.runs:.0%}"
        fixed = f"{self.fixed / self.runs:.0%}"
        return f"| {self.setting.name} | {wrong} | {right} | {1 - self.used:.0%} | {fixed} | {naive} |"


def measure(setting: Setting, *, runs: int, seed: int) -> Row:
    """Simulate `runs` experiments of a setting."""
    random = np.random.default_rng(seed)
    wrong = right = naive = fixed = 0
    used = 0.0
    for begin in range(0, runs, _BATCH):
        count = min(_BATCH, runs - begin)
        is_wrong = np.zeros(count, dtype=bool)
        for variant in range(setting.variants):
            values = setting.draw(random, count, setting.tasks)
            found = [
                _first_finding(row, paths, setting) for row, paths in zip(values, _looks(values, setting), strict=True)
            ]
            is_wrong |= np.array([what is not None and what is not setting.truth for what, _ in found])
            if variant == 0:
                right += sum(what is not None and what is setting.truth for what, _ in found)
                used += sum(tasks for _, tasks in found) / setting.tasks
                excluded = _student(values)
                naive += int(excluded[:, _FIRST - 1 :].any(axis=1).sum())
                fixed += int(excluded[:, -1].sum())
        wrong += int(is_wrong.sum())
    return Row(setting, runs, wrong, right, used / runs, naive, fixed)


def _looks(values: Floats, setting: Setting) -> NDArray[np.bool_]:
    """Return after which values the evidence may suffice for a stop, shape `(runs, tasks)`; `finding` decides."""
    threshold = math.log(2 * setting.variants / ALPHA)
    upper = evidence_path(values, setting.margin, setting.bounds)
    lower = evidence_path(values, -setting.margin, setting.bounds)
    may = (upper[0] >= threshold) | (lower[1] >= threshold)
    found: NDArray[np.bool_] = may | ((upper[1] >= threshold) & (lower[0] >= threshold))
    return found


def _first_finding(values: Floats, looks: NDArray[np.bool_], setting: Setting) -> tuple[MarginFinding | None, int]:
    for index in np.flatnonzero(looks):
        found = finding(
            values[: index + 1], margin=setting.margin, alpha=ALPHA / setting.variants, bounds=setting.bounds
        )
        if found is not None:
            return found[0], int(index) + 1
    return None, values.size


def _student(values: Floats) -> NDArray[np.bool_]:
    """Return whether Student's 95 % interval of the first n values excludes 0, for each n."""
    counts = np.arange(1, values.shape[1] + 1)
    means = np.cumsum(values, axis=1) / counts
    variances = np.maximum(np.cumsum(values**2, axis=1) / counts - means**2, 0) * counts / np.maximum(counts - 1, 1)
    quantiles = np.array([math.inf, *(t_quantile(0.975, int(count) - 1) for count in counts[1:])])
    with np.errstate(invalid="ignore"):
        excluded: NDArray[np.bool_] = abs(means) > quantiles * np.sqrt(variances / counts)
    return excluded & (variances > 0)


def success(baseline: float, variant: float, *, repeats: int = 1, agreement: float = 0.0) -> Draw:
    """Return differences of success rates; `agreement` is the share of the variance that lies between tasks."""

    def draw(random: np.random.Generator, runs: int, tasks: int) -> Floats:
        def rates(rate: float) -> Floats:
            if agreement == 0:
                return random.binomial(repeats, rate, (runs, tasks)) / repeats
            scale = 1 / agreement - 1
            return random.binomial(repeats, random.beta(rate * scale, (1 - rate) * scale, (runs, tasks))) / repeats

        return rates(variant) - rates(baseline)

    return draw


def log_normal(sigma: float, *, factor: float = 1.0) -> Draw:
    """Return differences of log-normal figures, such as latencies, whose variant is `factor` times the baseline."""

    def draw(random: np.random.Generator, runs: int, tasks: int) -> Floats:
        first, second = (np.exp(sigma * random.standard_normal((runs, tasks))) for _ in range(2))
        return factor * second - first

    return draw


def pareto(shape: float) -> Draw:
    """Return differences of Pareto figures, whose variance is infinite up to a shape of 2."""

    def draw(random: np.random.Generator, runs: int, tasks: int) -> Floats:
        return random.pareto(shape, (runs, tasks)) - random.pareto(shape, (runs, tasks))

    return draw


def one_skewed(sigma: float) -> Draw:
    """Return differences of a log-normal variant from a constant baseline at its mean: equal means, unequal shapes."""

    def draw(random: np.random.Generator, runs: int, tasks: int) -> Floats:
        return np.exp(sigma * random.standard_normal((runs, tasks))) - math.exp(sigma**2 / 2)

    return draw


def settings() -> Iterator[tuple[str, list[Setting]]]:
    """Yield the groups of settings with their titles."""
    yield (
        "A/A: baseline and variant are the same, so every stop but `equivalent` is wrong",
        [
            Setting("success 50 %, 20 tasks", 20, success(0.5, 0.5)),
            Setting("success 50 %, 200 tasks", 200, success(0.5, 0.5)),
            Setting("success 90 %, 200 tasks", 200, success(0.9, 0.9)),
            Setting("success 2 %, 500 tasks", 500, success(0.02, 0.02)),
            Setting("success 70 %, 60 tasks x 3 that agree by 0.5", 60, success(0.7, 0.7, repeats=3, agreement=0.5)),
            Setting("success 50 %, 200 tasks, 3 variants", 200, success(0.5, 0.5), variants=3),
            Setting(
                "success 50 %, 500 tasks, margin 0.1",
                500,
                success(0.5, 0.5),
                margin=0.1,
                truth=MarginFinding.EQUIVALENT,
            ),
            Setting("latency log-normal 0.6, 12 tasks", 12, log_normal(0.6), None),
            Setting("latency log-normal 0.6, 200 tasks", 200, log_normal(0.6), None),
            Setting("cost log-normal 1.5, 200 tasks", 200, log_normal(1.5), None),
            Setting("cost log-normal 1.5, 200 tasks, 3 variants", 200, log_normal(1.5), None, variants=3),
            Setting("cost Pareto 1.5, 200 tasks", 200, pareto(1.5), None),
        ],
    )
    yield (
        "Equal means, unequal shapes: the baseline is constant, the variant is skewed",
        [
            Setting("cost log-normal 0.6, 50 tasks", 50, one_skewed(0.6), None),
            Setting("cost log-normal 0.6, 500 tasks", 500, one_skewed(0.6), None),
            Setting("cost log-normal 1.0, 200 tasks", 200, one_skewed(1.0), None),
        ],
    )
    yield (
        "A true difference, 200 tasks planned",
        [
            Setting("success 50 to 60 %", 200, success(0.5, 0.6), truth=MarginFinding.HIGHER),
            Setting("success 50 to 70 %", 200, success(0.5, 0.7), truth=MarginFinding.HIGHER),
            Setting("success 50 to 80 %", 200, success(0.5, 0.8), truth=MarginFinding.HIGHER),
            Setting("success 90 to 99 %", 200, success(0.9, 0.99), truth=MarginFinding.HIGHER),
            Setting("success 90 to 70 %", 200, success(0.9, 0.7), truth=MarginFinding.LOWER),
            Setting("success 50 to 80 %, margin 0.1", 200, success(0.5, 0.8), margin=0.1, truth=MarginFinding.HIGHER),
            Setting(
                "latency log-normal 0.6, + 20 %", 200, log_normal(0.6, factor=1.2), None, truth=MarginFinding.HIGHER
            ),
            Setting(
                "latency log-normal 0.6, + 50 %", 200, log_normal(0.6, factor=1.5), None, truth=MarginFinding.HIGHER
            ),
            Setting("cost log-normal 1.5, twice", 200, log_normal(1.5, factor=2.0), None, truth=MarginFinding.HIGHER),
        ],
    )


def main() -> None:
    """Print a table for each group of settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.runs:,} runs of each setting, alpha {ALPHA}, a look after each task, seed {arguments.seed}")
    for title, group in settings():
        print(f"\n{title}\n")
        print(
            "| setting | wrong stops | right stops | tasks saved | Student at the end excludes 0 | Student at each look |"
        )
        print("|---|---|---|---|---|---|")
        for setting in group:
            print(measure(setting, runs=arguments.runs, seed=arguments.seed).line, flush=True)


if __name__ == "__main__":
    main()
