"""Tool calls that models request in their messages, with and without tool spans."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, extra, id_of, record_of_spans, run_of, span

ARGUMENTS = {"order_id": "A-17"}


def request(call_id: str | None = "c1", name: str = "order_lookup", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments or ARGUMENTS}


def requesting(*requests: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a model call whose answer requests tools."""
    return CHAT | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": list(requests)}])}


def answered(*results: dict[str, Any], text: str = "It was shipped.") -> dict[str, Any]:
    """Return the attributes of a model call that has the results of tools and answers the user."""
    return CHAT | {
        "gen_ai.input.messages": json.dumps([{"role": "tool", "parts": list(results)}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": text}]}]),
    }


def result(call_id: str | None = "c1", response: Any = "shipped", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call_id, "response": response, **fields}


def without_tool_spans(of_first: dict[str, Any], of_second: dict[str, Any] | None, **root: Any) -> AgentRun:
    spans = [span("root", None, AGENT, end=9, **root), span("first", "root", of_first, start=1, end=2)]
    if of_second is not None:
        spans.append(span("second", "root", of_second, start=3, end=4))
    return run_of(*spans)


def test_request_without_a_span_is_a_tool_call_with_the_result_that_the_model_received() -> None:
    [call] = without_tool_spans(requesting(request()), answered(result())).tool_calls
    assert call.tool_name == "order_lookup"
    assert call.args_json == ARGUMENTS
    assert call.result_summary == "shipped"
    assert call.status == "success"
    assert call.step_id == id_of("first")
    assert extra(call, "is_from_messages") is True
    assert extra(call, "tool_call_id") == "c1"


@pytest.mark.parametrize(
    "failed",
    [
        result(response="no such order", is_error=True),
        result(response={"type": "error-text", "value": "no such order"}),
        {"type": "tool_result", "tool_use_id": "c1", "content": "no such order", "is_error": True},
        {"part_kind": "retry-prompt", "tool_name": "order_lookup", "tool_call_id": "c1", "content": "no such order"},
        {"toolResult": {"toolUseId": "c1", "status": "error", "content": [{"text": "no such order"}]}},
    ],
    ids=["flag", "Vercel", "Anthropic", "pydantic-ai", "Bedrock"],
)
def test_result_that_is_marked_as_an_error_makes_the_call_fail(failed: dict[str, Any]) -> None:
    [call] = without_tool_spans(requesting(request()), answered(failed)).tool_calls
    assert call.status == "failure"
    assert call.error_message == "no such order"


def test_request_that_was_never_answered_is_skipped_once_the_run_has_ended() -> None:
    assert without_tool_spans(requesting(request()), None).tool_calls[0].status == "skipped"


def test_request_is_running_while_the_run_is_running() -> None:
    run = run_of(span("root", None, AGENT, end=None), span("first", "root", requesting(request()), start=1))
    assert run.tool_calls[0].status == "running"


def test_error_that_ended_the_run_is_the_error_of_the_only_unanswered_request() -> None:
    raised = [("exception", {"exception.type": "OperationalError", "exception.message": "no such table"})]
    [call] = without_tool_spans(requesting(request()), None, status=2, events=raised).tool_calls
    assert call.status == "failure"
    assert call.error_class == "OperationalError"
    assert call.error_message == "no such table"


def test_error_that_ended_the_run_is_not_assigned_to_one_of_two_requests() -> None:
    run = without_tool_spans(requesting(request("c1"), request("c2")), None, status=2, message="boom")
    assert [call.status for call in run.tool_calls] == ["skipped", "skipped"]


def test_request_with_a_tool_span_is_one_call() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("first", "root", requesting(request()), start=1),
        span("tool", "root", TOOL | {"gen_ai.tool.call.id": "c1"}, start=2),
        span("second", "root", answered(result()), start=3),
    )
    [call] = run.tool_calls
    assert call.call_id == id_of("tool")
    assert call.args_json == ARGUMENTS
    assert call.result_summary == "shipped"
    assert call.step_id == id_of("first")


def test_arguments_of_a_span_count_before_those_of_the_request_if_they_are_an_object() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("first", "root", requesting(request()), start=1),
        span("tool", "root", TOOL | {"gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": '{"a": 1}'}, start=2),
    )
    assert run.tool_calls[0].args_json == {"a": 1}


def test_arguments_printed_by_python_are_replaced_by_those_of_the_request() -> None:
    printed = {"openinference.span.kind": "TOOL", "tool.name": "order_lookup", "input.value": "{'order_id': 'A-17'}"}
    run = run_of(
        span("root", None, AGENT),
        span("first", "root", requesting(request()), start=1),
        span("tool", "root", printed, start=2),
    )
    assert run.tool_calls[0].args_json == ARGUMENTS


def test_error_in_the_message_overrides_a_successful_tool_span() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("first", "root", requesting(request()), start=1),
        span("tool", "root", TOOL | {"gen_ai.tool.call.id": "c1"}, start=2),
        span("second", "root", answered(result(response="no such order", is_error=True)), start=3),
    )
    assert run.tool_calls[0].status == "failure"
    assert run.tool_calls[0].error_message == "no such order"


