"""Measure how often each kind of interval that relab prints contains the true value, by simulation.

The simulation uses the functions that compute the printed intervals.
python -m evals.interval_coverage      # every kind, 1,000 runs of each setting
python -m evals.interval_coverage --kind success --runs 200
python -m evals.interval_coverage --kind verdicts  # false verdicts of equal variants, and what that costs
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evals.interval_populations import RESAMPLES, Draw, Solving, alarms, costs, differences, latencies, solved, subjects
from evals.interval_verdicts import verdict_rows
from relab.stats.clustered_rate import clustered_rate
from relab.stats.intervals import Interval, clopper_pearson, poisson_exact, wilson
from relab.stats.paired import Clusters, cluster, interval_of
from relab.stats.ratio import ratio_of_sums
from relab.stats.unpaired import unpaired_delta

Held = tuple[Interval, float]
"""An interval, and the true value that it should contain."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A simulated population.

    Attributes:
        kind: the kind of interval.
        name: the description of the population.
        draw: draws a sample; returns the interval of it, and the true value.
    """

    kind: str
    name: str
    draw: Callable[[Draw], Held]


@dataclass(frozen=True, slots=True)
class Row:
    """How many intervals of a setting contained the true value, or were completely above or below it.

    Attributes:
        width: the median width of the intervals.
    """

    setting: Setting
    runs: int
    held: int
    too_high: int
    too_low: int
    width: float

    @property
    def line(self) -> str:
        """The row of a Markdown table, with the confidence interval of the coverage."""
        share = clopper_pearson(self.held, self.runs)
        return (
            f"| {self.setting.name} | {self.held / self.runs:.1%} ({share.low:.1%} to {share.high:.1%}) | "
            f"{self.too_high / self.runs:.1%} / {self.too_low / self.runs:.1%} | {self.width:.3g} |"
        )


def measure(setting: Setting, *, runs: int, seed: int) -> Row:
    """Draw `runs` samples of a population, and count how many intervals contain the true value."""
    random = np.random.default_rng(seed)
    held = too_high = too_low = 0
    widths = []
    for _ in range(runs):
        interval, truth = setting.draw(random)
        slack = 1e-9 * max(1.0, abs(truth))
        too_high += interval.low > truth + slack
        too_low += interval.high < truth - slack
        held += interval.low - slack <= truth <= interval.high + slack
        widths.append(interval.high - interval.low)
    return Row(setting, runs, held, too_high, too_low, statistics.median(widths))


def _paired(
    values: Sequence[float], random: Draw, names: Sequence[int] | None = None, bounds: tuple[float, float] | None = None
) -> Interval:
    seed = int(random.integers(2**31))
    return interval_of(cluster(values, names), bounds=bounds, seed=seed, resamples=RESAMPLES)


def _success(population: Solving, *, flat: bool = False) -> Callable[[Draw], Held]:
    def draw(random: Draw) -> Held:
        hits, trials = solved(random, population)
        total = int(trials.sum())
        if flat:
            return wilson(int(hits.sum()), total), population.rate
        return clustered_rate(Clusters(hits.astype(float), trials.astype(float)), total), population.rate

    return draw


def _success_settings() -> Iterator[Setting]:
    for tasks, repeats in (
        (1, 3),
        (3, 3),
        (5, 3),
        (8, 5),
        (10, 1),
        (10, 3),
        (20, 3),
        (30, 3),
        (30, 5),
        (60, 3),
        (60, 5),
        (200, 3),
    ):
        for rate in (0.05, 0.5, 0.9):
            for agreement in (0.1, 0.6, 1.0) if repeats > 1 else (0.0,):
                population = Solving(tasks, repeats, rate, agreement)
                yield Setting("success", str(population), _success(population))
    for missing in (0.1, 0.4):
        population = Solving(30, 5, 0.7, 0.6, missing=missing)
        yield Setting("success", str(population), _success(population))
    for tasks, repeats, agreement in ((30, 3, 0.3), (30, 5, 0.6), (60, 3, 0.6), (60, 5, 0.3)):
        population = Solving(tasks, repeats, 0.7, agreement)
        yield Setting("Wilson over trials, printed until 2026-11-23", str(population), _success(population, flat=True))


def _mean_settings() -> Iterator[Setting]:
    for tasks in (5, 10, 30, 100, 300):
        for sigma in (0.0, 0.6, 1.0):

            def draw(random: Draw, tasks: int = tasks, sigma: float = sigma) -> Held:
                values, truth = latencies(random, tasks, sigma)
                return _paired(list(values), random), truth

            name = "normal" if sigma == 0 else f"log-normal, sigma {sigma:g}"
            yield Setting("mean of a metric", f"{tasks} tasks, {name}", draw)


def _difference_settings() -> Iterator[Setting]:
    for tasks, repeats in ((5, 1), (10, 3), (30, 1), (30, 3), (100, 3), (300, 1)):
        for rate, change in ((0.5, 0.0), (0.9, 0.0), (0.7, 0.4)):

            def draw(
                random: Draw, tasks: int = tasks, repeats: int = repeats, rate: float = rate, change: float = change
            ) -> Held:
                deltas = differences(random, Solving(tasks, repeats, rate, 0.5), change)
                return _paired(list(deltas), random, bounds=(-1.0, 1.0)), 0.0

            how = "the same tasks solved" if not change else "40 % of the tasks solved anew"
            yield Setting("paired difference of success", f"{tasks} tasks x {repeats}, rate {rate:g}, {how}", draw)
    for tasks in (5, 12, 30, 100):
        for sigma in (0.0, 0.6, 1.0):
            for share in (0.0, 0.05) if sigma == 0.6 else (0.0,):

                def draw_latency(random: Draw, tasks: int = tasks, sigma: float = sigma, share: float = share) -> Held:
                    (first, mean), (second, _) = latencies(random, tasks, sigma), latencies(random, tasks, sigma)
                    deltas = second - (1 + share) * first
                    return _paired(list(deltas), random), -share * mean

                name = "normal" if sigma == 0 else f"log-normal, sigma {sigma:g}"
                gate = f", against {1 + share:g} times the baseline" if share else ""
                yield Setting("paired difference of a metric", f"{tasks} tasks, {name}{gate}", draw_latency)


def _unpaired_settings() -> Iterator[Setting]:
    for tasks, repeats in ((10, 1), (30, 1), (100, 1), (10, 3), (30, 3), (100, 3)):
        for rate in (0.5, 0.9):

            def draw(random: Draw, tasks: int = tasks, repeats: int = repeats, rate: float = rate) -> Held:
                arms = []
                for _ in range(2):
                    hits, trials = solved(random, Solving(tasks, repeats, rate, 0.5))
                    arms.append(Clusters(hits / trials, np.ones(tasks)))
                return unpaired_delta(arms[0], arms[1], is_rate=True).interval, 0.0

            yield Setting("difference without pairs", f"success, {tasks} tasks x {repeats}, rate {rate:g}", draw)
    for tasks in (5, 10, 30):

        def draw_latency(random: Draw, tasks: int = tasks) -> Held:
            arms = [cluster(list(latencies(random, tasks, 0.6)[0])) for _ in range(2)]
            return unpaired_delta(arms[0], arms[1]).interval, 0.0

        yield Setting("difference without pairs", f"latency, {tasks} tasks, log-normal, sigma 0.6", draw_latency)


def _responder_settings() -> Iterator[Setting]:
    for count, each in ((6, 5), (12, 3), (20, 4), (40, 1)):
        for rate, agreement in ((0.5, 0.5), (0.9, 0.5), (0.98, 0.3)):

            def draw_rate(
                random: Draw, count: int = count, each: int = each, rate: float = rate, agreement: float = agreement
            ) -> Held:
                hits, names = subjects(random, Solving(count, each, rate, agreement if each > 1 else 0.0))
                return clustered_rate(cluster(hits, names), len(hits)), rate

            yield Setting("rate of a responder", f"{count} subjects x {each} episodes, rate {rate:g}", draw_rate)

        def draw_harm(random: Draw, count: int = count, each: int = each) -> Held:
            own, other, names, truth = costs(random, count, each)
            deltas = [mine - theirs for mine, theirs in zip(own, other, strict=True)]
            return _paired(deltas, random, names), truth.difference

        def draw_ratio(random: Draw, count: int = count, each: int = each) -> Held:
            own, other, names, truth = costs(random, count, each)
            return ratio_of_sums(own, other, names, seed=int(random.integers(2**31)))[1], truth.ratio

        yield Setting("difference of harm", f"{count} subjects x {each} episodes", draw_harm)
        yield Setting("ratio of harm", f"{count} subjects x {each} episodes", draw_ratio)
    for polls, per_poll, spread in ((1_000, 0.001, 0.0), (10_000, 0.001, 0.0), (10_000, 0.001, 2.0)):

        def draw_alarms(random: Draw, polls: int = polls, per_poll: float = per_poll, spread: float = spread) -> Held:
            return poisson_exact(alarms(random, polls, per_poll, spread)), polls * per_poll

        how = "one by one" if not spread else "three at a time"
        yield Setting("false alarms of a responder", f"{polls:,} polls, {per_poll:g} of them, {how}", draw_alarms)


KINDS: dict[str, Callable[[], Iterator[Setting]]] = {
    "success": _success_settings,
    "mean": _mean_settings,
    "difference": _difference_settings,
    "unpaired": _unpaired_settings,
    "responder": _responder_settings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=[*KINDS, "verdicts"], action="append", help="default: all")
    parser.add_argument("--runs", type=int, default=1_000, help="simulated runs of each setting")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(
        f"{arguments.runs:,} runs of each setting, seed {arguments.seed}; 95 % are meant; in brackets what chance leaves open"
    )
    kind = ""
    chosen = arguments.kind or [*KINDS, "verdicts"]
    for name in chosen:
        if name == "verdicts":
            print("\n".join(verdict_rows(runs=arguments.runs, seed=arguments.seed)), flush=True)
            continue
        for setting in KINDS[name]():
            if setting.kind != kind:
                kind = setting.kind
                print(f"\n| {kind} | holds | wholly above / below | median width |\n|---|---|---|---|")
            print(measure(setting, runs=arguments.runs, seed=arguments.seed).line, flush=True)


if __name__ == "__main__":
    main()
