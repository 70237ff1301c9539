"""Measure how well descriptions of symptoms find their runbook: the hit rate among the first 1 and 3 hits.

The descriptions were written independently of the runbooks.
python -m evals.symptom_retrieval [--set first|unseen|styles] [--misses] [--json]
The search compares words (BM25), the meaning of sentences (the model of the extra [embeddings]), and both (reciprocal
rank fusion); without the installed model, only words.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from relab.knowledge.library import folder_shelf, load_library
from relab.knowledge.models import Hit, Runbook
from relab.knowledge.packaged import packaged_meaning
from relab.knowledge.search import Meaning, search
from relab.stats.intervals import wilson

QUERIES = Path(__file__).with_name("symptom_queries.yaml")
STYLES = Path(__file__).with_name("symptom_queries_styles.yaml")
DEPTHS = (1, 3)
WAYS = ("words", "meaning", "both")

Rank = tuple[str, str, int | None]
"""A cause, a query, and the rank of the cause's runbook among the hits, from 1; None if it is not a hit."""


def read_queries(name: str) -> dict[str, list[str]]:
    """Return a set of queries by cause: `first`, `unseen` or `styles`.

    The set `styles` has a complaint, an alert and a log message for each cause.
    """
    if name == "styles":
        styles: dict[str, dict[str, str]] = yaml.safe_load(STYLES.read_text())
        return {cause: list(texts.values()) for cause, texts in styles.items()}
    found: dict[str, list[str]] = yaml.safe_load(QUERIES.read_text())[name]
    return found


def ranks(
    queries: Mapping[str, Sequence[str]],
    runbooks: Sequence[Runbook],
    *,
    way: str = "words",
    meaning: Meaning | None = None,
) -> Iterator[Rank]:
    """Search with each query, and yield the rank of the runbook that it describes.

    Args:
        queries: the queries by cause.
        runbooks: the runbooks to search.
        way: `words`, `meaning` or `both`.
        meaning: the sentence model, for `meaning` and `both`.
    """
    for cause, texts in queries.items():
        for text in texts:
            model = None if way == "words" else meaning
            hits = search(text, runbooks=runbooks, limit=len(runbooks), meaning=model)
            found = [hit.cause for hit in (_by_meaning(hits) if way == "meaning" else hits)]
            yield cause, text, found.index(cause) + 1 if cause in found else None


def _by_meaning(hits: Sequence[Hit]) -> list[Hit]:
    return sorted((hit for hit in hits if hit.by_meaning), key=lambda hit: hit.by_meaning or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", action="store_true", help="show the queries whose runbook is not the first hit")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--set", choices=("first", "unseen", "styles"), default="unseen", help="which set of queries")
    parser.add_argument("--runbooks", type=Path, help="a folder to search in place of the shipped runbooks")
    options = parser.parse_args()
    books = load_library().runbooks if options.runbooks is None else folder_shelf(options.runbooks).runbooks
    causes = {book.cause for book in books}
    queries = {cause: texts for cause, texts in read_queries(options.set).items() if cause in causes}
    with tempfile.TemporaryDirectory() as folder:
        meaning = packaged_meaning(Path(folder))
        ways = WAYS if meaning is not None else WAYS[:1]
        found = {way: list(ranks(queries, books, way=way, meaning=meaning)) for way in ways}
    if options.json:
        print(json.dumps({way: {"queries": len(rows), "hits": _hits(rows)} for way, rows in found.items()}))
        return
    console = Console()
    console.print(_table(found, f"{len(books)} runbooks, queries: {options.set}"))
    for cause, text, rank in found[ways[-1]]:
        if options.misses and rank != 1:
            console.print(f"{rank or '-':>3}  {cause}: {text}", markup=False)


def _hits(rows: Sequence[Rank]) -> dict[int, int]:
    return {depth: sum(1 for *_, rank in rows if rank is not None and rank <= depth) for depth in DEPTHS}


def _table(found: Mapping[str, Sequence[Rank]], title: str) -> Table:
    table = Table("by", "hit rate", "hits", "of", "95 % interval", title=title)
    for way, rows in found.items():
        for depth, hits in _hits(rows).items():
            interval = wilson(hits, len(rows))
            rate = f"at {depth}: {hits / max(len(rows), 1):.1%}"
            table.add_row(way, rate, str(hits), str(len(rows)), f"{interval.low:.1%} to {interval.high:.1%}")
    return table


if __name__ == "__main__":
    main()
