"""Coding agents: spans and events as Codex CLI 0.171, Gemini CLI 0.61 and Qwen Code 0.24 export them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relab.telemetry.otlp.logs import decode_logs
from support.otlp.logs import encode_logs, log
from support.otlp.traces import Trace
from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import record_of_spans, run_of, span

RUST = {"busy_ns": 1, "idle_ns": 1}
LINE = "event otel/src/tool_result.rs:54"


def codex_call(name: str, *, success: str, **more: str) -> Span:
    told = {"event.name": "codex.tool_result", "tool_name": "exec_command", "call_id": "c1", "success": success, **more}
    return span(name, "turn", RUST, title="dispatch_tool_call_with_state", start=3, end=4, events=[(LINE, told)])


def codex_turn(*more: Span) -> tuple[Span, ...]:
    tokens = {**RUST, "codex.turn.token_usage.total_tokens": 1234, "model": "gpt-5"}
    asked = {"event.name": "codex.user_prompt", "prompt": "Which port?", "conversation.id": "conv-1"}
    usage = {**RUST, "gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 34}
    return (
        span("root", None, RUST, title="turn/start", end=9),
        span("turn", "root", tokens, title="session_task.turn", end=9),
        span("ask", "turn", RUST, title="run_hooks_and_record_inputs", events=[(LINE, asked)]),
        span("model", "turn", {**RUST, "model": "gpt-5"}, title="try_run_sampling_request", start=1, end=2),
        span("usage", "model", usage, title="handle_responses", start=1.5, end=2),
        *more,
    )


def test_turn_of_codex_has_its_question_and_its_model_call_with_tokens() -> None:
    run = run_of(*codex_turn())
    assert run.agent_name == "codex"
    assert run.question == "Which port?"
    assert run.conversation_id == "conv-1"
    [step] = run.steps
    assert (step.model_extra or {})["tokens_prompt"] == 1200
    assert step.model == "gpt-5"


def test_tool_call_of_codex_is_read_from_its_event() -> None:
    run = run_of(*codex_turn(codex_call("t1", success="true", arguments='{"cmd": "ls"}', output="notes.txt")))
    [call] = run.tool_calls
    assert call.tool_name == "exec_command"
    assert call.args_json == {"cmd": "ls"}
    assert call.result_summary == "notes.txt"


def test_failed_tool_call_of_codex_has_its_output_as_the_error() -> None:
    run = run_of(*codex_turn(codex_call("t1", success="false", output="missing field `cmd`")))
    [call] = run.tool_calls
    assert call.status == "failure"
    assert call.error_message == "missing field `cmd`"


def test_log_event_of_codex_is_named_by_its_attribute() -> None:
    trace = Trace("codex")
    record = log(trace, "work", "", {"event.name": "codex.tool_result"})
    record.event_name = LINE
    [received] = decode_logs(encode_logs([record]), "protobuf").traces[trace.id]
    assert received.event_name == "codex.tool_result"
    assert received.is_span_event


GEMINI = {"gen_ai.agent.name": "gemini-cli", "gen_ai.agent.description": "An agent for the terminal."}


def gemini_call(response: dict[str, Any], **more: Any) -> Span:
    parts = [{"functionResponse": {"id": "c1", "name": "read_file", "response": response}}]
    told = {"status": "success", "response": {"responseParts": parts}, **more}
    own = {
        "gen_ai.operation.name": "tool_call",
        "gen_ai.tool.name": "read_file",
        "gen_ai.tool.call_id": "c1",
        "gen_ai.input.messages": json.dumps({"callId": "c1", "args": {"file_path": "notes.txt"}}),
        "gen_ai.output.messages": json.dumps(told),
    }
    return span("call", "plan", {**GEMINI, **own})


def scheduled() -> Span:
    own = {
        "gen_ai.operation.name": "schedule_tool_calls",
        "gen_ai.output.messages": '[{"request":{"name":"read_file"}}]',
    }
    return span("plan", None, {**GEMINI, **own}, end=9)


def test_tool_call_of_gemini_cli_has_its_arguments_and_its_result() -> None:
    run = run_of(scheduled(), gemini_call({"output": "The port is 8421."}))
    [call] = run.tool_calls
    assert call.args_json == {"file_path": "notes.txt"}
    assert call.result_summary == "The port is 8421."
    assert call.status == "success"
    assert run.answer is None


def test_failed_tool_call_of_gemini_cli_has_the_error_as_its_message() -> None:
    run = run_of(scheduled(), gemini_call({"error": "File not found"}, status="error"))
    [call] = run.tool_calls
    assert call.status == "failure"
    assert call.error_message == "File not found"


@pytest.mark.parametrize("told", ['{"response":{"responseParts":7}}', '{"response":[]}', "[]", "no json"])
def test_other_objects_of_gemini_cli_are_left_out(told: str) -> None:
    call = gemini_call({})
    [output] = [pair for pair in call.attributes if pair.key == "gen_ai.output.messages"]
    output.value.string_value = told
    [shown] = run_of(scheduled(), call).tool_calls
    assert shown.result_summary is None


FIELDS = ("parts", "text", "role", "args", "status", "data", "response", "responseParts", "functionResponse", "error")
objects = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "user", '{"parts": []}', "<session_context>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["tool_call", "schedule_tool_calls", "llm_call"]), objects, objects)
@example("llm_call", ['{"parts": []}'], None)
@examples(100)
def test_any_messages_of_gemini_cli_make_a_run(operation: str, asked: Any, told: Any) -> None:
    own = {"gen_ai.operation.name": operation, "gen_ai.tool.name": "read_file"}
    messages = {"gen_ai.input.messages": json.dumps(asked), "gen_ai.output.messages": json.dumps(told)}
    assert run_of(span("only", None, {**GEMINI, **own, **messages})).run_id


def test_context_of_the_session_is_not_the_question_to_gemini_cli() -> None:
    parts = [{"text": "<session_context>\nToday is Thursday.\n</session_context>"}, {"text": "Which port?"}]
    own = {
        "gen_ai.operation.name": "llm_call",
        "gen_ai.request.model": "gemini-2.5-pro",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}]),
    }
    assert run_of(span("model", None, {**GEMINI, **own})).question == "Which port?"


def gemini_answer(*pieces: dict[str, Any] | None) -> Span:
    own = {
        "gen_ai.operation.name": "llm_call",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"text":"Which port?"}]}]',
        "gen_ai.output.messages": json.dumps(pieces),
    }
    return span("model", None, {**GEMINI, **own})


def test_pieces_of_a_streamed_answer_of_gemini_cli_are_one_text() -> None:
    thought = {"role": "model", "parts": [{"text": "A file says it.", "thought": True}]}
    pieces = [{"role": "model", "parts": [{"text": text}]} for text in ("The po", "rt is 8421.")]

    assert run_of(gemini_answer(*pieces, None)).answer == "The port is 8421."
    assert run_of(gemini_answer(thought, *pieces)).answer == "A file says it.\nThe port is 8421."


def test_messages_of_gemini_cli_that_are_no_pieces_stay_as_they_are() -> None:
    message = {"role": "model", "parts": [{"text": "The po"}], "finish_reason": "length"}

    run = run_of(gemini_answer(message))
    assert (run.answer, run.steps[0].model_dump()["finish_reasons"]) == ("The po", ["length"])
    assert run_of(gemini_answer({"role": "model", "content": "The port is 8421."})).answer == "The port is 8421."


def test_answer_of_gemini_cli_without_content_is_empty() -> None:
    """Gemini CLI exports null for each piece of an answer that a filter stopped, and no finish reason."""
    report = record_of_spans(gemini_answer(None, None)).row

    assert (report.outcome, report.outcome_rule) == ("completed_with_errors", "answer_empty")


def test_hooks_and_parts_of_a_call_of_qwen_code_are_no_calls() -> None:
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "read_file", "gen_ai.tool.call.id": "c1"}
    hook = {"hook_event": "PreToolUse", "tool.name": "read_file", "error.type": "hook_error"}
    part = {"gen_ai.tool.name": "read_file", "tool.call_id": "c1", "execution_status": "success"}
    run = run_of(
        span("agent", None, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "qwen-code"}, end=9),
        span("tool", "agent", tool, title="qwen-code.tool", start=1, end=8),
        span("hook", "tool", hook, title="qwen-code.hook", start=2, end=3, status=2),
        span("work", "tool", part, title="qwen-code.tool.execution", start=4, end=5),
    )
    [call] = run.tool_calls
    assert call.status == "success"


def test_execution_of_a_tool_of_opencode_is_a_part_of_its_call() -> None:
    call = {
        "ai.operationId": "ai.toolCall",
        "ai.toolCall.name": "read",
        "ai.toolCall.id": "c1",
        "ai.toolCall.args": "{}",
    }
    run = run_of(
        span("agent", None, {"ai.operationId": "ai.streamText"}, title="ai.streamText", end=9),
        span("tool", "agent", call, title="ai.toolCall", start=1, end=8),
        span("work", "tool", {"tool.name": "read", "tool.call_id": "c1"}, title="Tool.execute", start=2, end=7),
    )
    assert len(run.tool_calls) == 1


def test_execution_of_a_tool_without_a_span_of_its_call_is_the_call() -> None:
    run = run_of(
        span("agent", None, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop"}, end=9),
        span("work", "agent", {"gen_ai.tool.name": "read", "tool.call_id": "c1"}, title="Tool.execute", start=2, end=7),
    )
    [call] = run.tool_calls
    assert call.tool_name == "read"
