"""Spans of Effect 4 for TypeScript, whose interrupted fibers end with the status OK."""

from __future__ import annotations

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, load, record_of_spans, span

INTERRUPTED = {"span.label": "⚠︎ Interrupted", "status.interrupted": True}


def test_run_of_an_interrupted_fiber_was_cancelled() -> None:
    asked = {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 18}
    record = record_of_spans(
        span("agent", None, AGENT | INTERRUPTED, end=9, status=1),
        span("m1", "agent", CHAT | asked, start=1, end=2, status=1),
        span("tool", "agent", TOOL, start=3, end=4, status=1),
        span("m2", "agent", CHAT | INTERRUPTED, start=5, end=9, status=1),
    )
    run = load(record)

    assert (record.row.outcome, record.row.outcome_rule) == ("unknown", "cancelled")
    assert [step.status for step in run.steps] == ["success", "cancelled"]
    assert [call.status for call in run.tool_calls] == ["success"]


def test_interruption_that_did_not_happen_is_no_error() -> None:
    row = record_of_spans(span("agent", None, AGENT | {"status.interrupted": False}, end=9, status=1)).row

    assert row.outcome == "succeeded"
