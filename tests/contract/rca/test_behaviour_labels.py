"""Labels of behaviours on both installations: stored, used to measure rules, shown in reports, deleted with runs."""

from __future__ import annotations

from typing import Any

import pytest

from relab.bootstrap import Services
from relab.core.errors import InvalidInputError
from relab.rca.behaviours.labels import BehaviourScore, SearchedRun, score
from relab.rca.errors import NoLabelError
from relab.rca.models import BehaviourFinding, RunBehaviourLabel
from relab.stats.intervals import wilson
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.api.client import running_api
from support.telemetry.runs import failed_run

RULES = """
version: 1
behaviours:
  - name: apologised
    description: The agent apologised
    when: {answer: '(?i)sorry'}
  - name: vague
    description: The agent is vague
    sentence: The agent answers with words that say nothing.
"""


@pytest.fixture
def ruled(services: Services) -> Services:
    services.settings.home.mkdir(exist_ok=True)
    (services.settings.home / "rules.yaml").write_text(RULES)
    return services


def post(services: Services, run_id: str, answer: str, *, shows: bool | None = None, **fields: Any) -> None:
    """Store a run and, unless `shows` is None, its label for the behaviour `apologised`."""
    services.telemetry.ingest(check_agent_run(failed_run(run_id, answer=answer, **fields)))
    if shows is not None:
        services.rca.behaviours.labels.save(run_id, "apologised", is_shown=shows, by="me")


def work(services: Services) -> None:
    runner = services.runner()
    while runner.run_next():
        pass


def searched(services: Services) -> list[BehaviourScore]:
    scanner = services.rca.behaviours
    found = [scanned for _, scanned in scanner.scan(scanner.book.rules(), scanner.matching(RunFilter()))]
    for scanned in found:
        scanner.mark(scanned)
    return scanner.scores(scanner.book.rules(), found)


def finding(services: Services, run_id: str) -> BehaviourFinding:
    receipt = services.rca.request(run_id, force=True)
    work(services)
    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    return report.behaviours[0]


def test_search_is_measured_against_labels(ruled: Services) -> None:
    for number, (answer, shows) in enumerate(
        [("Sorry.", True), ("sorry", True), ("Not sorry at all", False), ("I apologise.", True), ("Done.", False)]
    ):
        post(ruled, f"r{number}", answer, shows=shows)
    post(ruled, "unlabelled", "Sorry.")
    post(ruled, "changed", "Done.", shows=False)
    post(ruled, "changed", "Sorry.")
    ruled.rca.behaviours.labels.save("r0", "vague", is_shown=True, by="me")
    [apologised, vague] = searched(ruled)

    assert (apologised.behaviour, apologised.labelled, apologised.changed) == ("apologised", 5, 1)
    assert (apologised.precision.hits, apologised.precision.n) == (2, 3)
    assert (apologised.recall.hits, apologised.recall.n) == (2, 3)
    assert (apologised.precision.low, apologised.precision.high) == (wilson(2, 3).low, wilson(2, 3).high)
    assert apologised.precision.words() == "67% (2 of 3, 21% to 94%)"
    assert (vague.labelled, vague.not_judged, vague.precision.words()) == (0, 1, "-")


def test_finding_has_the_hit_rate_of_other_labelled_runs(ruled: Services) -> None:
    post(ruled, "new", "Sorry.")
    assert finding(ruled, "new").hit_rate is None

    for number, shows in enumerate([True, True, False]):
        post(ruled, f"r{number}", "Sorry.", shows=shows)
    post(ruled, "changed", "Sorry.", shows=True)
    post(ruled, "changed", "Sorry again.")
    searched(ruled)
    found = finding(ruled, "new")

    assert found.hit_rate is not None
    assert (found.hit_rate.right, found.hit_rate.seen) == (2, 3)
    assert found.line() == "The agent apologised (of 3 labelled runs in which it was found, 2 show it)"
    ruled.rca.behaviours.labels.save("new", "apologised", is_shown=True, by="me")
    assert finding(ruled, "new").hit_rate == found.hit_rate


def test_label_is_checked_replaced_and_removed(ruled: Services) -> None:
    labels = ruled.rca.behaviours.labels
    with pytest.raises(AgentRunNotFoundError):
        labels.save("r", "apologised", is_shown=True, by="me")
    post(ruled, "r", "Done.", shows=True)
    post(ruled, "r", "Done.", shows=False)
    for wrong in ("", "Not A Name", "x" * 65, "a\nb", "a\n"):
        with pytest.raises(InvalidInputError, match="is not a name of a behaviour"):
            labels.save("r", wrong, is_shown=True, by="me")

    assert [(each.run_id, each.is_shown) for each in labels.of("apologised")] == [("r", False)]
    labels.remove("r", "apologised")
    with pytest.raises(NoLabelError, match="no label for the behaviour 'apologised'"):
        labels.remove("r", "apologised")
    assert labels.of("apologised") == []


def test_labels_of_behaviours_are_deleted_with_their_runs(ruled: Services) -> None:
    post(ruled, "r", "Done.", shows=True)
    post(ruled, "kept", "Done.", shows=True)
    ruled.telemetry.delete("r")
    work(ruled)

    assert [each.run_id for each in ruled.rca.behaviours.labels.of("apologised")] == ["kept"]


def test_labels_are_stored_listed_and_deleted_over_http(ruled: Services) -> None:
    post(ruled, "r", "Sorry.")
    with running_api(ruled) as client:
        labels = "/agent-runs/r/behaviour-labels"
        path = f"{labels}/apologised"
        assert client.get(labels).json() == {"items": []}
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
        for wrong in ({}, {"is_shown": None}, {"is_shown": "yes"}, {"is_shown": 1}, {"is_shown": True, "note": "n"}):
            assert client.put(path, json=wrong).status_code == 422
        for name in ("Not%20A%20Name", "a%0A", "x" * 65):
            assert client.put(f"{labels}/{name}", json={"is_shown": True}).status_code == 422
        for missing in ("/agent-runs/x/behaviour-labels", "/agent-runs/x/behaviour-labels/apologised"):
            assert client.get(missing).json()["detail"] == "There is no agent run 'x'."
        assert client.put("/agent-runs/x/behaviour-labels/apologised", json={"is_shown": True}).status_code == 404
        stored = client.put(path, json={"is_shown": False}).json()
        assert (stored["run_id"], stored["behaviour"], stored["is_shown"]) == ("r", "apologised", False)
        assert client.put(path, json={"is_shown": True}).json()["is_shown"]
        client.put(f"{labels}/an-older-rule", json={"is_shown": False})

        assert client.get(path).json()["is_shown"]
        found = [(each["behaviour"], each["is_shown"]) for each in client.get(labels).json()["items"]]
        assert found == [("an-older-rule", False), ("apologised", True)]
        assert [(each.run_id, each.is_shown) for each in ruled.rca.behaviours.labels.of("apologised")] == [("r", True)]
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404


def test_runs_that_were_not_searched_do_not_count() -> None:
    labels = [
        RunBehaviourLabel(
            run_id=run_id, behaviour="b", content_hash="h", is_shown=True, labelled_by="me", labelled_at=1
        )
        for run_id in ("a", "other")
    ]
    found = score("b", labels, {"a": SearchedRun("h", {"b"}, ())})

    assert (found.labelled, found.precision.n, found.recall.n) == (1, 1, 1)
