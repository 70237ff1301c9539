"""What people see of a run: what was asked, what came of it, and its timeline as a tree."""

from __future__ import annotations

import json
from typing import Any

from relab.cli.run_views import field_rows, summary_rows, timeline_rows
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
    """Return the cells of the column with the names."""
    return [str(row[1]) for row in timeline_rows(items)]


def test_calls_are_below_their_steps_and_steps_below_theirs() -> None:
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
    first, second = timeline_rows([model, call])
    assert first == ("+0.000 s", "m [m]", "success", "1,234 ms", "120 + -", "gpt-x", "Hello.")
    assert second[0] == "+1.500 s"
    assert second[6] == '{"order":5} → no such order'


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
    assert "timed out (tool_call c, error_message)" in shown
    assert "Fields" in shown


def test_fields_leave_out_what_the_summary_has_and_what_is_empty() -> None:
    from relab.telemetry.models import RunHeader

    run = RunHeader.model_validate(
        {
            "run_id": "r", "agent_name": "desk", "status": "success", "started_at": START_US, "ended_at": None, "source": "json",
            "outcome": "succeeded", "outcome_rule": None, "outcome_evidence": [], "category": None, "content_hash": "h",
            "counts": {"steps": 0, "tool_calls": 0, "guardrail_events": 0}, "received_at": START_US, "updated_at": START_US,
            "question": "Where?",
        }
    )  # fmt: skip
    assert dict(summary_rows(run)) == {
        "question": "Where?",
        "answer": None,
        "outcome": "succeeded",
        "cost": None,
        "tokens": None,
    }
    fields = dict(field_rows(run))
    assert "question" not in fields
    assert "category" not in fields
    assert fields["counts"] == '{"guardrail_events":0,"steps":0,"tool_calls":0}'
