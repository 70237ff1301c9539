"""Views of a run: a summary with question, answer and outcome, and the timeline as a tree."""

from __future__ import annotations

import json
from typing import Any

from relab.cli.agent_runs.views import field_rows, summary_rows, timeline_rows
from relab.telemetry.models import TimelineItem
from support.lab.cli import Lab

START_US = 1_705_314_600_000_000


def item(ref_id: str, kind: str = "step", second: float = 0.0, **data: Any) -> TimelineItem:
    return TimelineItem.model_validate(
        {
            "kind": kind,
            "ref_id": ref_id,
            "at": START_US + int(second * 1e6),
            "step_id": data.get("step_id"),
            "call_id": data.get("call_id"),
            "title": data.get("title", ref_id),
            "status": data.get("status", "success"),
            "data": data,
        }
    )


def names(*items: TimelineItem) -> list[str]:
    """Return the cells of the timeline's name column."""
    return [str(row[1]) for row in timeline_rows(items, START_US)]


def test_calls_are_below_their_steps_and_steps_below_their_parents() -> None:
    shown = names(
        item("agent"),
        item("other", second=1),
        item("model", second=2, parent_step_id="agent"),
        item("call", "tool_call", second=3, step_id="model"),
        item("guard", "guardrail_event", second=4, call_id="call", step_id="model"),
    )
    assert shown == ["agent [agent]", "  model [model]", "    call [call]", "      guard [guard]", "other [other]"]


def test_item_whose_step_is_on_another_page_is_at_the_top() -> None:
    assert names(item("call", "tool_call", step_id="elsewhere")) == ["call [call]"]


def test_steps_that_are_parents_of_each_other_are_shown_once() -> None:
    assert names(item("a", parent_step_id="b"), item("b", parent_step_id="a")) == ["a [a]", "  b [b]"]


def test_ten_thousand_nested_steps_are_shown() -> None:
    nested = [item(f"s{number}", parent_step_id=f"s{number - 1}") for number in range(10_000)]
    assert len(names(*nested)) == 10_000


def test_row_has_time_duration_tokens_model_arguments_and_error() -> None:
    model = item(
        "m", latency_ms=1_234.5, tokens_prompt=120, tokens_completion=None, model="gpt-x", output_summary="Hello."
    )
    call = item("c", "tool_call", second=1.5, status="failure", args_json={"order": 5}, error_message="no such order")
    first, second = timeline_rows([model, call], START_US)
    assert first == ("+0.000 s", "m [m]", None, "success", "1,234 ms", "120 + -", "gpt-x", "Hello.")
    assert second[0] == "+1.500 s"
    assert second[7] == '{"order":5} → no such order'


def test_additional_fields_of_other_types_are_not_read_as_tokens_and_times() -> None:
    step = item("s", tokens_prompt="12", tokens_completion=5)
    event = item("g", "guardrail_event", second=1, started_at="yesterday", ended_at="today", tokens_prompt=[1])

    rows = list(timeline_rows([step, event], START_US))

    assert [row[4] for row in rows] == [None, None]
    assert [row[5] for row in rows] == ["- + 5", None]


def test_timeline_counts_from_the_start_of_the_run_and_a_step_without_latency_took_its_times() -> None:
    sent = {"started_at": "2024-01-15T10:30:05Z", "ended_at": "2024-01-15T10:30:15.5Z"}

    (row,) = timeline_rows([item("s", second=5, **sent)], START_US)

    assert (row[0], row[4]) == ("+5.000 s", "10,500 ms")


def test_item_names_its_agent_or_that_of_its_step_and_the_agent_that_it_hands_over_to() -> None:
    step = item("m", agent_name="front", title="chat")
    call = item("c", "tool_call", second=1, step_id="m", title="lookup")
    handover = item(
        "h", "tool_call", second=2, step_id="m", title="transfer", to_agent="billing", relation="handed_over"
    )
    sub_agent = item("a", "tool_call", second=3, step_id="m", title="ask", to_agent="billing", relation="called")

    rows = list(timeline_rows([step, call, handover, sub_agent], START_US))

    assert [row[2] for row in rows] == ["front", "front", "front", "front"]
    assert str(rows[2][1]).strip() == "transfer → hand-over to billing [h]"
    assert str(rows[3][1]).strip() == "ask → agent billing [a]"


def test_summary_begins_with_question_answer_and_outcome(empty: Lab) -> None:
    body = {
        "run_id": "asked", "agent_name": "desk", "status": "success", "started_at": "2024-01-15T10:30:00Z",
        "question": "Where is order 5?", "answer": "I could not look it up.",
        "tool_calls": [{"call_id": "c", "tool_name": "lookup", "status": "failure", "error_message": "timed out"}],
    }  # fmt: skip
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(body))

    shown = empty.run("agent-runs", "show", "asked").out

    places = [
        shown.index(text) for text in ("Where is order 5?", "I could not look it up.", "completed with unrecovered")
    ]
    assert places == sorted(places)
    assert "timed out (lookup [c], error_message)" in shown
    assert "Fields" in shown


def test_summary_shows_each_of_several_agents_with_its_outcome(empty: Lab) -> None:
    body = {
        "run_id": "two", "agent_name": "front", "status": "success", "started_at": "2024-01-15T10:30:00Z",
        "agents": [{"name": "front"}, {"name": "billing", "parent": "front", "relation": "handed_over", "answer": "Done."}],
        "steps": [
            {"step_id": "s1", "name": "a", "status": "success", "started_at": "2024-01-15T10:30:00Z", "agent_name": "front"},
            {"step_id": "s2", "name": "b", "status": "success", "started_at": "2024-01-15T10:30:01Z", "agent_name": "billing"},
        ],
        "tool_calls": [
            {"call_id": "c", "tool_name": "refund", "status": "failure", "error_message": "timed out", "step_id": "s2"}
        ],
    }  # fmt: skip
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(body))

    run = json.loads(empty.run("agent-runs", "show", "two", "--json").out)["run"]
    front, billing = run["agents"]
    assert (front["outcome"], front["steps"], front["tool_calls"]) == ("succeeded", 1, 0)
    assert (billing["outcome"], billing["outcome_rule"]) == ("completed_with_errors", "tool_failed")
    assert billing["outcome_evidence"][0]["text"] == "timed out"
    shown = " ".join(empty.run("agent-runs", "show", "two").out.split())
    assert "took over from front; 1 steps, 1 calls; completed with unrecovered errors" in shown


def test_fields_leave_out_empty_values_and_those_of_the_summary() -> None:
    from relab.telemetry.models import RunHeader

    run = RunHeader.model_validate(
        {
            "run_id": "r", "agent_name": "desk", "status": "success", "started_at": START_US, "ended_at": None, "source": "json",
            "outcome": "succeeded", "outcome_rule": None, "outcome_evidence": [], "category": None, "category_confidence": None,
            "content_hash": "h",
            "counts": {"steps": 0, "tool_calls": 0, "guardrail_events": 0}, "received_at": START_US, "updated_at": START_US,
            "question": "Where?",
        }
    )  # fmt: skip
    assert dict(summary_rows(run)) == {
        "question": "Where?",
        "answer": None,
        "outcome": "succeeded",
        "cost": None,
        "tokens, prompt + completion": None,
    }
    fields = dict(field_rows(run))
    assert "question" not in fields
    assert "category" not in fields
    assert fields["counts"] == '{"guardrail_events":0,"steps":0,"tool_calls":0}'
