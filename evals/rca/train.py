"""Train the ranking models that relab ships on all labelled runs: `python -m evals.rca.train`. See `evals/rca/README.md`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evals.datasets.source import PROJECT_ROOT, MissingDataError, find_data
from evals.rca.cases import read_cases
from evals.rca.training import SOURCES, examples, train_set
from relab.rca.ranking import RankingModels

TARGET = PROJECT_ROOT / "src" / "relab" / "rca" / "ranking" / "shipped.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the artefact and return the exit code: 0 ok, 64 no data."""
    parser = argparse.ArgumentParser(prog="python -m evals.rca.train", description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory (default: $RELAB_DATA, else ../shared/data)")
    parser.add_argument("--output", type=Path, default=TARGET, help="the artefact (default: the one that relab ships)")
    options = parser.parse_args(arguments)
    try:
        cases = read_cases(find_data(options.data))
    except (MissingDataError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 64
    models = RankingModels(sources=tuple(train_set(name, examples(cases[name])) for name in SOURCES))
    options.output.write_text(models.dump(), encoding="utf-8")
    print(f"{options.output}: {', '.join(f'{model.source} ({model.runs} runs)' for model in models.sources)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
