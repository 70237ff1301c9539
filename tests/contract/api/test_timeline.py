"""Timelines: merged by time, in a stable order, paged without skips or repeats."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from relab.core.cursor import encode_cursor
from support.api.client import assert_problem, fields_of
from support.telemetry.runs import (
    RunBody,
    agent_runs,
    examples,
    guardrail_event,
    minimal_run,
    step,
    time_text,
    tool_call,
)

_numbers = itertools.count()


def read_pages(api: TestClient, run_id: str, limit: int) -> list[list[dict[str, Any]]]:
    path = f"/agent-runs/{quote(run_id, safe='')}/timeline"
    pages: list[list[dict[str, Any]]] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": limit, **({"cursor": cursor} if cursor is not None else {})}
        page = api.get(path, params=query).json()
        pages.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages


def expected_order(body: RunBody) -> list[tuple[str, str]]:
    """Return `(kind, id)` of all items in the documented order, computed by brute force."""
    starts = {item["step_id"]: item["started_at"] for item in body["steps"]}
    placed = [(item["started_at"], 0, number, "step", item["step_id"]) for number, item in enumerate(body["steps"])]
    for number, call in enumerate(body["tool_calls"]):
        at = call.get("started_at") or starts.get(call.get("step_id"), body["started_at"])
        placed.append((at, 1, number, "tool_call", call["call_id"]))
    for number, event in enumerate(body["guardrail_events"]):
        placed.append((event["created_at"], 2, number, "guardrail_event", event["event_id"]))
    return [(kind, ref_id) for *_, kind, ref_id in sorted(placed)]


@given(body=agent_runs(run_id="replaced below"), limit=st.integers(1, 25))
@examples(25)
def test_pages_of_any_size_add_up_to_the_whole_timeline(api: TestClient, body: RunBody, limit: int) -> None:
    body = {**body, "run_id": f"paged-{next(_numbers)}"}
    assert api.post("/agent-runs", json=body).status_code == 201

    pages = read_pages(api, body["run_id"], limit)
    items = [item for page in pages for item in page]

    assert [(item["kind"], item["ref_id"]) for item in items] == expected_order(body)
    assert all(len(page) == limit for page in pages[:-1])
    assert len(pages[-1]) <= limit
    sent = {("step", item["step_id"]): item for item in body["steps"]}
    sent |= {("tool_call", item["call_id"]): item for item in body["tool_calls"]}
    sent |= {("guardrail_event", item["event_id"]): item for item in body["guardrail_events"]}
    assert {(item["kind"], item["ref_id"]): item["data"] for item in items} == sent


def test_item_has_its_kind_ids_time_title_and_status(api: TestClient, run_id: str) -> None:
    body = minimal_run(
        run_id,
        steps=[step("s1", 1, status="failure")],
        tool_calls=[tool_call("c1", step_id="s1")],
        guardrail_events=[guardrail_event("g1", 2, step_id="s1", call_id="c1")],
    )
    api.post("/agent-runs", json=body)

    page = api.get(f"/agent-runs/{run_id}/timeline").json()

    assert page["run_id"] == run_id
    assert page["total"] == 3
    assert page["next_cursor"] is None
    assert [{name: value for name, value in item.items() if name != "data"} for item in page["items"]] == [
        {
            "kind": "step", "ref_id": "s1", "at": time_text(1), "step_id": "s1", "call_id": None,
            "title": "do s1", "status": "failure",
        },
        {
            "kind": "tool_call", "ref_id": "c1", "at": time_text(1), "step_id": "s1", "call_id": "c1",
            "title": "order_lookup", "status": "success",
        },
        {
            "kind": "guardrail_event", "ref_id": "g1", "at": time_text(2), "step_id": "s1", "call_id": "c1",
            "title": "policy", "status": None,
        },
    ]  # fmt: skip


def test_the_last_full_page_has_no_next(api: TestClient, run_id: str) -> None:
    api.post("/agent-runs", json=minimal_run(run_id, steps=[step(f"s{number}") for number in range(4)]))

    assert [len(page) for page in read_pages(api, run_id, 2)] == [2, 2]
    assert [len(page) for page in read_pages(api, run_id, 4)] == [4]


def test_an_empty_run_has_an_empty_timeline(api: TestClient, run_id: str) -> None:
    api.post("/agent-runs", json=minimal_run(run_id))

    page = api.get(f"/agent-runs/{run_id}/timeline").json()
    assert page == {"run_id": run_id, "items": [], "total": 0, "next_cursor": None}


def test_items_with_different_utc_offsets_are_ordered_by_instant(api: TestClient, run_id: str) -> None:
    steps = [
        step("later", started_at="2024-01-15T09:00:00-05:00"),
        step("earlier", started_at="2024-01-15T15:00:00+02:00"),
        step("between", started_at="2024-01-15T13:00:00.5"),
    ]
    api.post("/agent-runs", json=minimal_run(run_id, steps=steps))

    items = api.get(f"/agent-runs/{run_id}/timeline").json()["items"]
    assert [item["ref_id"] for item in items] == ["earlier", "between", "later"]


@pytest.mark.parametrize(
    "key",
    [(2**63, 0, 0), (2**200, 0, 0), (0, 2**15, 0), (0, 0, 2**31), (-1, 0, 0), (0, "0", 0), (0, 0), (), (0, 0, 0, 0)],
)
def test_forged_cursors_are_refused(api: TestClient, run_id: str, key: tuple[object, ...]) -> None:
    api.post("/agent-runs", json=minimal_run(run_id, steps=[step("s1")]))

    response = api.get(f"/agent-runs/{run_id}/timeline", params={"cursor": encode_cursor(key)})

    assert fields_of(assert_problem(response, 422, "invalid_cursor")) == ["cursor"]


@pytest.mark.parametrize("limit", [0, -1, 10_001, 10**20, "all"])
def test_limits_out_of_range_are_refused(api: TestClient, run_id: str, limit: object) -> None:
    api.post("/agent-runs", json=minimal_run(run_id))

    response = api.get(f"/agent-runs/{run_id}/timeline", params={"limit": limit})

    assert fields_of(assert_problem(response, 422)) == ["query.limit"]
