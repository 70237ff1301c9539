"""Lists of runs: filters, text search, and cursors that stay valid when runs are inserted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.core.cursor import encode_cursor
from support.api.client import assert_problem, fields_of, run_jobs, running_api
from support.otlp.traces import Trace
from support.telemetry.runs import examples, failed_run, guardrail_event, minimal_run, step, time_text, tool_call
from support.telemetry.unprojected import send


@pytest.fixture
def alone(services: Services) -> Iterator[TestClient]:
    """An installation with no other runs."""
    with running_api(services) as client:
        yield client


def found(api: TestClient, **query: Any) -> list[str]:
    """Return the ids of all runs that match, over all pages of two."""
    run_ids: list[str] = []
    cursor: str | None = None
    while True:
        page = api.get("/agent-runs", params={"limit": 2, **query, **({"cursor": cursor} if cursor else {})}).json()
        run_ids += [run["run_id"] for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return run_ids


def test_every_filter_selects_and_all_must_match(alone: TestClient, services: Services) -> None:
    for number, fields in enumerate(
        [
            {},
            {"agent_name": "other-agent"},
            {"agent_version": "2"},
            {"status": "running"},
            {"environment": "staging"},
            {"task_id": "t"},
            {"agent_version": "2", "environment": "staging"},
        ]
    ):
        alone.post("/agent-runs", json=minimal_run(f"r{number}", **{"started_at": time_text(number), **fields}))
    alone.post("/agent-runs", json=failed_run("r7", started_at=time_text(7), ended_at=None, agent_version=None))
    alone.post("/agent-runs/r7/rca-runs")
    run_jobs(services)

    assert found(alone) == ["r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert found(alone, agent="other-agent") == ["r1"]
    assert found(alone, version="2") == ["r6", "r2"]
    assert found(alone, status="running") == ["r3"]
    assert found(alone, status="failure") == ["r7"]
    assert found(alone, outcome="failed") == ["r7"]
    assert found(alone, outcome="unknown") == ["r3"]
    assert found(alone, environment="staging") == ["r6", "r4"]
    assert found(alone, task_id="t") == ["r5"]
    assert found(alone, category="tool_schema_mismatch") == ["r7"]
    assert found(alone, category="timeout") == []
    assert found(alone, version="2", environment="staging") == ["r6"]
    assert found(alone, version="2", environment="prod") == []
    assert found(alone, started_after=time_text(5)) == ["r7", "r6", "r5"]
    assert found(alone, started_before=time_text(2)) == ["r1", "r0"]
    assert found(alone, started_after=time_text(2), started_before=time_text(4)) == ["r3", "r2"]
    assert found(alone, agent="%") == []


def test_trace_without_agent_activity_is_listed_unless_the_client_leaves_it_out(
    alone: TestClient, services: Services
) -> None:
    plain = Trace("plain")
    send(services, [plain.span("query", None, {"db.system.name": "sqlite"})])

    assert found(alone) == [plain.id]
    assert found(alone, all_traces="true") == [plain.id]
    assert found(alone, all_traces="false") == []


def test_label_is_removed_only_when_the_run_changes(alone: TestClient, services: Services) -> None:
    alone.post("/agent-runs", json=failed_run("r"))
    alone.post("/agent-runs/r/rca-runs")
    run_jobs(services)
    alone.post("/agent-runs", json=failed_run("r"))
    assert alone.get("/agent-runs/r").json()["category"] == "tool_schema_mismatch"

    alone.post("/agent-runs", json=failed_run("r", error_message="now otherwise"))

    assert alone.get("/agent-runs/r").json()["category"] is None


def test_text_search_covers_ids_names_and_errors(api: TestClient, run_id: str) -> None:
    body = minimal_run(
        run_id,
        status="failure",
        error_type="BrokenPipe",
        error_message="Ärger im Betrieb",
        trace_id="trace-77",
        task_id="refund-small",
        correlation_ids=["req-1", "session-9"],
        steps=[step("s1", name="plan the trip"), step("s2", status="failure", name="book it", error_class="StepFault")],
        tool_calls=[
            tool_call("c1", tool_name="quiet_tool"),
            tool_call("c2", tool_name="loud_tool", status="failure", error_message="no such customer"),
        ],
        guardrail_events=[guardrail_event("g1", type="pii_filter", message="a card number")],
    )
    api.post("/agent-runs", json=body)

    for text in (
        run_id, "SHOP-agent", "brokenpipe", "ärger IM", "trace-77", "refund", "session-9", "StepFault", "book it",
        "loud_TOOL", "such customer", "pii_filter", "card number",
    ):  # fmt: skip
        assert run_id in found(api, text=text), text
    for text in ("quiet_tool", "plan the trip", "no-such-text", "req-1session"):
        assert run_id not in found(api, text=text), text


@pytest.mark.parametrize(
    "wildcard", ["%", "_", "\\", "/", "/%", "\\%", "a%b", "a_b", "a\\b", "*", "?", "[a]", "'", '"']
)
def test_wildcards_are_literals(api: TestClient, run_id: str, wildcard: str) -> None:
    with_it, without = f"{run_id}-with", f"{run_id}-without"
    api.post("/agent-runs", json=minimal_run(with_it, error_message=f"{run_id} <{wildcard}>"))
    api.post("/agent-runs", json=minimal_run(without, error_message=f"{run_id} <aXb>"))

    assert found(api, text=f"{run_id} <{wildcard}>") == [with_it]


def test_empty_text_matches_all_runs_and_an_empty_filter_matches_no_run(alone: TestClient) -> None:
    alone.post("/agent-runs", json=minimal_run("r"))

    assert found(alone, text="") == ["r"]
    assert found(alone, agent="") == []


@given(
    offsets=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    limit=st.integers(1, 4),
)
@examples(8)
def test_pages_of_any_size_add_up_to_the_whole_list(api: TestClient, offsets: list[int], limit: int) -> None:
    agent = f"agent-{offsets}-{limit}"
    for number, offset in enumerate(offsets):
        body = minimal_run(f"{agent}-{number}", agent_name=agent, started_at=time_text(offset))
        assert api.post("/agent-runs", json=body).status_code in {200, 201}

    run_ids = found(api, agent=agent, limit=limit)

    starts = [offsets[int(run_id.rsplit("-", 1)[1])] for run_id in run_ids]
    assert starts == sorted(offsets, reverse=True)
    assert len(set(run_ids)) == len(offsets)
    assert run_ids == found(api, agent=agent, limit=500)


def test_inserts_between_pages_neither_repeat_nor_hide_a_run(alone: TestClient) -> None:
    for number in range(6):
        alone.post("/agent-runs", json=minimal_run(f"old-{number}", started_at=time_text(number)))
    first = alone.get("/agent-runs", params={"limit": 3}).json()
    alone.post("/agent-runs", json=minimal_run("newer", started_at=time_text(100)))
    alone.post("/agent-runs", json=minimal_run("same-time", started_at=time_text(3)))
    alone.delete("/agent-runs/old-3")

    rest = alone.get("/agent-runs", params={"limit": 100, "cursor": first["next_cursor"]}).json()

    assert [run["run_id"] for run in first["items"]] == ["old-5", "old-4", "old-3"]
    seen = [run["run_id"] for run in rest["items"]]
    assert [run_id for run_id in seen if run_id.startswith("old-")] == ["old-2", "old-1", "old-0"]
    assert "newer" not in seen


@pytest.mark.parametrize("key", [(2**63, "a"), (2**300, "a"), (-1, "a"), ("1", "a"), (1, 1), (1,), (1, "a", 1), ()])
def test_forged_cursors_are_refused(api: TestClient, key: tuple[object, ...]) -> None:
    response = api.get("/agent-runs", params={"cursor": encode_cursor(key)})

    assert fields_of(assert_problem(response, 422, "invalid_cursor")) == ["cursor"]


def test_cursor_of_another_list_is_rejected(api: TestClient, run_id: str) -> None:
    api.post("/agent-runs", json=minimal_run(run_id, steps=[step("s1"), step("s2")]))
    cursor = api.get(f"/agent-runs/{run_id}/timeline", params={"limit": 1}).json()["next_cursor"]

    assert_problem(api.get("/agent-runs", params={"cursor": cursor}), 422, "invalid_cursor")
