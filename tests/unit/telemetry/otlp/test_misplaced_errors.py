"""Errors that a framework reports on another span: of a model on its agent, of an agent on its guardrail.

The attributes are those that Mastra sends.
"""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relab.telemetry.models import RunStatus, StepStatus
from unit.telemetry.otlp.builders import run_of, span

ANSWER = "Order A-17 was shipped."
REASON = "The answer names a carrier."
LIMIT = "Rate limit reached for gpt-4o-mini on requests per min (RPM): Limit 3, Used 3. Please try again in 20s."


def agent(**ends: Any) -> Span:
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "order_desk",
        "mastra.span.type": "agent_run",
        "mastra.agent_run.input": "Where is order A-17?",
        **({} if ends else {"mastra.agent_run.output": json.dumps({"text": ANSWER, "files": []})}),
    }
    return span("agent", None, attributes, end=90, **ends)


def model(name: str, start: int, finish: str, text: str = "") -> Span:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-mini",
        "mastra.span.type": "model_inference",
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": text}]}]),
        "gen_ai.response.finish_reasons": f'["{finish}"]',
    }
    return span(name, "agent", attributes, start=start, end=start + 5)


def processor(start: int, **ends: Any) -> Span:
    attributes = {
        "gen_ai.operation.name": "processor_run",
        "mastra.span.type": "processor_run",
        **({"error.type": "unknown", "error.message": REASON} if ends else {}),
    }
    return span("guard", "agent", attributes, start=start, end=start + 1, **ends)


def test_model_call_without_a_message_gets_the_error_of_its_agent() -> None:
    run = run_of(agent(status=2, message=LIMIT), model("first", 10, "tool-calls"), model("last", 20, "error"))

    [first, last] = [step for step in run.steps if step.model]
    assert first.status is StepStatus.SUCCESS
    assert (last.status, last.error_message) == (StepStatus.FAILURE, LIMIT)
    extra = last.model_dump()
    assert (extra["status_code"], extra["retry_after_s"], extra["rate_limit"]) == (429, 20.0, 3)


def test_model_call_after_which_its_agent_went_on_keeps_its_own_error() -> None:
    run = run_of(agent(status=2, message="no stock"), model("first", 10, "error"), model("last", 20, "stop", ANSWER))

    [first, _] = [step for step in run.steps if step.model]
    assert (first.status, first.error_message) == (StepStatus.FAILURE, None)


def test_model_call_after_which_its_agent_called_a_tool_keeps_its_own_error() -> None:
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find", "mastra.span.type": "tool_call"}
    run = run_of(
        agent(status=2, message="no stock"), model("first", 10, "error"), span("tool", "agent", tool, start=20, end=25)
    )

    [step] = [step for step in run.steps if step.model]
    assert step.status is StepStatus.FAILURE
    assert step.error_message is None


def test_model_call_of_a_successful_agent_keeps_its_own_error() -> None:
    [step] = [step for step in run_of(agent(), model("only", 10, "error")).steps if step.model]

    assert (step.status, step.error_message) == (StepStatus.FAILURE, None)


def test_agent_that_a_processor_stopped_failed_without_an_answer() -> None:
    run = run_of(agent(), model("only", 10, "stop", ANSWER), processor(20, status=2, message=REASON))

    assert (run.status, run.error_message, run.answer) == (RunStatus.FAILURE, REASON, None)
    [event] = run.guardrail_events
    assert event.message == REASON


def test_agent_that_answered_after_a_processor_rejected_its_answer_succeeded() -> None:
    run = run_of(
        agent(),
        model("first", 10, "stop", "Ask Northpost."),
        processor(20, status=2, message=REASON),
        model("last", 30, "stop", ANSWER),
    )

    assert (run.status, run.answer) == (RunStatus.SUCCESS, ANSWER)


def test_agent_whose_processor_passed_succeeded() -> None:
    run = run_of(agent(), model("only", 10, "stop", ANSWER), processor(20))

    assert (run.status, run.answer) == (RunStatus.SUCCESS, ANSWER)


def test_failed_step_of_a_workflow_is_shown() -> None:
    def part(name: str, kind: str, parent: str | None, start: int, **ends: Any) -> Span:
        return span(name, parent, {"mastra.span.type": kind}, start=start, end=start + 9, **ends)

    run = run_of(
        part("orders", "workflow_run", None, 1, status=2, message="the refund service is down"),
        part("find", "workflow_step", "orders", 2),
        part("refund", "workflow_step", "orders", 5, status=2, message="the refund service is down"),
    )

    assert {step.name: step.status.value for step in run.steps} == {"find": "success", "refund": "failure"}
