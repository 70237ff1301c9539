"""Spans of Strands for TypeScript 1.19: messages in events, and finish reasons without underscores."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.records import RunRecord
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, load, record_of_spans, span

REQUEST = [{"type": "toolUse", "name": "order_lookup", "toolUseId": "c1", "input": {"order_id": "A-17"}}]
ASKED = {"content": json.dumps([{"text": "Where is A-17?"}])}


def choice(message: str, finish_reason: str) -> tuple[str, dict[str, str]]:
    return "gen_ai.choice", {"message": message, "finish_reason": finish_reason}


def ended(last: tuple[str, dict[str, str]], answer: tuple[str, dict[str, str]], *, status: int = 1) -> RunRecord:
    """Return the run of an agent that called a tool; `last` ends its second model call, `answer` the agent."""
    asked = ("gen_ai.user.message", ASKED)
    found: dict[str, Any] = {"gen_ai.tool.name": "order_lookup", "gen_ai.tool.call.id": "c1"}
    result = [("gen_ai.choice", {"message": '[{"text":"shipped"}]', "id": "c1"})]
    return record_of_spans(
        span("agent", None, AGENT | {"gen_ai.agent.name": "desk"}, end=9, status=status, events=[asked, answer]),
        span("m1", "agent", CHAT, start=1, end=2, events=[asked, choice(json.dumps(REQUEST), "toolUse")]),
        span("tool", "agent", TOOL | found, start=3, end=4, events=result),
        span("m2", "agent", CHAT, start=5, end=6, events=[asked, last]),
    )


def test_request_of_a_tool_is_read_from_a_part_of_the_type_tool_use() -> None:
    run = load(ended(choice('[{"text":"Shipped."}]', "endTurn"), choice("Shipped.", "endTurn")))

    assert run.steps[0].output_summary == 'order_lookup({"order_id":"A-17"})'
    [call] = run.tool_calls
    assert call.args_json == {"order_id": "A-17"}
    assert run.answer == "Shipped."


@pytest.mark.parametrize(
    ("finish_reason", "rule"),
    [("endTurn", "answer_empty"), ("contentFiltered", "answer_filtered"), ("maxTokens", "answer_cut_off")],
)
def test_finish_reasons_in_camel_case_decide_like_others(finish_reason: str, rule: str) -> None:
    row = ended(choice("[]", finish_reason), choice("", finish_reason)).row

    assert (row.outcome, row.outcome_rule) == ("completed_with_errors", rule)


def test_filtered_answer_is_an_event_of_a_guardrail() -> None:
    run = load(ended(choice("[]", "contentFiltered"), choice("", "contentFiltered")))

    assert [event.type for event in run.guardrail_events] == ["content_filter"]


def test_agent_that_reports_its_cancellation_as_its_finish_reason_was_cancelled() -> None:
    record = ended(choice('[{"text":"It was"}]', "endTurn"), choice("Cancelled by user", "cancelled"))
    run = load(record)

    assert (record.row.outcome, record.row.outcome_rule) == ("unknown", "cancelled")
    assert run.answer != "Cancelled by user"
    assert run.error_message == "Cancelled by user"


def test_error_of_an_agent_comes_before_its_finish_reason() -> None:
    record = ended(choice("[]", "endTurn"), choice("Cancelled by user", "cancelled"), status=2)

    assert record.row.outcome == "failed"
