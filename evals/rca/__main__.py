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
from evals.rca.measuring import measure
from evals.rca.tables import print_measured

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures and return the exit code: 0 ok, 1 if a quotation or citation is not valid, 64 no data."""
    parser = argparse.ArgumentParser(prog="python -m evals.rca", description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory (default: $RELAB_DATA, else ../shared/data)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        measured = measure(read_cases(find_data(options.data)))
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
