"""Texts of single frameworks: messages printed by Python, prompts that show a step limit, and placeholder ids."""

from __future__ import annotations

import json
from typing import Any

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, exception, extra, run_of, span

LLM = {"openinference.span.kind": "LLM"}
ROOT = {"http.request.method": "POST"}
TOOL_CALL = "ToolCall(tool_name='lookup', arguments={'order': 'A-17'}, id='c1', extra=None)"


def printed(role: str, content: str) -> str:
    return f"ChatMessage(_role=<ChatRole.{role.upper()}: '{role}'>, _content=[{content}], _name=None, _meta={{}})"


def haystack(*messages: str, reply: str) -> dict[str, Any]:
    return LLM | {"input.value": json.dumps({"messages": messages}), "output.value": json.dumps({"replies": [reply]})}


def haystack_run(result: str, *, is_error: bool) -> Any:
    question = printed("user", "TextContent(text='Where is A-17?')")
    request = printed("assistant", TOOL_CALL)
    answer = printed("assistant", "TextContent(text='It was shipped.')")
    response = printed("tool", f"ToolCallResult(result={result!r}, origin={TOOL_CALL}, error={is_error})")
    return run_of(
        span("root", None, {"openinference.span.kind": "CHAIN"}, title="Agent.run", end=9),
        span("one", "root", haystack(question, reply=request), start=1, end=2),
        span("two", "root", haystack(question, request, response, reply=answer), start=3, end=4),
    )


def test_tool_calls_of_haystack_have_arguments_and_result() -> None:
    run = haystack_run("shipped", is_error=False)

    assert (run.question, run.answer) == ("Where is A-17?", "It was shipped.")
    [call] = run.tool_calls
    assert (call.tool_name, call.args_json, call.result_summary) == ("lookup", {"order": "A-17"}, "shipped")
    assert call.status == "success"


def test_error_that_haystack_reports_beside_a_result_fails_the_call() -> None:
    [call] = haystack_run("Failed to invoke Tool", is_error=True).tool_calls

    assert (call.status, call.error_message) == ("failure", "Failed to invoke Tool")


def test_messages_of_haystack_that_were_cut_are_left_out() -> None:
    cut = LLM | {"input.value": '{"messages": ["ChatMessage(_role=<ChatRole.USER: \'us"]}'}
    run = run_of(span("root", None, AGENT, end=9), span("one", "root", cut, start=1, end=2))

    assert run.tool_calls == []
    assert len(run.steps) == 1


def autogen(message: dict[str, Any]) -> dict[str, Any]:
    return {"recipient_agent_class": "SwarmGroupChatManager", "message": json.dumps({"message": message})}


def test_messages_between_agents_of_autogen_give_question_answer_arguments_and_result() -> None:
    requests = [{"id": "c1", "name": "refund", "arguments": '{"order": "A-17"}'}]
    results = [{"call_id": "c1", "name": "refund", "content": "done", "is_error": False}]
    run = run_of(
        span("root", None, ROOT, end=20),
        span("q", "root", autogen({"type": "TextMessage", "source": "user", "content": "Refund it."}), end=1),
        span("agent", "root", AGENT, start=1, end=9),
        span("req", "root", autogen({"type": "ToolCallRequestEvent", "source": "a", "content": requests}), start=2, end=3),
        span("tool", "agent", TOOL | {"gen_ai.tool.name": "refund", "gen_ai.tool.call.id": "c1"}, start=3, end=4),
        span("res", "root", autogen({"type": "ToolCallExecutionEvent", "source": "a", "content": results}), start=5, end=6),
        span("ans", "root", autogen({"type": "TextMessage", "source": "a", "content": "Refunded."}), start=7, end=8),
    )  # fmt: skip

    assert (run.question, run.answer) == ("Refund it.", "Refunded.")
    [call] = run.tool_calls
    assert (call.args_json, call.result_summary) == ({"order": "A-17"}, "done")
    assert run.steps == [], "messages between agents are no steps"


def test_last_prompt_of_smolagents_shows_that_the_limit_of_steps_was_reached() -> None:
    stuck = "An agent tried to answer a user query but it got stuck and failed to do so. You are tasked with providing an answer."
    prompt = {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.contents.0.message_content.text": stuck,
    }
    run = run_of(span("root", None, AGENT, end=9), span("one", "root", LLM | prompt, start=1, end=2))

    assert extra(run.steps[0], "finish_reasons") == ["max_steps"]


