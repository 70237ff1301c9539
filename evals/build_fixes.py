"""Evaluate the suggestions for failed builds: the right known failure first, and abstention. See `evals/README.md`."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console
from rich.table import Table

from evals.datasets import cidiff
from evals.datasets.source import MissingDataError, find_data
from relab.builds.logs.models import BuildLog
from relab.builds.logs.reading import read_log
from relab.builds.logs.relevance import relevant_lines
from relab.builds.suggestions.service import FixSuggestion, shipped_failures, suggest
from relab.stats.intervals import wilson

EXIT_OK = 0
EXIT_USAGE = 64
NONE: Final = "none"
EITHER: Final = "either"
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class FixCase:
    """A failed build with its cause.

    Attributes:
        name: its name in the printed list of mistakes.
        part: the set of logs that it is scored in.
        cause: the id of the right known failure, `none`, or `either` (it is not scored).
        log: the log of the failed build.
    """

    name: str
    part: str
    cause: str
    log: BuildLog


@dataclass(frozen=True)
class FixScore:
    """Counts over one set of logs.

    Attributes:
        known: logs of known failures.
        right: of these, with the right one suggested.
        wrong: of these, with another one suggested.
        unknown: logs of failures that are not known.
        abstained: of these, without a suggestion.
    """

    known: int
    right: int
    wrong: int
    unknown: int
    abstained: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation, print the table, and return its exit code: 0 ok, 64 no data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the directory of the real data")
    parser.add_argument("--mistakes", metavar="PART", help="also print the wrong answers of this part")
    parser.add_argument(
        "--above", type=float, default=-1.0, metavar="CONFIDENCE", help="an answer of at most this confidence abstains"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        cases = [*written_cases(), *real_cases(find_data(options.data))]
    except MissingDataError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return EXIT_USAGE
    answers = [
        (case, suggest(relevant_lines(case.log), case.log, failures=shipped_failures()))
        for case in cases
        if case.cause != EITHER
    ]
    parts = list(dict.fromkeys(case.part for case, _ in answers))
    scores = {part: score([each for each in answers if each[0].part == part], options.above) for part in parts}
    if options.json:
        print(json.dumps({part: asdict(found) for part, found in scores.items()}, indent=2))
        return EXIT_OK
    print_table(scores)
    for case, fix in answers:
        said = said_in(fix, options.above)
        if case.part == options.mistakes and said != case.cause:
            print(f"{case.name}: {said} instead of {case.cause}")
    return EXIT_OK


def written_cases() -> list[FixCase]:
    """Return the logs that were rewritten from memory; the head of each file describes its origin."""
    parts: dict[str, list[dict[str, str]]] = {}
    for name in ("build_failures.yaml", "build_failures_blind.yaml"):
        parts |= yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8"))
    return [
        FixCase(f"{part} {number}", f"rewritten, {part.replace('_', ' ')}", each["incident"], _log(each["log"]))
        for part, cases in parts.items()
        for number, each in enumerate(cases, start=1)
    ]


def real_cases(data: Path) -> list[FixCase]:
    """Return the logs of cidiff with their judged causes.

    Raises:
        MissingDataError: the data set is missing or incomplete.
    """
    causes: dict[str, str] = yaml.safe_load((_FOLDER / "build_causes.yaml").read_text(encoding="utf-8"))
    return [
        FixCase(
            case.name, f"cidiff, {'development' if case.is_development else 'held-out'}", causes[case.name], case.failed
        )
        for case in cidiff.read(data)
    ]


def said_in(fix: FixSuggestion, above: float = -1.0) -> str:
    """Return the id of the suggested known failure if its confidence is greater than `above`, else `none`."""
    return fix.incident if fix.incident is not None and fix.confidence > above else NONE


def score(answers: Iterable[tuple[FixCase, FixSuggestion]], above: float = -1.0) -> FixScore:
    """Return the counts over these logs and their suggestions; `said_in` maps a suggestion to the id of its failure."""
    pairs = [(case.cause, said_in(fix, above)) for case, fix in answers]
    known = [(cause, said) for cause, said in pairs if cause != NONE]
    unknown = [said for cause, said in pairs if cause == NONE]
    return FixScore(
        len(known),
        sum(cause == said for cause, said in known),
        sum(said not in {cause, NONE} for cause, said in known),
        len(unknown),
        unknown.count(NONE),
    )


def print_table(scores: dict[str, FixScore]) -> None:
    """Print the shares of each set with their 95 % intervals (Wilson)."""
    table = Table(title="Suggestions for failed builds: share (95 % interval), from the failed log alone")
    for column in ("logs", "n known", "right first", "wrong", "n not known", "abstained"):
        table.add_column(column)
    for part, found in scores.items():
        table.add_row(
            part,
            str(found.known),
            _share(found.right, found.known),
            str(found.wrong),
            str(found.unknown),
            _share(found.abstained, found.unknown),
        )
    Console(width=150).print(table)


def _share(count: int, total: int) -> str:
    if not total:
        return "-"
    bounds = wilson(count, total)
    return f"{count / total:.0%} ({bounds.low:.0%} to {bounds.high:.0%})"


def _log(text: str) -> BuildLog:
    return read_log(io.BytesIO(text.encode()))


if __name__ == "__main__":
    sys.exit(main())
