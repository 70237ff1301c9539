"""Message events whose content was not captured, with the attributes that Ax 24 for TypeScript sent."""

from __future__ import annotations

from typing import Any

from relab.telemetry.records import RunRecord
from unit.telemetry.otlp.builders import CHAT, exception, load, record_of_spans, span

ASKED = ("gen_ai.user.message", {"part_count": 1})
TOOL = {"tool.name": "order_lookup", "function.id": "c1"}
ERROR = 2


def usage(prompt: int, completion: int) -> tuple[str, dict[str, int]]:
    return "gen_ai.usage", {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": completion}


def choice(finish_reason: str) -> tuple[str, dict[str, Any]]:
    return "gen_ai.choice", {"finish_reason": finish_reason, "index": 0, "has_content": True}


def run_with(*last: Any, tool_status: int = 0) -> RunRecord:
    """Return the run of a function that called a model and a tool; `last` are the spans of the work after the tool."""
    errors = [exception("ENOENT", "no such file")] if tool_status == ERROR else []
    requested = [ASKED, usage(56, 18), choice("function_call")]
    return record_of_spans(
        span("ask", None, title="ask", end=9),
        span("m1", "ask", CHAT, start=1, end=2, events=requested),
        span("tool", "ask", TOOL, title="Tool: order_lookup", start=3, end=4, status=tool_status, events=errors),
        *last,
    )


def test_messages_without_content_are_neither_question_nor_answer() -> None:
    record = run_with(span("m2", "ask", CHAT, start=5, end=6, events=[ASKED, usage(96, 19), choice("stop")]))
    run = load(record)

    assert (run.question, run.answer) == (None, None)
    assert [(step.input_summary, step.output_summary) for step in run.steps] == [(None, None)] * 2
    assert record.row.outcome == "succeeded"


def test_tokens_are_read_from_an_event() -> None:
    run = load(run_with())

    assert run.cost is not None
    assert (run.cost.tokens_prompt, run.cost.tokens_completion) == (56, 18)


def test_run_without_an_answer_after_a_tool_that_raised_failed() -> None:
    row = run_with(tool_status=ERROR).row

    assert (row.outcome, row.outcome_rule) == ("failed", "no_answer")
