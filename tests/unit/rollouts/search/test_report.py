"""The files of a search's report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relab.rollouts.errors import PlanInvalidError
from relab.rollouts.search.candidates import ScreenedCandidate, SearchResult, confirming_plan, screening_plan
from relab.rollouts.search.report import read_result, write_search
from relab.rollouts.search.spec import SearchSpec, read_search


def test_files_have_no_control_characters_from_answers_of_the_target(tmp_path: Path) -> None:
    spec = SearchSpec.model_validate({"parameters": {"experiment.conc_cap": {"values": [1]}}})
    problem = "The target answers 422: \x1b[31mno\u202e."
    candidate = ScreenedCandidate(number=1, values={"experiment.conc_cap": 1}, rollout_id=None, problem=problem)

    write_search(SearchResult(search_id="search-1", spec=spec, candidates=(candidate,)), tmp_path)

    assert r"422: \x1b[31mno\u202e." in (tmp_path / "search.txt").read_text(encoding="utf-8")
    assert "\u202e" not in (tmp_path / "search.json").read_text(encoding="utf-8")
    assert read_result(tmp_path / "search.json").candidates[0].problem == problem


def test_search_that_an_earlier_version_accepted_can_be_continued(tmp_path: Path) -> None:
    flags = {"kind": "http", "url": "http://127.0.0.1:9/limit", "b": 1}
    metric = {"kind": "json", "url": "http://127.0.0.1:9/figures", "pointer": "/p95", "requests": "/n", "errors": "/e"}
    spec = {
        "plan": {"subject": {"flags": flags, "metric": metric}},
        "parameters": {"subject.flags.b": {"values": [1, 2]}},
    }
    path = tmp_path / "search.json"
    path.write_text(json.dumps({"search_id": "search-1", "spec": spec}), encoding="utf-8")

    search = read_result(path)

    candidate = ScreenedCandidate(number=1, values={"subject.flags.b": 2}, rollout_id=None)
    assert screening_plan(search.spec, candidate.values, 1, "reports").subject.flags.b == 2  # type: ignore[union-attr]
    assert confirming_plan(search.spec, candidate, 1, "reports").subject.metric == search.spec.plan.subject.metric
    new = tmp_path / "search.yaml"
    new.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(PlanInvalidError, match="no effect without `live: true`"):
        read_search(new)
