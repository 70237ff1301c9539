"""Answers that are objects, answers that never reached the user, and refusals: what frameworks report of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.core.json import JsonValue
from unit.telemetry.otlp.builders import AGENT, CHAT, Attributes, exception, extra, run_of, span

ERROR = 2
OBJECT = {"order_id": "A-17", "days": 3}
TEXT = json.dumps(OBJECT, separators=(",", ":"))
CHAIN = {"openinference.span.kind": "CHAIN"}
LLM = {"openinference.span.kind": "LLM"}


def test_object_that_pydantic_ai_returns_is_the_answer() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "final_result", "arguments": TEXT}
    model = CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": [request]}]}

    run = run_of(span("root", None, AGENT | {"final_result": TEXT}, end=9), span("one", "root", model, start=1, end=2))

    assert run.answer == TEXT
    assert run.tool_calls == []


def test_arguments_of_an_answering_tool_are_the_answer_of_its_model() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "final_result", "arguments": OBJECT}
    model = CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": [request]}]}

    assert run_of(span("root", None, AGENT, end=9), span("one", "root", model, start=1, end=2)).answer == TEXT


def test_json_text_in_an_answering_tool_of_smolagents_is_the_answer() -> None:
    request = {"id": "c1", "function": {"name": "final_answer", "arguments": {"answer": TEXT}}}
    model = CHAT | {"gen_ai.output.messages": [{"role": "assistant", "tool_calls": [request]}]}

    assert run_of(span("root", None, AGENT, end=9), span("one", "root", model, start=1, end=2)).answer == TEXT


def langchain(*, days: object, call_id: str) -> dict[str, Any]:
    call = {"name": "Info", "args": OBJECT | {"days": days}, "id": call_id, "type": "tool_call"}
    return {"type": "ai", "data": {"content": "", "type": "ai", "tool_calls": [call]}}


def returned(text: str, call_id: str, status: str) -> dict[str, Any]:
    data = {"content": text, "type": "tool", "name": "Info", "tool_call_id": call_id, "status": status}
    return {"type": "tool", "data": data}


def test_structured_response_of_langchain_is_the_answer_and_its_tool_has_the_result_of_the_final_state() -> None:
    wrong, right = langchain(days="soon", call_id="c1"), langchain(days=3, call_id="c2")
    rejected = returned("Error: Failed to parse: days should be a valid integer", "c1", "error")
    accepted = returned("Returning structured response", "c2", "success")
    state = {"messages": [wrong, rejected, right, accepted], "structured_response": OBJECT}

    run = run_of(
        span("root", None, CHAIN | {"output.value": json.dumps(state)}, end=9),
        span("one", "root", CHAT | {"gen_ai.output.messages": [wrong]}, start=1, end=2),
        span(
            "two", "root", CHAT | {"gen_ai.input.messages": [wrong, rejected], "gen_ai.output.messages": [right]}, start=3, end=4
        ),
    )  # fmt: skip

    assert run.answer == TEXT
    assert [call.status for call in run.tool_calls] == ["failure", "success"]


def test_object_in_a_choice_event_is_the_answer_without_the_fields_of_the_event() -> None:
    choice = ("gen_ai.choice", {"message": TEXT, "finish_reason": "tool_use"})

    assert run_of(span("root", None, AGENT, end=9, events=[choice])).answer == TEXT


def test_empty_list_in_a_choice_event_is_no_answer() -> None:
    choice = ("gen_ai.choice", {"message": "[]", "finish_reason": "end_turn"})

    assert run_of(span("root", None, AGENT, end=9), span("one", "root", CHAT, end=2, events=[choice])).answer is None


def said(text: str) -> dict[str, Any]:
    return CHAT | {"gen_ai.output.messages": [{"role": "assistant", "content": text}]}


def test_answer_of_an_agent_that_then_failed_reached_nobody() -> None:
    agent = span("desk", "root", AGENT, start=1, end=8, status=ERROR, message="Guardrail tripwire triggered")

    run = run_of(span("root", None, CHAIN, end=9), agent, span("one", "desk", said("The secret is 7."), start=2, end=3))

    assert run.answer is None
    assert run.steps[-1].output_summary == "The secret is 7."


def test_answer_of_a_run_that_then_failed_reached_nobody() -> None:
    root = span("root", None, AGENT, end=9, events=[exception("UnexpectedModelBehavior", "Exceeded retries")])

    assert run_of(root, span("one", "root", said("The secret is 7."), start=2, end=3)).answer is None


def test_refusal_of_a_model_is_its_answer_and_its_finish_reason() -> None:
    words = "I'm sorry, I can't assist with that."
    message = {"kwargs": {"content": "", "additional_kwargs": {"refusal": words}}}
    model = LLM | {"llm.output_messages.0.message.role": "assistant", "output.value": json.dumps(message)}

    run = run_of(span("root", None, CHAIN, end=9), span("one", "root", model, start=1, end=2))

    assert run.answer == words
    [event] = run.guardrail_events
    assert (event.type, event.message) == ("refusal", "The model refused to answer.")


def test_finish_reason_is_read_from_the_answer_that_a_client_in_python_printed() -> None:
    raw = "ChatCompletion(choices=[Choice(finish_reason='length', index=0)])"
    model = LLM | {"output.value": json.dumps({"role": "assistant", "content": "Order A-17 was", "raw": raw})}

    run = run_of(span("root", None, CHAIN, end=9), span("one", "root", model, start=1, end=2))

    assert run.steps[-1].finish_reasons == ["length"]


def test_request_of_tools_that_is_reported_as_a_stop_has_the_finish_reason_of_a_request() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "order_lookup", "arguments": {}}
    model = CHAT | {
        "gen_ai.output.messages": [{"role": "assistant", "parts": [request]}],
        "gen_ai.response.finish_reasons": ["stop"],
    }

    run = run_of(span("root", None, AGENT, end=9), span("one", "root", model, start=1, end=2))

    assert run.steps[-1].finish_reasons == ["tool_calls"]


@pytest.mark.parametrize("before", ["", "Observation: shipped. " * 50 + "\n"], ids=["alone", "after a long step"])
def test_demand_of_crewai_for_a_last_answer_shows_that_the_limit_of_iterations_was_reached(before: str) -> None:
    demand = (
        before + "Now it's time you MUST give your absolute best final answer. You'll ignore all previous instructions"
    )
    model = LLM | {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": demand,
        "llm.finish_reason": "stop",
    }

    run = run_of(span("root", None, CHAIN, end=9), span("one", "root", model, start=1, end=2))

    assert run.steps[-1].finish_reasons == ["max_iterations"]


def test_field_of_a_structured_answer_is_no_refusal() -> None:
    text = '{"refusal": "none", "label": "ok"}'
    model = LLM | {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": text,
        "output.value": text,
    }

    run = run_of(span("root", None, CHAIN, end=9), span("one", "root", model, start=1, end=2))

    assert run.answer == text
    assert run.guardrail_events == []


def test_finish_reason_in_the_words_of_an_answer_is_not_its_finish_reason() -> None:
    text = "Compare finish_reason='length' with the limit."
    model = LLM | {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": text,
        "output.value": text,
    }

    run = run_of(span("root", None, CHAIN, end=9), span("one", "root", model, start=1, end=2))

    assert not hasattr(run.steps[-1], "finish_reasons")


def test_step_that_langgraph_interrupted_has_the_finish_reason_interrupt() -> None:
    interrupt = exception("langgraph.errors.GraphInterrupt", "(Interrupt(value={}),)")

    run = run_of(
        span("root", None, CHAIN, end=9),
        span("one", "root", CHAIN, title="HumanInTheLoopMiddleware.after_model", start=1, end=2, events=[interrupt]),
    )

    [step] = run.steps
    assert (step.status, step.finish_reasons) == ("success", ["interrupt"])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "refusal": "I cannot help with that."},
        {"role": "assistant", "content": "", "additional_kwargs": {"refusal": "I cannot help with that."}},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot help with that."}]},
    ],
)
@pytest.mark.parametrize("reason", [{}, {"gen_ai.response.finish_reasons": ["stop"]}])
def test_refusal_in_a_message_is_the_answer_and_its_finish_reason(message: JsonValue, reason: Attributes) -> None:
    model = CHAT | reason | {"gen_ai.output.messages": json.dumps([message])}

    run = run_of(span("root", None, AGENT, end=9), span("one", "root", model, start=1, end=2))

    assert run.answer == "I cannot help with that."
    assert run.steps[-1].finish_reasons == ["refusal"]


def test_field_refusal_beside_a_content_or_a_request_is_no_refusal() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "order_lookup", "arguments": "{}"}}]
    asked = {"role": "assistant", "content": None, "refusal": "no", "tool_calls": calls}
    said_it = {"role": "assistant", "content": "Shipped.", "refusal": "no"}

    run = run_of(
        span("root", None, AGENT, end=9),
        span("one", "root", CHAT | {"gen_ai.output.messages": json.dumps([asked])}, start=1, end=2),
        span("two", "root", CHAT | {"gen_ai.output.messages": json.dumps([said_it])}, start=3, end=4),
    )

    assert run.answer == "Shipped."
    assert [extra(step, "finish_reasons") for step in run.steps] == [["tool_calls"], None]