def test_finish_reasons_as_json_text_and_as_a_member_of_an_enumeration() -> None:
    run = run_of(
        span("root", None, AGENT, end=9),
        span("one", "root", CHAT | {"gen_ai.response.finish_reasons": '["tool_calls"]'}, start=1, end=2),
        span("two", "root", CHAT | {"gen_ai.response.finish_reason": "FinishReason.STOP"}, start=3, end=4),
    )
    assert [extra(step, "finish_reasons") for step in run.steps] == [["tool_calls"], ["STOP"]]


def test_answer_of_a_conversation_is_the_text_after_the_last_tool() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "lookup", "arguments": {}}
    response = {"type": "tool_call_response", "id": "c1", "response": "shipped"}
    conversation = [
        {"role": "assistant", "parts": [{"type": "text", "content": "Let me look."}, request]},
        {"role": "tool", "parts": [response]},
        {"role": "assistant", "parts": [{"type": "text", "content": "It was shipped."}]},
    ]
    whole = run_of(span("root", None, AGENT | {"gen_ai.output.messages": conversation}, end=9))
    stopped = run_of(span("root", None, AGENT | {"gen_ai.output.messages": conversation[:2]}, end=9))

    assert whole.answer == "It was shipped."
    assert stopped.answer is None


def test_placeholder_call_id_does_not_separate_a_call_from_its_request() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "lookup", "arguments": {}}
    asks = CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": [request]}]}
    failed = TOOL | {"gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "<not specified>"}
    run = run_of(
        span("root", None, AGENT, end=9),
        span("one", "root", asks, start=1, end=2),
        span("tool", "root", failed, start=3, end=4, events=[exception()]),
    )
    [call] = run.tool_calls
    assert (call.status, extra(call, "tool_call_id")) == ("failure", "c1")


def test_tool_is_known_by_the_name_that_models_use_for_it() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "delegate_work", "arguments": {"task": "x"}}
    asks = CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": [request]}]}
    run = run_of(
        span("root", None, AGENT, end=9),
        span("one", "root", asks, start=1, end=2),
        span("tool", "root", TOOL | {"gen_ai.tool.name": "Delegate work"}, start=3, end=4),
    )
    [call] = run.tool_calls
    assert (call.tool_name, call.args_json) == ("Delegate work", {"task": "x"})


def litellm(number: int, taken: str, message: str) -> dict[str, Any]:
    choices = f"[{{'finish_reason': 'stop', 'index': 0, 'message': {message}}}]"
    return {"llm.openai.messages": taken, "llm.openai.choices": choices, "llm.openai.model": f"m-{number}"}


def test_calls_of_litellm_are_its_raw_requests_and_not_the_surrounding_span() -> None:
    user = "{'role': 'user', 'content': 'Where is A-17?'}"
    asked = "{'role': 'assistant', 'content': None, 'tool_calls': [{'id': 'c1', 'type': 'function', 'function': {'name': 'lookup', 'arguments': '{}'}}]}"
    told = "{'role': 'tool', 'tool_call_id': 'c1', 'content': 'shipped'}"
    around = {
        "litellm.call_id": "1",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.completion.0.function_call.name": "lookup",
    }
    run = run_of(
        span("root", None, around, title="POST /ask", end=9),
        span("one", "root", litellm(1, f"[{user}]", asked), title="raw_gen_ai_request", start=1, end=2),
        span(
            "two",
            "root",
            litellm(2, f"[{user}, {asked}, {told}]", "{'role': 'assistant', 'content': 'It was shipped.'}"),
            title="raw_gen_ai_request",
            start=3,
            end=4,
        ),
    )
    assert (run.question, run.answer) == ("Where is A-17?", "It was shipped.")
    assert [extra(step, "model") for step in run.steps] == ["m-1", "m-2"]
    [call] = run.tool_calls
    assert (call.tool_name, call.result_summary, call.status) == ("lookup", "shipped", "success")


def test_error_of_a_model_client_is_not_assigned_to_the_tool_requested_before() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "lookup", "arguments": {}}
    asks = CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": [request]}]}
    refused = exception("litellm.exceptions.RateLimitError", "429")
    run = run_of(
        span("root", None, AGENT, end=9, status=2, events=[refused]),
        span("one", "root", asks, start=1, end=2),
    )
    [call] = run.tool_calls
    assert call.status == "skipped"
