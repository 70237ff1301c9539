"""Claude Code: spans and log events as version 2.1.197 exports them, with and without the texts of prompts and tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relab.rca.analyzer import analyze
from relab.rca.models import Category
from relab.telemetry.models import AgentRun, StepStatus
from relab.telemetry.otlp.dialects.claude_code import events_by_subject
from relab.telemetry.otlp.facts import facts_of
from relab.telemetry.otlp.logs import decode_logs, read_event, with_events
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.spans import SpanEvent, read_span
from support.otlp.logs import encode_logs, log
from support.otlp.traces import Trace, pairs, span_id
from unit.telemetry.otlp.builders import load

TRACE = Trace("claude code")
ERROR = 2
USAGE = {"input_tokens": 20, "output_tokens": 7, "cache_read_tokens": 100, "cache_creation_tokens": 5}
CALL_ID = {"tool_use_id": "toolu_1", "gen_ai.tool.call.id": "toolu_1"}


def interaction(**more: Any) -> Span:
    return TRACE.span("claude_code.interaction", None, {"span.type": "interaction", **more}, end_ms=99)


def model_call(**more: Any) -> Span:
    own = {"span.type": "llm_request", "gen_ai.system": "anthropic", "gen_ai.request.model": "claude-sonnet-4-5"}
    return TRACE.span(
        "claude_code.llm_request", "claude_code.interaction", {**own, **USAGE, **more}, start_ms=1, end_ms=2
    )


def tool_call(name: str, **more: Any) -> Span:
    own = {"span.type": "tool", "tool_name": name, **CALL_ID}
    return TRACE.span("claude_code.tool", "claude_code.interaction", {**own, **more}, start_ms=3, end_ms=9)


def execution(error: str | None = None) -> Span:
    own = {"span.type": "tool.execution", "success": error is None, **CALL_ID, **({"error": error} if error else {})}
    return TRACE.span(
        "claude_code.tool.execution",
        "claude_code.tool",
        own,
        start_ms=5,
        end_ms=8,
        status=ERROR if error else 0,
        message=error or "",
    )


def permission(decision: str) -> Span:
    own = {"span.type": "tool.blocked_on_user", "decision": decision, "source": "config"}
    return TRACE.span("claude_code.tool.blocked_on_user", "claude_code.tool", own, start_ms=4, end_ms=5)


def event(name: str, **attributes: Any) -> LogRecord:
    return log(TRACE, "claude_code.interaction", f"claude_code.{name}", {"event.name": name, **attributes})


def run_of(*spans: Span, events: Sequence[LogRecord] = ()) -> AgentRun:
    found: dict[str, list[SpanEvent]] = {}
    if events:
        for item in decode_logs(encode_logs(events), "protobuf").traces[TRACE.id]:
            assert item.is_span_event
            found.setdefault(item.span_id, []).append(read_event(item.raw))
    packed = [span.SerializeToString() for span in spans]
    return load(project(TRACE.id, list(with_events([(facts_of(read_span(raw), {}), raw) for raw in packed], found))))


def test_run_has_the_agents_name_and_its_model_calls() -> None:
    run = run_of(interaction(), model_call())
    assert run.agent_name == "claude-code"
    assert run.status == "success"
    [step] = run.steps
    assert step.step_id == span_id("claude_code.llm_request")


def test_tokens_of_the_cache_are_part_of_the_input() -> None:
    [step] = run_of(interaction(), model_call()).steps
    shown = step.model_extra or {}
    assert shown["tokens_prompt"] == 125
    assert shown["tokens_cached"] == 100
    assert shown["tokens_cache_write"] == 5
    assert shown["tokens_completion"] == 7


def test_failed_model_call_has_the_providers_error_and_status_code() -> None:
    text = "prompt is too long: 300000 tokens > 200000 maximum"
    failed = model_call(success=False, status_code=400, error=text, attempt=3)
    failed.status.code, failed.status.message = ERROR, text  # type: ignore[assignment]
    [step] = run_of(interaction(), failed).steps
    assert step.status is StepStatus.FAILURE
    assert step.error_message == text
    assert step.retries == 2


def test_call_wait_and_execution_are_one_tool_call() -> None:
    run = run_of(
        interaction(), model_call(), tool_call("Read", file_path="notes.txt"), permission("accept"), execution()
    )
    [call] = run.tool_calls
    assert call.call_id == span_id("claude_code.tool")
    assert call.tool_name == "Read"
    assert call.args_json == {"file_path": "notes.txt"}
    assert call.status == "success"
    assert len(run.steps) == 1


def test_failed_execution_is_the_failure_of_the_call() -> None:
    run = run_of(interaction(), tool_call("Bash", full_command="cat x"), execution("Shell command failed"))
    [call] = run.tool_calls
    assert call.status == "failure"
    assert call.error_message == "Shell command failed"


def test_denied_permission_is_the_failure_of_the_call_and_the_cause() -> None:
    run = run_of(interaction(), model_call(), tool_call("Bash", full_command="curl x"), permission("reject"))
    [call] = run.tool_calls
    assert call.status == "failure"
    assert call.error_class == "PermissionDenied"
    assert analyze(run).hypotheses[0].category is Category.TOOL_PERMISSION


def test_output_of_a_tool_is_read_from_its_span_event() -> None:
    call = tool_call("Bash", full_command="cat notes.txt")
    output = call.events.add(name="tool.output", time_unix_nano=call.end_time_unix_nano)
    output.attributes.extend(pairs({"bash_command": "cat notes.txt", "output": "hello"}))
    [shown] = run_of(interaction(), call, execution()).tool_calls
    assert shown.result_summary == "hello"


def test_prompt_and_response_are_the_question_and_the_answer() -> None:
    run = run_of(
        interaction(user_prompt="What do the notes say?"),
        model_call(),
        events=[
            event("user_prompt", prompt="What do the notes say?"),
            event("assistant_response", response="They say hello."),
        ],
    )
    assert run.question == "What do the notes say?"
    assert run.answer == "They say hello."


def test_arguments_of_a_call_are_completed_by_its_result_event() -> None:
    result = event(
        "tool_result", tool_name="Grep", tool_use_id="toolu_1", success="true", tool_input='{"pattern":"hello"}'
    )
    run = run_of(interaction(), model_call(), tool_call("Grep"), execution(), events=[result])
    [call] = run.tool_calls
    assert call.args_json == {"pattern": "hello"}
    assert call.step_id is None


@pytest.mark.parametrize("name", ["user_prompt", "assistant_response"])
def test_redacted_texts_are_left_out(name: str) -> None:
    redacted = event(name, prompt="<REDACTED>", response="<REDACTED>")
    run = run_of(interaction(user_prompt="<REDACTED>"), model_call(), events=[redacted])
    assert run.question is None
    assert run.answer is None


def test_other_spans_with_a_type_are_not_taken_for_claude_code() -> None:
    run = run_of(TRACE.span("work", None, {"span.type": "interaction", "gen_ai.agent.name": "desk"}, end_ms=9))
    assert run.agent_name == "desk"


REQUEST = {"request_id": "req_1"}
RESULT = {"tool_name": "Edit", "tool_use_id": "toolu_1", "success": "true", "tool_input": '{"old_string":"a"}'}


def test_cost_and_text_of_a_model_call_are_read_from_the_events_that_name_it() -> None:
    run = run_of(
        interaction(),
        model_call(stop_reason="tool_use", **REQUEST),
        tool_call("Edit", file_path="a.txt"),
        execution(),
        events=[
            event("api_request", cost_usd=0.25, **REQUEST),
            event("assistant_response", response="First I edit.", **REQUEST),
            event("tool_result", **RESULT, **REQUEST),
        ],
    )
    assert run.cost is not None
    assert run.cost.total_cost_usd == 0.25
    [step] = run.steps
    assert (step.output_summary or "").startswith("First I edit.")
    [call] = run.tool_calls
    assert call.step_id == span_id("claude_code.llm_request")
    assert run.answer is None


def test_arguments_in_the_result_event_have_precedence_over_those_of_the_span() -> None:
    run = run_of(
        interaction(), tool_call("Edit", file_path="a.txt"), execution(), events=[event("tool_result", **RESULT)]
    )
    [call] = run.tool_calls
    assert call.args_json == {"old_string": "a"}


def test_text_before_a_tool_call_is_no_answer() -> None:
    said = event("assistant_response", response="First I look.")
    called = event("tool_result", **RESULT)
    called.time_unix_nano = said.time_unix_nano + 1
    assert run_of(interaction(), model_call(), tool_call("Edit"), events=[said, called]).answer is None


def test_accepted_object_is_the_answer() -> None:
    given = {"tool_name": "StructuredOutput", "tool_use_id": "toolu_1", "tool_input": '{"port":8421}'}
    accepted = event("tool_result", success="true", **given, **REQUEST)
    rejected = event("tool_result", success="false", **given, **REQUEST)
    assert (
        run_of(interaction(), model_call(), tool_call("StructuredOutput"), events=[accepted]).answer == '{"port":8421}'
    )
    assert run_of(interaction(), model_call(), tool_call("StructuredOutput"), events=[rejected]).answer is None


def test_sub_agent_is_an_agent_of_the_run() -> None:
    inner = TRACE.span(
        "claude_code.inner",
        "claude_code.tool.execution",
        {"span.type": "llm_request", "gen_ai.request.model": "claude-sonnet-4-5", **USAGE},
        start_ms=6,
        end_ms=7,
    )
    run = run_of(interaction(), model_call(), tool_call("Agent", subagent_type="Explore"), execution(), inner)
    assert [(agent.name, agent.parent) for agent in run.agents or []] == [
        ("claude-code", None),
        ("Explore", "claude-code"),
    ]


def test_only_the_first_of_many_spans_that_claim_a_call_gets_its_events() -> None:
    claims = [TRACE.span(f"call {number}", None, {"span.type": "tool", **CALL_ID}) for number in range(3)]
    told = SpanEvent("claude_code.tool_result", 0, RESULT)
    placed = events_by_subject({"elsewhere": [told, told]}, [read_span(span.SerializeToString()) for span in claims])
    assert [len(placed[span_id(f"call {number}")]) for number in range(3)] == [2, 0, 0]


@pytest.mark.parametrize("request_id", [["req_1"], {"id": "req_1"}, 7])
def test_events_whose_request_id_is_no_text_are_read(request_id: Any) -> None:
    run = run_of(
        interaction(),
        events=[
            event("tool_result", tool_name="Read", request_id=request_id, tool_use_id="toolu_1"),
            event("assistant_response", response="Port 8421.", request_id=request_id),
        ],
    )
    assert run.answer == "Port 8421."
