"""Measure attribution on real failures, offline: `python -m evals.rca`. See `evals/rca/README.md`."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from evals.datasets.source import MissingDataError, find_data
from evals.rca.cases import read_cases
from evals.rca.further import measure_further, read_further
from evals.rca.judging import measure_judge
from evals.rca.measuring import CURVE, measure
from evals.rca.tables import print_judged, print_measured, print_steps
from evals.rca.training import SEEDS
from relab.bootstrap.llm import build_gateway
from relab.bootstrap.rca import build_judges
from relab.rca.models import JudgeMethod
from relab.settings import Settings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures and return the exit code: 0 ok, 1 if a quotation or citation is not valid, 64 no data."""
    parser = argparse.ArgumentParser(prog="python -m evals.rca", description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory (default: $RELAB_DATA, else ../shared/data)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="one split instead of three, no learning curve")
    parser.add_argument(
        "--judge",
        choices=[method.value for method in JudgeMethod if method is not JudgeMethod.OFF],
        help="measure the language model of the settings as a judge, beside the local ranking, and nothing else; it costs money",
    )
    parser.add_argument("--first", type=int, help="with --judge: only so many runs of each set")
    parser.add_argument(
        "--further",
        type=Path,
        help="measure only runs of further harnesses in this folder, by the rules for unknown sources",
    )
    options = parser.parse_args(arguments)
    if options.further is not None:
        return _further(options)
    if options.judge is not None:
        return _judge(options)
    try:
        seeds, curve = ((SEEDS[0],), ()) if options.quick else (SEEDS, CURVE)
        measured = measure(read_cases(find_data(options.data)), lambda part: print(part, file=sys.stderr), seeds, curve)
    except (MissingDataError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if options.json:
        print(json.dumps(dataclasses.asdict(measured), indent=2))
    else:
        print_measured(Console(), measured)
    for problem in measured.problems[:20]:
        print(problem, file=sys.stderr)
    return EXIT_FAILED if measured.problems else EXIT_OK


def _further(options: argparse.Namespace) -> int:
    """Measure the sets in the folder and return the exit code; a set whose files are absent is named and left out."""
    problems: list[str] = []
    for name, cases in read_further(options.further):
        if not cases:
            print(f"{name}: left out, its files are not there", file=sys.stderr)
            continue
        tables, found = measure_further(cases)
        problems += found
        for half, rows in tables.items():
            print_steps(Console(), f"{name}, {half}", rows)
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    return EXIT_FAILED if problems else EXIT_OK


def _judge(options: argparse.Namespace) -> int:
    """Measure the judge of the settings and return the exit code, 64 also without a model."""
    settings = Settings()
    judge, _ = build_judges(settings, build_gateway(settings))
    if judge is None:
        print("No language model is configured: set a key or RELAB_LLM__BASE_URL.", file=sys.stderr)
        return EXIT_USAGE
    try:
        cases = {name: found[: options.first] for name, found in read_cases(find_data(options.data)).items()}
    except (MissingDataError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    tick = functools.partial(print, file=sys.stderr)
    measured = measure_judge(cases, JudgeMethod(options.judge), lambda _: judge, tick)
    if options.json:
        print(json.dumps(dataclasses.asdict(measured), indent=2))
    else:
        print_judged(Console(), measured)
    for problem in measured.problems[:20]:
        print(problem, file=sys.stderr)
    return EXIT_FAILED if measured.problems else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
