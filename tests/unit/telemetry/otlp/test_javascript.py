"""Spans of LangChain.js 1, of the OpenAI Agents SDK for JavaScript and of Mastra, with the attributes that they sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relab.telemetry.models import RunStatus, StepStatus
from unit.telemetry.otlp.builders import id_of, run_of, span

ERROR = 2
STACK = "\n    at listener (file:///app/runner.js:133:44)\n    at abort (node:internal/abort_controller:392:5)"
KIND = "openinference.span.kind"
GRAPH = {KIND: "AGENT", "metadata": '{"ls_integration": "langgraph"}'}


def stacked(name: str, message: str) -> str:
    """Return an error as LangChain.js reports it: the message, and the stack behind it."""
    return f"{message}\n\n{name}: {message}{STACK}"


def failed(name: str, parent: str | None, kind: str, message: str, **more: Any) -> Span:
    return span(name, parent, {KIND: kind}, status=ERROR, message=message, **more)


def model(name: str, *, asks: str | None = None, says: str = "", results: tuple[str, ...] = (), **more: Any) -> Span:
    """Return a call of a model whose messages name neither the ids nor, in results, the tools of calls."""
    call = "message.tool_calls.0.tool_call.function."
    asking = {f"{call}name": "order_lookup", f"{call}arguments": asks or ""}
    given = {f"llm.output_messages.0.{key}": value for key, value in asking.items()} if asks else {}
    taken: dict[str, str] = {}
    for place, result in enumerate(results):
        taken |= {f"llm.input_messages.{2 * place}.{key}": value for key, value in asking_for(place).items()}
        taken |= {
            f"llm.input_messages.{2 * place + 1}.message.role": "tool",
            f"llm.input_messages.{2 * place + 1}.message.content": result,
        }
    own = {
        KIND: "LLM",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": says,
    }
    return span(name, "shop", {**own, **given, **taken}, **more)


def asking_for(place: int) -> dict[str, str]:
    call = "message.tool_calls.0.tool_call.function."
    return {
        "message.role": "assistant",
        f"{call}name": "order_lookup",
        f"{call}arguments": json.dumps({"order_id": f"B-{20 + place}"}),
    }


def lookup(name: str, order: str, call_id: str, **more: Any) -> Span:
    """Return the span of a tool, which has the value of the only argument as its input."""
    message = {"kwargs": {"content": "shipped", "tool_call_id": call_id}, "lc": 1, "type": "constructor"}
    own = {KIND: "TOOL", "tool.name": "order_lookup", "input.value": order, "output.value": json.dumps(message)}
    return span(name, "shop", own, title="order_lookup", **more)


def test_tool_call_that_reports_only_the_value_of_its_argument_is_the_one_that_the_model_requested() -> None:
    run = run_of(
        span("shop", None, GRAPH, end=90),
        model("m1", asks='{"order_id": "B-20"}', start=1, end=2),
        lookup("t1", "B-20", "call_1", start=3, end=4),
        model("m2", says="It was shipped.", results=("shipped",), start=5, end=6),
    )
    [call] = run.tool_calls
    assert call.args_json == {"order_id": "B-20"}
    assert call.result_summary is not None
    assert call.status == "success"


def test_equal_requests_are_joined_with_one_span_each() -> None:
    spans = [span("shop", None, GRAPH, end=90)]
    for number in range(3):
        start = 10 * number
        spans.append(model(f"m{number}", asks='{"order_id": "B-20"}', start=start + 1, end=start + 2))
        spans.append(lookup(f"t{number}", "B-20", f"call_{number}", start=start + 3, end=start + 4))
    run = run_of(*spans)
    assert [call.status for call in run.tool_calls] == ["success"] * 3
    assert all(call.args_json == {"order_id": "B-20"} for call in run.tool_calls)


def test_result_without_an_id_or_a_name_answers_the_request_before_it() -> None:
    rejected = "Error: Error invoking tool 'order_lookup' with kwargs {}"
    run = run_of(
        span("shop", None, GRAPH, end=90),
        model("m1", asks='{"order_id": "B-20"}', start=1, end=2),
        model("m2", says="I could not look it up.", results=(rejected,), start=5, end=6),
    )
    [call] = run.tool_calls
    assert call.status == "failure"
    assert call.error_message == rejected


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (stacked("Error", "the order database does not answer"), ("Error", "the order database does not answer")),
        (
            stacked("GraphRecursionError", "Recursion limit of 8 reached\n\nTroubleshooting URL: https://x/y\n"),
            ("GraphRecursionError", "Recursion limit of 8 reached\n\nTroubleshooting URL: https://x/y"),
        ),
        ('Error in agent run: {"error":"ModelRefusalError: It refused."}', ("ModelRefusalError", "It refused.")),
        ("Error in agent run: {oops", (None, "Error in agent run: {oops")),
        (f"Two lines\n\nError: of other words{STACK}", (None, f"Two lines\n\nError: of other words{STACK}")),
    ],
)
def test_error_of_javascript_has_its_class_and_its_message(message: str, error: tuple[str | None, str]) -> None:
    run = run_of(span("shop", None, GRAPH, end=9), failed("work", "shop", "CHAIN", message))
    [step] = run.steps
    assert (step.error_class, step.error_message) == error
    assert step.status is StepStatus.FAILURE


@pytest.mark.parametrize(
    "message",
    [
        stacked("AbortError", "This operation was aborted"),
        stacked("Error", "Abort"),
        "Request was aborted.",
        'Error in agent run: {"error":"AbortError: This operation was aborted"}',
        'Error in agent run: {"error":"Error: Request was aborted."}',
    ],
)
def test_run_that_its_caller_aborted_is_cancelled(message: str) -> None:
    run = run_of(failed("shop", None, "AGENT", message, end=9))
    assert run.status is RunStatus.CANCELLED
    assert run.error_type == "AbortError"


def reported(code: str, name: str, message: str) -> Any:
    """Return an agent's span that failed with an error with a code, as OpenTelemetry for JavaScript records it."""
    made = failed("shop", None, "AGENT", message, end=9)
    attributes = made.events.add(name="exception").attributes
    stack = f"{name}: {message}{STACK}"
    for key, value in (("type", code), ("message", message), ("stacktrace", stack)):
        attributes.add(key=f"exception.{key}").value.string_value = value
    return made


