"""The files of a search's report."""

from __future__ import annotations

from pathlib import Path

from relab.rollouts.search.candidates import ScreenedCandidate, SearchResult
from relab.rollouts.search.report import read_result, write_search
from relab.rollouts.search.spec import SearchSpec


def test_files_have_no_control_characters_from_answers_of_the_target(tmp_path: Path) -> None:
    spec = SearchSpec.model_validate({"parameters": {"experiment.conc_cap": {"values": [1]}}})
    problem = "The target answers 422: \x1b[31mno\u202e."
    candidate = ScreenedCandidate(number=1, values={"experiment.conc_cap": 1}, rollout_id=None, problem=problem)

    write_search(SearchResult(search_id="search-1", spec=spec, candidates=(candidate,)), tmp_path)

    assert r"422: \x1b[31mno\u202e." in (tmp_path / "search.txt").read_text(encoding="utf-8")
    assert "\u202e" not in (tmp_path / "search.json").read_text(encoding="utf-8")
    assert read_result(tmp_path / "search.json").candidates[0].problem == problem
