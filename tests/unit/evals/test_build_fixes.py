"""The evaluation of suggested fixes: its hand-written logs, and its counts of right, wrong and abstained answers."""

from __future__ import annotations

from pathlib import Path

from evals import build_fixes
from evals.build_fixes import NONE, FixCase
from relab.builds.suggestions.reading import shipped_failures
from relab.builds.suggestions.service import FixSuggestion
from support.builds.logs import log_of


def answer(cause: str, said: str | None) -> tuple[FixCase, FixSuggestion]:
    case = FixCase("a", "part", cause, log_of("error\n"))
    return case, FixSuggestion(suggestion="x", is_known=said is not None, incident=said)


def test_right_wrong_and_abstained_answers_are_counted() -> None:
    found = build_fixes.score(
        [
            answer("disk_full", "disk_full"),
            answer("disk_full", "data_race"),
            answer("disk_full", None),
            answer(NONE, None),
            answer(NONE, "data_race"),
        ]
    )

    assert (found.known, found.right, found.wrong) == (3, 1, 1)
    assert (found.unknown, found.abstained) == (2, 1)


def test_answer_of_too_little_confidence_counts_as_an_abstention() -> None:
    case = FixCase("a", "part", "disk_full", log_of("error\n"))
    fix = FixSuggestion(suggestion="x", is_known=True, incident="disk_full", confidence=0.5)

    assert build_fixes.score([(case, fix)]).right == 1
    assert build_fixes.score([(case, fix)], 0.5).right == 0


def test_causes_of_written_logs_are_ids_of_known_failures() -> None:
    ids = {failure.id for failure in shipped_failures()}

    assert {case.cause for case in build_fixes.written_cases()} <= ids | {build_fixes.NONE}


def test_missing_data_is_a_usage_error(tmp_path: Path) -> None:
    assert build_fixes.main(["--data", str(tmp_path / "none")]) == build_fixes.EXIT_USAGE
