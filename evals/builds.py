"""Evaluate the lines that explain a failed build, on real pairs of logs (cidiff). See `evals/README.md`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table

from evals.build_baselines import BASELINES
from evals.datasets import cidiff
from evals.datasets.cidiff import BuildCase
from evals.datasets.source import MissingDataError, find_data
from relab.builds.logs.models import LineRole
from relab.builds.logs.relevance import relevant_lines

EXIT_OK = 0
EXIT_USAGE = 64

Numbers: TypeAlias = set[int]
Choice: TypeAlias = Callable[[BuildCase], Numbers]

RESAMPLES: Final = 4_000
SEED: Final = 20_261_123


@dataclass(frozen=True)
class Score:
    """F1 of one method against one annotator: over logs (macro) with its interval, and over all lines (micro)."""

    n: int
    macro: float
    low: float
    high: float
    micro: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation, print the table, and return its exit code: 0 ok, 64 no data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the directory of the real data")
    parser.add_argument("--part", choices=["all", "development", "held-out"], default="all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        cases = cidiff.read(find_data(options.data))
    except MissingDataError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return EXIT_USAGE
    if options.part != "all":
        cases = [case for case in cases if case.is_development is (options.part == "development")]
    started = time.process_time()
    rows = {name: [score(cases, choose, second=second) for second in (False, True)] for name, choose in methods()}
    seconds = time.process_time() - started
    if options.json:
        print(json.dumps({name: [each.__dict__ for each in pair] for name, pair in rows.items()}, indent=2))
    else:
        print_table(rows, options.part, len({case.project for case in cases}))
        print(f"{seconds:.0f} s of processor time for all rows.")
    return EXIT_OK


def methods() -> list[tuple[str, Choice]]:
    """Return the baselines and relab's own choices, by the names of their rows."""
    own: list[tuple[str, Choice]] = [
        ("relab, passing log", lambda case: of_relab(case, passing=True, consequences=False)),
        ("relab, passing log, with consequences", lambda case: of_relab(case, passing=True, consequences=True)),
        ("relab, failed log only", lambda case: of_relab(case, passing=False, consequences=False)),
        ("relab, failed log only, with consequences", lambda case: of_relab(case, passing=False, consequences=True)),
    ]
    return [*BASELINES.items(), *own]


def of_relab(case: BuildCase, *, passing: bool, consequences: bool) -> Numbers:
    """Return the numbers of the lines that relab chooses."""
    lines = relevant_lines(case.failed, case.passed if passing else None)
    return {line.number for line in lines if consequences or line.role is not LineRole.CONSEQUENCE}


def score(cases: Sequence[BuildCase], choose: Choice, *, second: bool) -> Score:
    """Return the F1 of a choice against the first or second annotator, with a 95 % interval by resampled projects."""
    hits, sizes, values, projects = [], [], [], []
    for case in cases:
        truth = case.second if second else case.first
        if truth is None:
            continue
        chosen = choose(case)
        hits.append(len(chosen & truth))
        sizes.append(len(chosen) + len(truth))
        values.append(2 * hits[-1] / sizes[-1] if sizes[-1] else 1.0)
        projects.append(case.project)
    low, high = interval(values, projects)
    return Score(len(values), float(np.mean(values)), low, high, 2 * sum(hits) / sum(sizes))


def interval(values: Sequence[float], projects: Sequence[str]) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the mean over resampled projects, whose logs stay together."""
    names = sorted(set(projects))
    sums = np.array([sum(v for v, p in zip(values, projects, strict=True) if p == name) for name in names])
    counts = np.array([projects.count(name) for name in names])
    drawn = np.random.default_rng(SEED).integers(0, len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def print_table(rows: dict[str, list[Score]], part: str, projects: int) -> None:
    title = f"F1 of the error lines, {part}, {projects} projects: mean over logs (95 % interval by project), and over all lines"
    table = Table(title=title)
    for column in ("", "annotator 1", "n", "all lines", "annotator 2", "n", "all lines"):
        table.add_column(column)
    for name, pair in rows.items():
        cells = [(f"{s.macro:.3f} ({s.low:.2f} to {s.high:.2f})", str(s.n), f"{s.micro:.3f}") for s in pair]
        table.add_row(name, *cells[0], *cells[1])
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