def test_aborted_request_is_known_by_its_code_and_stack() -> None:
    run = run_of(reported("20", "AbortError", "This operation was aborted"))
    assert (run.status, run.error_type) == (RunStatus.CANCELLED, "AbortError")


def test_time_out_of_an_abort_signal_is_a_failure() -> None:
    run = run_of(reported("23", "TimeoutError", "The operation was aborted due to timeout"))
    assert (run.status, run.error_type) == (RunStatus.FAILURE, "TimeoutError")


@pytest.mark.parametrize(("code", "name"), [("ENOENT", "Error"), ("14", "Error"), ("429", "")])
def test_code_stays_the_class_of_an_error_whose_stack_names_none(code: str, name: str) -> None:
    assert run_of(reported(code, name, "out of reach")).error_type == code


@pytest.mark.parametrize("message", ["Aborted due to timeout of 5 s", "the agent timed out", "Deadline exceeded"])
def test_cancellation_whose_message_names_a_time_limit_is_a_failure(message: str) -> None:
    run = run_of(failed("shop", None, "AGENT", stacked("AbortError", message), end=9))
    assert (run.status, run.error_type) == (RunStatus.FAILURE, "AbortError")


def test_interrupt_of_langgraph_js_is_no_error() -> None:
    waiting = failed(
        "hitl", "shop", "CHAIN", stacked("GraphInterrupt", '[\n  {\n    "id": "1"\n  }\n]'), start=3, end=4
    )
    waiting.events.add(name="exception").attributes.add(
        key="exception.message"
    ).value.string_value = waiting.status.message
    run = run_of(span("shop", None, GRAPH, end=9), model("m1", asks='{"order_id": "B-20"}', start=1, end=2), waiting)
    assert {step.status for step in run.steps} == {StepStatus.SUCCESS}
    [paused] = [step for step in run.steps if step.name == "hitl"]
    assert (paused.model_extra or {})["finish_reasons"] == ["interrupt"]


