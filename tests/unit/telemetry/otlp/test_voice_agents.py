"""Spans of frameworks for voice agents, with the attributes that LiveKit Agents 1.8 and Pipecat 1.14 sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.records import RunRecord
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, extra, load, record_of_spans, span

QUESTION = "Where is order A-17?"
ARGUMENTS = {"order_id": "A-17"}
TOKENS = {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 18}


# LiveKit Agents


def livekit(text: str, requests: list[dict[str, str]], **inner: Any) -> RunRecord:
    """Return the run of an agent whose model answers with a text and requests; `inner` are attributes of the request."""
    asked = json.dumps([{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}])
    node = {
        "gen_ai.request.model": "gpt-x",
        "lk.pii.response.text": text,
        "lk.pii.response.function_calls": json.dumps(requests),
    }
    workflow = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "agent_session"}
    turn = AGENT | {"lk.pii.user_input": QUESTION}
    ended = {"gen_ai.response.finish_reasons": ["stop"], "gen_ai.input.messages": asked}
    return record_of_spans(
        span("session", None, workflow, title="agent_session", end=9),
        span("turn", "session", turn, title="agent_turn", start=1, end=8),
        span("node", "turn", node, title="llm_node", start=2, end=5),
        span("request", "node", CHAT | TOKENS | ended | inner, title="llm_request", start=3, end=4),
    )


def test_empty_first_answer_of_livekit_is_no_success() -> None:
    row = livekit("", []).row

    assert (row.outcome, row.outcome_rule) == ("completed_with_errors", "answer_empty")


def test_request_of_a_tool_beside_which_livekit_reports_no_text_is_not_an_empty_answer() -> None:
    request = {"name": "order_lookup", "arguments": json.dumps(ARGUMENTS), "call_id": "c1"}

    assert livekit("", [request]).row.outcome_rule != "answer_empty"


def test_question_of_a_turn_of_livekit_is_the_input_of_its_agent() -> None:
    run = load(livekit("It was shipped.", []))

    assert (run.question, run.answer) == (QUESTION, "It was shipped.")
    [turn] = [step for step in run.steps if step.name == "agent_turn"]
    assert turn.input_summary == QUESTION


def test_output_of_a_tool_in_livekit_is_its_result() -> None:
    [call] = load(
        record_of_spans(
            span("turn", None, AGENT, end=9),
            span("tool", "turn", TOOL | {"lk.pii.function_tool.output": "shipped"}, start=1, end=2),
        )
    ).tool_calls

    assert call.result_summary == "shipped"


# Pipecat

USER = {"role": "user", "content": QUESTION}
REQUESTED = {
    "role": "assistant",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "order_lookup", "arguments": json.dumps(ARGUMENTS)}}
    ],
}


def pipecat(*calls: dict[str, Any]) -> RunRecord:
    """Return the run of a conversation with one turn and these calls of its model."""
    conversation = {"conversation.id": "call-1", "conversation.type": "voice"}
    turn = {"conversation.id": "call-1", "turn.number": 1, "turn.type": "conversation", "turn.was_interrupted": True}
    models = [
        span(
            f"model{number}",
            "turn",
            CHAT | {"stream": True, "gen_ai.output.type": "text"} | call,
            title="llm",
            start=2 * number,
            end=2 * number + 1,
        )
        for number, call in enumerate(calls, 1)
    ]
    return record_of_spans(
        span("talk", None, conversation, title="conversation", end=20),
        span("turn", "talk", turn, title="turn", start=1, end=19),
        *models,
        resource={"service.name": "shop"},
    )


def heard(*messages: dict[str, Any], result: object = None) -> dict[str, Any]:
    """Return the attributes of a model call with these messages, and with the result of a tool that was requested."""
    answered = [REQUESTED, {"role": "tool", "tool_call_id": "c1", "content": json.dumps(result)}] if result else []
    return {"input": json.dumps([*messages, *answered])}


def test_pipecats_question_answer_and_calls_are_read() -> None:
    said = heard(USER, result={"state": "shipped"}) | TOKENS | {"output": "It was shipped."}
    record = pipecat(heard(USER) | TOKENS, said)
    run = load(record)

    assert (run.question, run.answer, run.conversation_id) == (QUESTION, "It was shipped.", "call-1")
    [call] = run.tool_calls
    assert (call.tool_name, call.args_json, call.status) == ("order_lookup", ARGUMENTS, "success")
    assert record.row.outcome == "succeeded"


def test_turns_of_pipecat_are_steps_around_the_calls_of_their_model() -> None:
    turn, model = load(pipecat(heard(USER) | TOKENS | {"output": "Hello."})).steps

    assert (turn.name, extra(turn, "span_kind")) == ("turn", "chain")
    assert model.parent_step_id == turn.step_id


def test_tool_that_failed_in_pipecat_counts() -> None:
    sorry = {"output": "I am sorry, I could not look up order A-17."}
    record = pipecat(heard(USER) | TOKENS, heard(USER, result={"error": "no such table"}) | TOKENS | sorry)

    assert (record.row.outcome, record.row.outcome_rule) == ("completed_with_errors", "answer_reports_failure")


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([heard(USER) | TOKENS], id="first answer"),
        pytest.param([heard(USER) | TOKENS, heard(USER, result="shipped") | TOKENS], id="after a tool"),
    ],
)
def test_model_of_pipecat_with_tokens_and_without_output_said_nothing(calls: list[dict[str, Any]]) -> None:
    row = pipecat(*calls).row

    assert (row.outcome, row.outcome_rule) == ("completed_with_errors", "answer_empty")


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([heard(USER)], id="first call"),
        pytest.param([heard(USER) | TOKENS, heard(USER, result="shipped")], id="after a call with tokens"),
    ],
)
def test_model_of_pipecat_without_tokens_and_output_did_not_complete(calls: list[dict[str, Any]]) -> None:
    row = pipecat(*calls).row

    assert (row.outcome, row.outcome_rule) == ("unknown", "no_answer")


def test_model_whose_last_call_requests_the_end_of_the_conversation_has_answered_before() -> None:
    record = pipecat(heard(USER) | TOKENS | {"output": "It was shipped. Goodbye!"}, heard(USER) | TOKENS)

    assert record.row.outcome == "succeeded"


OTHERS = {"turn.number": 1, "conversation.type": "group"}


@pytest.mark.parametrize(
    ("attributes", "roles", "tools"),
    [
        pytest.param({"gen_ai.request.model": "gpt-x"}, ["llm"], [], id="model"),
        pytest.param({"tool.name": "order_lookup"}, [], ["order_lookup"], id="tool"),
    ],
)
def test_span_of_another_program_with_names_of_pipecat_keeps_its_role(
    attributes: dict[str, Any], roles: list[str], tools: list[str]
) -> None:
    run = load(record_of_spans(span("it", None, AGENT, end=9), span("sub", "it", attributes | OTHERS, start=1, end=2)))

    assert [extra(step, "span_kind") for step in run.steps] == roles
    assert [call.tool_name for call in run.tool_calls] == tools


def test_request_of_a_service_with_names_of_pipecat_is_no_activity_of_an_agent() -> None:
    row = record_of_spans(span("move", None, OTHERS, title="POST /moves", end=9)).row

    assert row.outcome_rule == "no_agent_activity"


def test_model_call_of_another_program_without_output_did_not_answer_with_an_empty_text() -> None:
    call = CHAT | TOKENS | {"stream": True, "input": QUESTION}
    row = record_of_spans(span("it", None, AGENT, end=9), span("m", "it", call, title="llm", start=1, end=2)).row

    assert row.outcome == "succeeded"
