"""Behaviours that rules find, in reports, lists of runs and metrics, alike on both kinds of installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relab.bootstrap import Services
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.api.client import running_api
from support.telemetry.runs import failed_run, minimal_run

RULES = """
version: 1
behaviours:
  - name: apologised
    description: The agent apologised
    when: {answer: '(?i)sorry'}
  - name: long-answer
    description: The answer has many words
    when: {answer: '(\\w+\\W+){20}'}
"""


@pytest.fixture
def ruled(services: Services) -> Services:
    services.settings.home.mkdir(exist_ok=True)
    (services.settings.home / "rules.yaml").write_text(RULES)
    return services


def post(services: Services, run_id: str, **fields: Any) -> None:
    services.telemetry.ingest(check_agent_run(failed_run(run_id, **fields)))


def analyse(services: Services, run_id: str) -> str:
    rca_run_id = services.rca.request(run_id).rca_run_id
    runner = services.runner()
    while runner.run_next():
        pass
    return rca_run_id


def shown(services: Services, behaviour: str) -> list[str]:
    return [run.run_id for run in services.telemetry.list_runs(RunFilter(behaviour=behaviour)).items]


def test_report_has_the_behaviour_with_its_evidence_and_lists_find_the_run(ruled: Services) -> None:
    post(ruled, "a", answer="I am sorry.")
    post(ruled, "b", answer="Done.")
    report = ruled.rca.get(analyse(ruled, "a")).report
    analyse(ruled, "b")

    assert report is not None
    [found] = report.behaviours
    index = {item.evidence_id: item.snippet for item in report.evidence_index}
    assert (found.behaviour, [index[each] for each in found.evidence_ids]) == ("apologised", ["I am sorry."])
    assert shown(ruled, "apologised") == ["a"]
    assert ruled.rca.notes.of(ruled.rca.list_for_run("a")[0].rca_run_id).behaviours == ("The agent apologised",)
    with running_api(ruled) as client:
        assert [run["run_id"] for run in client.get("/agent-runs?behaviour=apologised").json()["items"]] == ["a"]
        metrics = client.get("/metrics").text
    assert 'relab_run_behaviours{behaviour="apologised"} 1.0' in metrics
    assert 'relab_run_behaviours{behaviour="long-answer"} 0.0' in metrics


def test_behaviour_is_shown_only_for_the_content_in_which_it_was_found(ruled: Services) -> None:
    post(ruled, "a", answer="I am sorry.")
    analyse(ruled, "a")
    assert ruled.rca.behaviours.count()["apologised"] == 1
    post(ruled, "a", answer="Done.")
    assert shown(ruled, "apologised") == []
    assert ruled.rca.behaviours.count()["apologised"] == 0

    ruled.telemetry.delete("a")
    post(ruled, "a", answer="I am sorry.")
    assert shown(ruled, "apologised") == []


def test_runs_that_succeeded_are_marked_on_request(ruled: Services) -> None:
    ruled.telemetry.ingest(check_agent_run(minimal_run("good", answer="Sorry for the wait.")))
    scanner = ruled.rca.behaviours
    for _, scanned in scanner.scan(scanner.book.rules(), scanner.matching(RunFilter())):
        scanner.mark(scanned)

    assert shown(ruled, "apologised") == ["good"]


def test_invalid_file_keeps_the_earlier_rules_and_a_removed_file_clears_them(ruled: Services) -> None:
    file: Path = ruled.rca.behaviours.book.path
    assert [rule.name for rule in ruled.rca.behaviours.book.rules()] == ["apologised", "long-answer"]
    file.write_text("version: 1\nbehaviours: []\n# longer")
    assert len(ruled.rca.behaviours.book.rules()) == 2
    file.unlink()
    assert ruled.rca.behaviours.book.rules() == ()
    assert ruled.rca.behaviours.count() == {}


def test_behaviours_of_removed_rules_are_one_series(ruled: Services) -> None:
    post(ruled, "a", answer="I am sorry.")
    analyse(ruled, "a")
    file = ruled.rca.behaviours.book.path
    file.write_text(RULES.replace("apologised\n    desc", "another\n    desc"))

    assert ruled.rca.behaviours.count() == {"another": 0, "long-answer": 0, "other": 1}
