"""Simulate how often equal variants pass or fail by chance, with separate and with simultaneous intervals.

It also simulates the power that simultaneous intervals cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from evals.interval_populations import RESAMPLES, Draw, Solving, chances
from relab.experiments.results.aggregates import sum_by_group
from relab.experiments.results.differences import Delta, Sample
from relab.experiments.results.planning_power import plan_power
from relab.stats.intervals import LEVEL, clopper_pearson
from relab.stats.paired import interval_of
from relab.stats.simultaneous import joint_level
from relab.stats.verdicts import Gate, Verdict


def family(random: Draw, population: Solving, variants: int, lead: float = 0.0) -> list[Sample]:
    """Return random comparisons of `variants` equal variants with their baseline.

    The first is better by `lead` on average.
    """
    chance, repeats = chances(random, population), population.repeats
    better = chance + lead * (1 - chance) / max(1e-9, float((1 - chance).mean()))
    base = random.binomial(repeats, chance) / repeats
    tasks = np.arange(population.tasks)
    found = []
    for number in range(variants):
        own = random.binomial(repeats, np.clip(better if number == 0 else chance, 0, 1)) / repeats
        delta = Delta("success", "success", float(base.mean()), float(own.mean()), tasks=population.tasks)
        found.append(Sample(delta, pairs=(own - base, -1 - tasks)))
    return found


def judge(samples: Sequence[Sample], gate: Gate, *, together: bool, seed: int) -> list[Verdict]:
    """Return the verdict on each comparison.

    At a threshold of 0, PASS requires an interval completely above 0; otherwise it becomes EDGE.

    Args:
        samples: the comparisons.
        gate: the bound that decides.
        together: whether all intervals hold at the same time, or each for itself.
        seed: the seed of the resampling.
    """
    level = joint_level([sample.errors() for sample in samples], draws=4_000).each if together else LEVEL
    verdicts = []
    for sample in samples:
        assert sample.pairs is not None
        interval = interval_of(
            sum_by_group(*sample.pairs), level=level, bounds=(-1.0, 1.0), seed=seed, resamples=RESAMPLES
        )
        verdict = gate.judge(interval)
        is_on_bound = verdict is Verdict.PASS and gate.threshold == 0 and interval.low <= 0
        verdicts.append(Verdict.EDGE if is_on_bound else verdict)
    return verdicts


def _share(hits: int, runs: int) -> str:
    ends = clopper_pearson(hits, runs)
    return f"{hits / runs:.1%} ({ends.low:.1%} to {ends.high:.1%})"


def verdict_rows(*, runs: int, seed: int) -> Iterator[str]:
    """Yield the lines of three Markdown tables.

    They show false verdicts of equal variants, the power that remains, and how often equal variants pass with a margin.
    """
    gate = Gate("success", True, 0.0)
    yield "\n| equal variants, gate `success is better` | intervals | one PASSes | one FAILs | either |\n|---|---|---|---|---|"
    for variants, population in (
        (6, Solving(30, 3, 0.5, 0.3)),
        (6, Solving(60, 3, 0.7, 0.5)),
        (6, Solving(100, 1, 0.5, 0.5)),
        (2, Solving(30, 3, 0.5, 0.3)),
        (12, Solving(60, 3, 0.7, 0.5)),
        (6, Solving(8, 3, 0.5, 0.3)),
    ):
        counts: Counter[tuple[bool, str]] = Counter()
        random = np.random.default_rng(seed)
        for run in range(runs):
            samples = family(random, population, variants)
            for together in (False, True):
                found = judge(samples, gate, together=together, seed=run)
                for verdict in (Verdict.PASS, Verdict.FAIL):
                    counts[together, verdict.value] += verdict in found
                counts[together, "either"] += Verdict.PASS in found or Verdict.FAIL in found
        for together in (False, True):
            shares = [_share(counts[together, name], runs) for name in ("PASS", "FAIL", "either")]
            yield f"| {variants}: {population} | {'together' if together else 'each alone'} | {' | '.join(shares)} |"
    yield "\n| one of six variants is better | lead | PASSes, each alone | PASSes, together |\n|---|---|---|---|"
    for population, lead in ((Solving(60, 3, 0.5, 0.3), 0.1), (Solving(60, 3, 0.5, 0.3), 0.15)):
        passed: Counter[bool] = Counter()
        random = np.random.default_rng(seed)
        for run in range(runs):
            samples = family(random, population, 6, lead)
            for together in (False, True):
                passed[together] += judge(samples, gate, together=together, seed=run)[0] is Verdict.PASS
        yield f"| {population} | {lead:g} | {_share(passed[False], runs)} | {_share(passed[True], runs)} |"
    yield "\n| equal variants, a margin | PASS | `lab describe` says for a rate of 50 %: worst, half between tasks |\n|---|---|---|"
    for margin, population in (
        (0.02, Solving(30, 3, 0.5, 0.0)),
        (0.02, Solving(30, 3, 0.5, 0.5)),
        (0.02, Solving(30, 3, 0.9, 0.5)),
        (0.1, Solving(70, 3, 0.5, 0.5)),
        (0.1, Solving(131, 3, 0.5, 0.0)),
    ):
        wide = Gate("success", True, -margin)
        random = np.random.default_rng(seed)
        hits = sum(
            judge(family(random, population, 1), wide, together=True, seed=run)[0] is Verdict.PASS
            for run in range(runs)
        )
        (said,) = plan_power(tasks=population.tasks, replications=population.repeats, comparisons=1, gates=[wide])[
            "gates"
        ]
        cases = [said[case]["chance_to_pass"] for case in ("worst_case", "half_of_the_variance_between_tasks")]
        yield f"| `{wide}`, {population} | {_share(hits, runs)} | {cases[0]:.0%}, {cases[1]:.0%} |"
