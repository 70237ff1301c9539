"""The evaluation of build logs: its data, baselines and figures, on a small data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals import builds
from evals.build_baselines import keyword_lines, last_lines, new_blocks_with_keyword, new_lines
from evals.datasets import cidiff
from evals.datasets.cidiff import BuildCase
from evals.datasets.source import MissingDataError
from support.builds.logs import log_of

FAILED = "start\ncc a.c 12\nunused\nb.c:3: error: no semicolon\n  int x\nend\n"
PASSED = "start\ncc a.c 14\nend\n"


def case(name: str = "shop_1", second: frozenset[int] | None = None) -> BuildCase:
    return BuildCase(name, "shop", True, log_of(FAILED), log_of(PASSED), frozenset({4, 5}), second)


def test_each_baseline_chooses_its_lines() -> None:
    assert last_lines(case()) == {1, 2, 3, 4, 5, 6}
    assert keyword_lines(case()) == {4}
    assert new_lines(case()) == {3, 4, 5}
    assert new_blocks_with_keyword(case()) == {3, 4, 5}


def test_score_is_the_mean_over_the_logs_that_the_annotator_marked() -> None:
    cases = [case(), case("shop_2", frozenset({4}))]

    first = builds.score(cases, keyword_lines, second=False)
    second = builds.score(cases, keyword_lines, second=True)

    assert (first.n, second.n) == (2, 1)
    assert first.macro == pytest.approx(2 / 3)
    assert second.macro == 1.0
    assert first.micro == pytest.approx(2 * 2 / 6)


def test_interval_resamples_projects_with_all_their_logs() -> None:
    low, high = builds.interval([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"])

    assert (low, high) == (0.0, 1.0)


def test_incomplete_set_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / cidiff.NAME / "other_cases" / "shop_1"
    folder.mkdir(parents=True)
    (folder / "groundtruth").write_text("DEFAULT\nE 4-5\n")

    with pytest.raises(MissingDataError, match="holds 1 cases, not the 72"):
        cidiff.read(tmp_path)