def test_answer_that_a_failed_graph_withheld_is_not_the_answer_of_the_run() -> None:
    run = run_of(
        failed("shop", None, "CHAIN", stacked("Error", "no_secrets: a secret"), end=9),
        model("m1", says="The secret is 4711.", start=1, end=2),
    )
    assert run.answer is None


def test_workflow_of_the_openai_agents_sdk_is_no_agent() -> None:
    run = run_of(
        span(
            "flow",
            None,
            {KIND: "AGENT", "llm.system": "openai", "input.value": "Where?", "output.value": "There."},
            end=9,
        ),
        span("shop", "flow", {KIND: "AGENT", "llm.system": "openai", "graph.node.id": "shop"}, start=1, end=8),
    )
    assert run.agent_name == "shop"
    assert not run.agents


def test_agent_of_another_provider_stays_an_agent_without_a_node() -> None:
    asked = {KIND: "AGENT", "llm.system": "anthropic", "input.value": "Where?", "output.value": "There."}
    run = run_of(
        span("flow", None, {"service.name": "shop"}, end=9),
        span("query", "flow", asked, title="ClaudeAgentSDK.query", start=1, end=8),
    )
    assert run.agent_name == "ClaudeAgentSDK.query"


def test_handoff_in_javascript_is_a_handoff_and_no_tool_call() -> None:
    handoff = {KIND: "TOOL", "tool.name": "handoff_to_billing", "output.value": '{"to_agent":"billing"}'}
    run = run_of(
        span("flow", None, {KIND: "AGENT", "llm.system": "openai"}, end=9),
        span("shop", "flow", {KIND: "AGENT", "llm.system": "openai", "graph.node.id": "shop"}, start=1, end=4),
        span("turn", "shop", handoff, title="handoff to billing", start=2, end=3),
    )
    assert run.tool_calls == []
    assert "handoff to billing" in [step.name for step in run.steps]


MASTRA_AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop", "mastra.span.type": "agent_run"}
MASTRA_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o-mini",
    "mastra.span.type": "model_inference",
}


def test_run_of_mastra_that_its_caller_aborted_is_cancelled() -> None:
    ended = '{"status":"aborted","reason":"abort"}'
    run = run_of(
        span("shop", None, {**MASTRA_AGENT, "mastra.agent_run.output": ended}), span("m1", "shop", MASTRA_CALL)
    )
    assert run.status is RunStatus.CANCELLED
    assert run.answer is None


def test_call_of_mastra_that_ended_with_an_error_has_failed() -> None:
    reasons = {"gen_ai.response.finish_reasons": '["error"]'}
    run = run_of(span("shop", None, MASTRA_AGENT), span("m1", "shop", {**MASTRA_CALL, **reasons}))
    [step] = run.steps
    assert step.status is StepStatus.FAILURE


def test_processor_of_mastra_that_stops_an_answer_is_a_guardrail_event() -> None:
    own = {"gen_ai.operation.name": "processor_run", "mastra.span.type": "processor_run"}
    run = run_of(
        span("shop", None, MASTRA_AGENT, end=9),
        span("p1", "shop", own, title="processor_run no_secrets", status=ERROR, message="no_secrets: a secret"),
    )
    [event] = run.guardrail_events
    assert event.type == "processor_run no_secrets"
    assert event.message == "no_secrets: a secret"


def test_type_of_a_mastra_span_that_is_no_text_gives_no_role() -> None:
    [step] = run_of(span("shop", None, MASTRA_AGENT), span("m1", "shop", {**MASTRA_CALL, "mastra.span.type": 7})).steps
    assert step.step_id == id_of("m1")