def test_calls_that_reuse_one_id_have_their_own_results() -> None:
    history = [result("c1", "one"), result("c1", "two")]
    run = run_of(
        span("root", None, AGENT, end=20),
        span("first", "root", requesting(request("c1")), start=1, end=2),
        span(
            "second",
            "root",
            requesting(request("c1", order_id="B-2")) | {"gen_ai.input.messages": "[]"},
            start=3,
            end=4,
        ),
        span("third", "root", answered(*history), start=5, end=6),
    )
    assert [call.result_summary for call in run.tool_calls] == ["one", "two"]
    assert [call.args_json for call in run.tool_calls] == [ARGUMENTS, {"order_id": "B-2"}]


def test_request_found_only_in_the_input_is_a_call() -> None:
    history = [
        {"role": "assistant", "parts": [request()]},
        {"role": "tool", "parts": [result()]},
    ]
    run = run_of(
        span("root", None, AGENT, end=9),
        span("chat", "root", CHAT | {"gen_ai.input.messages": json.dumps(history)}, start=1, end=2),
    )
    [call] = run.tool_calls
    assert call.args_json == ARGUMENTS
    assert call.result_summary == "shipped"


def test_tool_statistics_count_calls_without_spans() -> None:
    record = record_of_spans(
        span("root", None, AGENT, end=9),
        span("first", "root", requesting(request()), start=1, end=2),
        span("second", "root", answered(result(response="no such order", is_error=True)), start=3, end=4),
    )
    assert json.loads(record.row.tool_stats) == {"order_lookup": [1, 1]}
    assert "no such order" in record.search_text


def test_handoff_is_a_step_and_no_tool_call() -> None:
    handoff = {"openinference.span.kind": "TOOL", "input.value": "", "output.value": ""}
    run = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", requesting(request(name="transfer_to_billing")), start=1, end=2),
        span("pass", "root", handoff, title="handoff to billing", start=3, end=4),
    )
    assert run.tool_calls == []
    assert [extra(step, "span_kind") for step in run.steps] == ["llm", "handoff"]


def test_calls_and_steps_name_their_agent_if_there_are_several() -> None:
    run = run_of(
        span("root", None, {"http.request.method": "POST"}, end=20),
        span("one", "root", requesting(request()) | {"gen_ai.agent.name": "north"}, start=1, end=2),
        span("two", "root", requesting(request("c2")) | {"gen_ai.agent.name": "south"}, start=3, end=4),
    )
    assert [step.agent_name for step in run.steps] == ["north", "south"]
    assert [extra(call, "agent_name") for call in run.tool_calls] == ["north", "south"]
    assert [agent.name for agent in run.agents] == ["north", "south"]


@pytest.mark.full
def test_many_requests_without_a_tool_span_are_matched_in_bounded_time() -> None:
    # The tool's spans began before all requests, so a comparison of each request with each span would take minutes.
    count = 40_000
    spans = [span("root", None, AGENT, end=count * 2)]
    for number in range(count):
        spans.append(span(f"t{number:x}", "root", TOOL, start=number))
        spans.append(span(f"m{number:x}", "root", requesting(request(None)), start=count + number))
    assert len(run_of(*spans).tool_calls) == 2 * count


LIMITED = (
    "Error code: 429 - {'error': {'message': 'Rate limit reached for m-1: Limit 30000, Used 29500. "
    "Please try again in 1.4s.', 'type': 'tokens', 'code': 'rate_limit_exceeded'}}"
)


def test_error_of_a_model_provider_is_read_into_fields() -> None:
    raised = [("exception", {"exception.type": "openai.RateLimitError", "exception.message": LIMITED})]
    run = run_of(span("root", None, AGENT), span("chat", "root", CHAT, start=1, status=2, events=raised))
    [step] = run.steps
    assert extra(step, "status_code") == 429
    assert extra(step, "error_code") == "rate_limit_exceeded"
    assert extra(step, "retry_after_s") == 1.4
    assert extra(step, "rate_limit") == 30_000


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        ("429 Too Many Requests, retry-after: 20", "retry_after_s", 20.0),
        ("please try again in 6m12.5s", "retry_after_s", 372.5),
        ("retryDelay': '39s'", "retry_after_s", 39.0),
        ("try again in 250ms", "retry_after_s", 0.25),
        ("HTTP 503: overloaded", "status_code", 503),
        ("the customer waits since 1999", "status_code", None),
        ("order 404 was not paid", "status_code", None),
    ],
)
def test_waiting_time_and_status_are_read_from_the_text(message: str, field: str, value: float | None) -> None:
    run = run_of(span("root", None, AGENT), span("chat", "root", CHAT, start=1, status=2, message=message))
    assert extra(run.steps[0], field) == value


@pytest.mark.parametrize(
    ("state", "status"), [("success", "success"), ("error", "failure"), ("denied", "failure"), (["error"], "success")]
)
def test_state_of_a_result_in_agentscope_is_the_status_of_the_call(state: object, status: str) -> None:
    chunk = {"content": [{"type": "text", "text": "database is down", "id": "1"}], "state": state, "id": "call_0"}
    [call] = run_of(
        span("root", None, AGENT, end=9),
        span("tool", "root", TOOL | {"gen_ai.tool.call.result": json.dumps(chunk)}, status=1, start=1),
    ).tool_calls
    assert call.status == status
    if isinstance(state, str):
        assert call.result_summary == "database is down"
        assert call.error_message == ("database is down" if status == "failure" else None)
