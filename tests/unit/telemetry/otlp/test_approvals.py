"""Tool calls that wait for a person, or that a person rejected, and calls of earlier runs in the history of a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, id_of, run_of, span

ARGUMENTS = {"order_id": "A-17"}
REQUEST = {"type": "tool_call", "id": "c1", "name": "order_lookup", "arguments": ARGUMENTS}
REJECTIONS = {
    "OpenAI Agents SDK": "Tool execution was not approved.",
    "Microsoft Agent Framework": "Error: Tool call invocation was rejected by user.",
    "pydantic-ai": "The tool call was denied.",
    "LangChain": "User rejected the tool call for `order_lookup` with reason: the boss said no",
}
CALLED = TOOL | {"gen_ai.tool.call.arguments": json.dumps(ARGUMENTS)}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "content": text}]}


def asked(*requests: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "parts": list(requests)}


def returned(response: str, call_id: str = "c1", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": response, **fields}]}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "parts": [{"type": "text", "content": text}]}


def chat(taken: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    return CHAT | {"gen_ai.input.messages": json.dumps(taken), "gen_ai.output.messages": json.dumps([given])}


FIRST = chat([user("Where is it?")], asked(REQUEST))
"""The model call that requests a tool."""


def answer_to(response: str, **fields: Any) -> dict[str, Any]:
    """Return the model call that has the result of the tool."""
    return chat([user("Where is it?"), asked(REQUEST), returned(response, **fields)], said("I was not allowed to."))


@pytest.mark.parametrize("is_error", [False, True])
@pytest.mark.parametrize("rejection", REJECTIONS.values(), ids=REJECTIONS)
def test_call_that_a_person_rejected_is_skipped(rejection: str, is_error: bool) -> None:
    [call] = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", FIRST, start=1),
        span("second", "root", answer_to(rejection, is_error=is_error), start=3),
    ).tool_calls

    assert call.status == "skipped"
    assert call.result_summary == rejection
    assert call.error_message is None


def test_span_of_a_call_that_a_person_rejected_is_skipped() -> None:
    rejection = REJECTIONS["OpenAI Agents SDK"]
    for result in ({}, {"gen_ai.tool.call.result": rejection}):
        [call] = run_of(
            span("root", None, AGENT, end=9),
            span("first", "root", FIRST, start=1),
            span("tool", "root", CALLED | result, start=2),
            span("second", "root", answer_to(rejection), start=3),
        ).tool_calls

        assert call.status == "skipped"
        assert call.result_summary == rejection


def test_error_of_the_run_is_not_the_error_of_a_rejected_call() -> None:
    [call] = run_of(
        span("root", None, AGENT, end=9, status=2, message="out of memory"),
        span("first", "root", FIRST, start=1),
        span("second", "root", answer_to(REJECTIONS["pydantic-ai"]), start=3),
    ).tool_calls

    assert call.status == "skipped"
    assert call.error_message is None


def test_result_that_only_mentions_a_rejection_is_a_result() -> None:
    [call] = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", FIRST, start=1),
        span("second", "root", answer_to("Note: Tool execution was not approved."), start=3),
    ).tool_calls

    assert call.status == "success"


def test_call_that_had_to_wait_for_a_person_is_shown_once() -> None:
    """The OpenAI Agents SDK ends the span of a call that has to wait, and makes another one when it executes the call."""
    [call] = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", FIRST, start=1),
        span("waits", "root", CALLED, start=2, end=3),
        span("runs", "root", CALLED | {"gen_ai.tool.call.result": "shipped"}, start=4, end=5),
        span("second", "root", answer_to("shipped"), start=6),
    ).tool_calls

    assert call.call_id == id_of("runs")
    assert call.result_summary == "shipped"


def test_equal_calls_that_were_all_requested_are_all_shown() -> None:
    again = chat([user("Where is it?"), asked(REQUEST), returned("")], asked(REQUEST | {"id": "c2"}))
    calls = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", FIRST, start=1),
        span("one", "root", CALLED, start=2, end=3),
        span("again", "root", again, start=4),
        span("two", "root", CALLED | {"gen_ai.tool.call.result": "shipped"}, start=5, end=6),
    ).tool_calls

    assert [call.call_id for call in calls] == [id_of("one"), id_of("two")]


def test_equal_call_after_a_model_call_without_captured_texts_is_shown() -> None:
    calls = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", FIRST, start=1),
        span("one", "root", CALLED, start=2, end=3),
        span("again", "root", CHAT, start=4),
        span("two", "root", CALLED, start=5, end=6),
    ).tool_calls

    assert [call.call_id for call in calls] == [id_of("one"), id_of("two")]


def test_approval_repeats_the_request_and_is_no_call_of_its_own() -> None:
    """Microsoft's Agent Framework has the person's answer in the input of the agent that goes on."""
    call = {"type": "function_call", "call_id": "c1", "name": "order_lookup", "arguments": json.dumps(ARGUMENTS)}
    approval = {"type": "function_approval_response", "id": "af-1", "approved": True, "function_call": call}
    given = json.dumps([{"role": "user", "parts": [approval]}])

    [shown] = run_of(
        span("root", None, AGENT | {"gen_ai.input.messages": given}, end=9),
        span("tool", "root", CALLED | {"gen_ai.tool.call.id": "c1", "gen_ai.tool.call.result": "shipped"}, start=2),
        span("second", "root", answer_to("shipped"), start=3),
    ).tool_calls

    assert shown.call_id == id_of("tool")
    assert shown.status == "success"


HISTORY = [user("Where is it?"), asked(REQUEST), returned("shipped"), said("It was shipped."), user("Thank you!")]


def test_call_of_an_earlier_run_in_the_history_is_no_call_of_this_run() -> None:
    all_messages = {"gen_ai.input.messages": json.dumps([*HISTORY, said("You are welcome.")])}

    run = run_of(
        span("root", None, AGENT | all_messages, end=9),
        span("chat", "root", chat(HISTORY, said("You are welcome.")), start=1),
    )

    assert run.tool_calls == []
    assert (run.question, run.answer) == ("Thank you!", "You are welcome.")


def test_call_of_this_run_in_a_later_turn_of_its_user_is_a_call() -> None:
    turns = (
        span("first", "root", FIRST, start=1),
        span("second", "root", chat(HISTORY[:3], said("It was shipped.")), start=3),
        span("third", "root", chat(HISTORY, said("You are welcome.")), start=5),
    )

    [call] = run_of(span("root", None, AGENT, end=9), *turns).tool_calls
    [other] = run_of(span("root", None, AGENT, end=9), *turns[1:]).tool_calls

    assert (call.result_summary, other.result_summary) == ("shipped", "shipped")


def test_user_text_beside_a_result_begins_no_new_turn() -> None:
    """Anthropic's messages have the results of tools in a message of the user."""
    result = {"role": "user", "parts": [*returned("shipped")["parts"], {"type": "text", "content": "Go on."}]}

    run = run_of(
        span("root", None, AGENT, end=9),
        span("chat", "root", chat([user("Where is it?"), asked(REQUEST), result], said("Shipped.")), start=1),
    )

    assert [call.result_summary for call in run.tool_calls] == ["shipped"]
