"""Labels of runs: kept, checked, listed, measured and deleted with their runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from relab.bootstrap import Services
from relab.core.cursor import InvalidCursorError, encode_cursor
from relab.rca.errors import LabelPlaceError, NoLabelError
from relab.rca.service import NewLabel
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.ingest.reading import check_agent_run
from support.api.client import running_api
from support.telemetry.runs import failed_run, step, time_text, tool_call


def post(services: Services, run_id: str, **fields: Any) -> None:
    """Store a run whose call in step `s1` by the agent `worker` timed out."""
    steps = [step("s0", agent_name="boss"), step("s1", agent_name="worker", started_at=time_text(1))]
    call = tool_call("c", step_id="s1", status="failure", error_message="timed out", error_class="TimeoutError")
    body = failed_run(run_id, **{"steps": steps, "tool_calls": [call], **fields})
    services.telemetry.ingest(check_agent_run(body))


def label(services: Services, run_id: str, **fields: Any) -> None:
    services.rca.labels.save(run_id, NewLabel(**fields), by="me")


def test_label_is_kept_replaced_and_removed(services: Services) -> None:
    post(services, "r")
    label(services, "r", step_id="s0", note="first")
    label(services, "r", step_id="s1", category="timeout")

    found = services.rca.labels.get("r")
    assert (found.step_id, found.category, found.note, found.labelled_by) == ("s1", "timeout", None, "me")
    services.rca.labels.remove("r")
    with pytest.raises(NoLabelError):
        services.rca.labels.get("r")
    with pytest.raises(NoLabelError):
        services.rca.labels.remove("r")


def test_label_must_fit_the_run(services: Services) -> None:
    post(services, "r")
    with pytest.raises(LabelPlaceError, match="no step 's9'"):
        label(services, "r", step_id="s9")
    with pytest.raises(LabelPlaceError, match="'boss', 'shop-agent', 'worker'"):
        label(services, "r", agent_name="nobody")
    with pytest.raises(AgentRunNotFoundError):
        label(services, "x", category="timeout")
    for wrong in ({}, {"note": "n"}, {"category": "Not A Name"}, {"step_id": "a/b"}, {"category": "x" * 65}):
        with pytest.raises(ValidationError):
            NewLabel.model_validate(wrong)
    assert services.rca.labels.page().items == []


def test_labels_are_listed_page_by_page_and_yield_their_runs(services: Services) -> None:
    for number in range(5):
        post(services, f"r{number}")
        label(services, f"r{number}", step_id="s1")
    keeper = services.rca.labels
    first = keeper.page(limit=3)
    second = keeper.page(cursor=first.next_cursor, limit=3)

    assert [each.run_id for each in (*first.items, *second.items)] == ["r4", "r3", "r2", "r1", "r0"]
    assert second.next_cursor is None
    assert [each.run.run_id for each in keeper.labelled_runs()] == ["r4", "r3", "r2", "r1", "r0"]
    with pytest.raises(InvalidCursorError):
        keeper.page(cursor="yesterday")
    with pytest.raises(InvalidCursorError):
        keeper.page(cursor=encode_cursor((2**63, "r")))


def test_reports_are_measured_against_labels(services: Services) -> None:
    for run_id, step_id, category in (("a", "s1", "timeout"), ("b", "s1", None), ("c", "s0", "rate_limited")):
        post(services, run_id)
        label(services, run_id, step_id=step_id, category=category)
    post(services, "gone")
    label(services, "gone", step_id="s1")
    post(services, "gone", steps=[step("other")], tool_calls=[])
    scores = services.rca.labels.measure()
    found = {score.question: (score.hits, score.n) for score in scores.scores}

    assert (scores.labelled, scores.changed) == (4, 1)
    assert found == {
        "step": (2, 3),
        "step, by evidence": (2, 3),
        "step, top 3": (2, 3),
        "agent": (2, 3),
        "category": (1, 2),
    }
    [step_score] = [score for score in scores.scores if score.question == "step"]
    assert step_score.low is not None
    assert step_score.high is not None
    assert step_score.low < 2 / 3 < step_score.high


def test_labels_leave_with_their_runs(services: Services) -> None:
    post(services, "r")
    label(services, "r", step_id="s1")
    services.telemetry.delete("r")
    runner = services.runner()
    while runner.run_next():
        pass

    assert services.rca.labels.page().items == []


def test_labels_over_http(services: Services) -> None:
    post(services, "r")
    with running_api(services) as client:
        path = "/agent-runs/r/rca-label"
        assert client.get(path).status_code == 404
        assert client.put(path, json={}).status_code == 422
        assert client.put(path, json={"step_id": "s9"}).status_code == 422
        assert client.put("/agent-runs/x/rca-label", json={"category": "a"}).status_code == 404
        assert client.put(path, json={"step_id": "s1", "agent_name": "worker"}).json()["step_id"] == "s1"
        assert client.get(path).json()["agent_name"] == "worker"
        assert [each["run_id"] for each in client.get("/rca/labels").json()["items"]] == ["r"]
        assert client.get("/rca/labels", params={"cursor": "x"}).status_code == 422
        assert client.delete(path).status_code == 204
        assert client.delete(path).status_code == 404
