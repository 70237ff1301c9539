"""Measure attribution on real failures, offline: `python -m evals.rca`. See `evals/README.md`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from evals.datasets.source import MissingDataError, find_data
from evals.rca.cases import read_cases
from evals.rca.measuring import CURVE, measure
from evals.rca.tables import print_measured
from evals.rca.training import SEEDS

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures and return the exit code: 0 ok, 1 if a quotation or citation is not valid, 64 no data."""
    parser = argparse.ArgumentParser(prog="python -m evals.rca", description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory (default: $RELAB_DATA, else ../shared/data)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="one split instead of three, no learning curve")
    options = parser.parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
