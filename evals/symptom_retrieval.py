"""How well symptoms in other words find the runbook: hit rate at 1 and 3, over queries that were written apart from it.

python -m evals.symptom_retrieval [--misses] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from relab.knowledge.library import load_library
from relab.knowledge.models import Runbook
from relab.knowledge.search import search
from relab.stats.intervals import wilson

QUERIES = Path(__file__).with_name("symptom_queries.yaml")
DEPTHS = (1, 3)


def ranks(queries: Mapping[str, Sequence[str]], runbooks: Sequence[Runbook]) -> Iterator[tuple[str, str, int | None]]:
    """Yield cause, query and the place at which its runbook is found, from 1 on; None if it is not among the hits."""
    for cause, texts in queries.items():
        for text in texts:
            found = [hit.cause for hit in search(text, runbooks=runbooks, limit=len(runbooks))]
            yield cause, text, found.index(cause) + 1 if cause in found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--misses", action="store_true", help="show the queries whose runbook is not the first hit")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--set", choices=("first", "unseen"), default="unseen", help="which of the two sets of queries")
    options = parser.parse_args()
    queries: dict[str, list[str]] = yaml.safe_load(QUERIES.read_text())[options.set]
    library = load_library()
    known = {cause: texts for cause, texts in queries.items() if library.get(cause) is not None}
    rows = list(ranks(known, library.runbooks))
    rates = {depth: sum(1 for *_, rank in rows if rank is not None and rank <= depth) for depth in DEPTHS}
    if options.json:
        print(
            json.dumps({"queries": len(rows), "hits": rates, "without_runbook": sorted(queries.keys() - known.keys())})
        )
        return
    table = Table(
        "hit rate",
        "hits",
        "of",
        "95 % interval",
        title=f"BM25 over {len(library.runbooks)} runbooks, queries: {options.set}",
    )
    for depth, hits in rates.items():
        interval = wilson(hits, len(rows))
        table.add_row(
            f"at {depth}: {hits / max(len(rows), 1):.1%}",
            str(hits),
            str(len(rows)),
            f"{interval.low:.1%} to {interval.high:.1%}",
        )
    console = Console()
    console.print(table)
    for cause, text, rank in rows:
        if options.misses and rank != 1:
            console.print(f"{rank or '-':>3}  {cause}: {text}", markup=False)
    if missing := sorted(queries.keys() - known.keys()):
        console.print(f"No runbook, and not counted: {', '.join(missing)}", markup=False)


if __name__ == "__main__":
    main()
