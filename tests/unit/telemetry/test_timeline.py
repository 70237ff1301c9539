"""The timeline of a run: the order, the latencies and the fields of its items."""

from __future__ import annotations

import json

from hypothesis import given

from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import CALL, EVENT, ITEM_KINDS, STEP, AgentRun, TimelineKind
from relab.telemetry.tables import StoredItem
from relab.telemetry.timeline import place, present
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


def order(run: AgentRun) -> list[str]:
    return [placed.ref_id for placed in sorted(place(run), key=lambda item: (item.at, item.kind, item.position))]


def test_call_without_a_time_is_placed_at_the_start_of_its_step() -> None:
    run = check_agent_run(
        minimal_run(
            steps=[step("s1", 1), step("s2", 2)],
            tool_calls=[
                tool_call("of-s2", step_id="s2"),
                tool_call("of-s1", step_id="s1"),
                tool_call("of-no-step"),
                tool_call("of-unknown-step", step_id="s9"),
                tool_call("timed", step_id="s1", started_at=time_text(3)),
            ],
        )
    )

    assert order(run) == ["of-no-step", "of-unknown-step", "s1", "of-s1", "s2", "of-s2", "timed"]


def test_simultaneous_items_are_ordered_by_kind_and_position() -> None:
    run = check_agent_run(
        minimal_run(
            steps=[step("s2"), step("s1")],
            tool_calls=[tool_call("c2"), tool_call("c1")],
            guardrail_events=[guardrail_event("g2"), guardrail_event("g1")],
        )
    )

    assert order(run) == ["s2", "s1", "c2", "c1", "g2", "g1"]


@given(agent_runs())
@examples(30)
def test_every_item_has_one_unique_position(body: RunBody) -> None:
    run = check_agent_run(body)
    placed = list(place(run))

    assert len(placed) == len(run.steps) + len(run.tool_calls) + len(run.guardrail_events)
    assert len({(item.at, item.kind, item.position) for item in placed}) == len(placed)
    assert len({(item.kind, item.ref_id) for item in placed}) == len(placed)


def test_the_latency_of_a_step_is_reported_or_measured() -> None:
    run = check_agent_run(
        minimal_run(
            steps=[
                step("reported", latency_ms=7, ended_at=time_text(9)),
                step("measured", ended_at=time_text(1.5)),
                step("running"),
            ],
            tool_calls=[
                tool_call("c", latency_ms=3),
                tool_call("measured call", started_at=time_text(1), ended_at=time_text(3)),
                tool_call("running call", started_at=time_text(1)),
            ],
            guardrail_events=[guardrail_event("g")],
        )
    )

    assert {item.ref_id: item.latency_ms for item in place(run)} == {
        "reported": 7,
        "measured": 1_500,
        "running": None,
        "c": 3,
        "measured call": 2_000,
        "running call": None,
        "g": None,
    }


def test_item_has_its_fields_and_its_step() -> None:
    sent = {"call_id": "c1", "step_id": "s1", "tool_name": "search", "status": "failure", "x": 1}

    shown = present(StoredItem("r", 5, CALL, 0, "c1", None, json.dumps(sent)))

    assert shown.model_dump(mode="json") == {
        "kind": "tool_call",
        "ref_id": "c1",
        "at": "1970-01-01T00:00:00.000005Z",
        "step_id": "s1",
        "call_id": "c1",
        "title": "search",
        "status": "failure",
        "data": sent,
    }


def test_additional_field_that_is_no_text_is_shown_in_the_data_only() -> None:
    body = {**step("s1"), "call_id": {"a": 1}}
    event = {**guardrail_event("g1"), "status": 5}
    shown_step = present(StoredItem("r", 0, STEP, 0, "s1", None, json.dumps(body)))
    shown_event = present(StoredItem("r", 0, EVENT, 0, "g1", None, json.dumps(event)))

    assert (shown_step.call_id, shown_step.data) == (None, body)
    assert (shown_event.status, shown_event.data) == (None, event)


def test_each_kind_of_item_has_one_entry_that_names_its_list_and_its_fields() -> None:
    run = check_agent_run(
        minimal_run(steps=[step("s")], tool_calls=[tool_call("c")], guardrail_events=[guardrail_event("g")])
    )

    assert [kind.name for kind in ITEM_KINDS] == list(TimelineKind)
    for index, kind in enumerate(ITEM_KINDS):
        [item] = getattr(run, kind.list_name)
        [placed] = [each for each in place(run) if each.kind == index]
        assert placed.ref_id == getattr(item, kind.id_field)
        assert getattr(item, kind.title_field)
