"""Spans of Logfire's instrumentation of the OpenAI Agents SDK, with the attributes that version 5.4 sent."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.telemetry.models import RunStatus, StepStatus
from unit.telemetry.otlp.builders import exception, run_of, span

ERROR = 2
REQUEST = {"id": "c1", "type": "function", "function": {"name": "order_lookup", "arguments": '{"order_id": "A-17"}'}}
USER = {"event.name": "gen_ai.user.message", "content": "Where is A-17?", "role": "user"}
ASKED = {"event.name": "gen_ai.assistant.message", "role": "assistant", "tool_calls": [REQUEST]}
RESULT = {"event.name": "gen_ai.tool.message", "content": "shipped", "role": "tool", "id": "c1"}
ANSWER = {"event.name": "gen_ai.assistant.message", "content": "It is shipped.", "role": "assistant"}


def sdk(name: str, parent: str | None, template: str, attributes: dict[str, Any], **fields: Any) -> SpanMessage:
    return span(name, parent, {"logfire.msg_template": template, **attributes}, title=template, **fields)


def root(**fields: Any) -> SpanMessage:
    attributes = {"name": "Agent workflow", "agent_trace_id": "trace_1", "group_id": "chat-7"}
    return sdk("root", None, "OpenAI Agents trace: {name}", attributes, **fields)


def agent(name: str, **fields: Any) -> SpanMessage:
    attributes = {"name": name, "handoffs": "[]", "tools": '["order_lookup"]', "error": fields.pop("error", None)}
    return sdk(name, "root", "Agent run: {name!r}", attributes, **fields)


def turn(name: str, agent_name: str, **fields: Any) -> SpanMessage:
    attributes = {"name": "turn", "sdk_span_type": "turn", "turn": 1, "agent_name": agent_name}
    return sdk(name, agent_name, f"Turn {{turn}} for agent {agent_name}", attributes, **fields)


def model(name: str, parent: str, *events: dict[str, Any], **fields: Any) -> SpanMessage:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "events": json.dumps(events)}
    return sdk(name, parent, "Responses API with {gen_ai.request.model!r}", attributes, **fields)


def function(name: str, parent: str, output: str, **fields: Any) -> SpanMessage:
    attributes = {"name": "order_lookup", "input": '{"order_id": "A-17"}', "output": output, "mcp_data": "null"}
    return sdk(name, parent, "Function: {name}", attributes, **fields)


def test_run_has_agent_question_answer_and_one_call_of_the_named_tool() -> None:
    run = run_of(
        root(end=9),
        agent("desk", start=1, end=8),
        turn("t1", "desk", start=1, end=4),
        model("m1", "t1", USER, ASKED, start=1, end=2),
        function("f1", "t1", "shipped", start=2, end=3),
        turn("t2", "desk", start=4, end=7),
        model("m2", "t2", USER, ASKED, RESULT, ANSWER, start=4, end=6),
    )

    assert (run.agent_name, run.question, run.answer) == ("desk", "Where is A-17?", "It is shipped.")
    assert run.conversation_id == "chat-7"
    [call] = run.tool_calls
    assert (call.tool_name, call.args_json, call.result_summary) == ("order_lookup", {"order_id": "A-17"}, "shipped")


def test_cancelled_function_is_one_cancelled_call_without_a_result() -> None:
    cancelled = exception("asyncio.exceptions.CancelledError", "")

    run = run_of(
        root(end=9),
        agent("desk", start=1, end=8),
        turn("t1", "desk", start=1, end=7),
        model("m1", "t1", USER, ASKED, start=1, end=2),
        function("f1", "t1", "null", start=2, end=6, status=ERROR, events=[cancelled]),
    )

    [call] = run.tool_calls
    assert (call.tool_name, call.status, call.result_summary) == ("order_lookup", StepStatus.CANCELLED, None)


def test_error_of_an_agent_is_that_of_its_span() -> None:
    error = '{"message":"Max turns exceeded","data":{"max_turns":4}}'

    run = run_of(root(end=9), agent("desk", start=1, end=8, status=ERROR, error=error))

    assert run.steps[-1].error_message == 'Max turns exceeded: {"max_turns":4}'


def test_hand_over_names_the_agent_that_takes_over() -> None:
    given = {"from_agent": "desk", "to_agent": "billing"}

    run = run_of(
        root(end=9),
        agent("desk", start=1, end=4),
        model("m1", "desk", USER, start=1, end=2),
        sdk("h1", "desk", "Handoff: {from_agent} → {to_agent}", given, start=3, end=3),
        agent("billing", start=4, end=8),
        model("m2", "billing", USER, ANSWER, start=5, end=6),
    )

    assert [(part.name, part.parent) for part in run.agents] == [("desk", None), ("billing", "desk")]
    assert run.answer == "It is shipped."


def test_turn_that_ended_does_not_end_the_run_of_a_killed_process() -> None:
    turn_of_lost_agent = turn("t1", "desk", start=1, end=4)

    run = run_of(
        turn_of_lost_agent,
        model("m1", "t1", USER, ASKED, start=1, end=2),
        function("f1", "t1", "shipped", start=2, end=3),
    )

    assert run.status is RunStatus.RUNNING
