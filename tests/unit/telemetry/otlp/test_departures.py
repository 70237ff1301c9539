"""Traces of instrumentations that depart from the conventions, with the attributes that they really sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, call_of, exception, extra, run_of, span, step_of

ARGUMENTS = {"order_id": "A-17"}
FILLER = {
    "gen_ai.agent.name": "OpenAI Agent",
    "gen_ai.agent.description": "OpenAI Agents instrumentation",
}
"""What openai-agents-v2 writes into each span that is not an agent's."""


def said(*parts: dict[str, Any]) -> str:
    return json.dumps([{"role": "assistant", "parts": parts}])


def test_span_of_another_operation_is_not_the_agent_that_it_names() -> None:
    turn = {"gen_ai.operation.name": "unknown", "gen_ai.agent.name": "desk"}

    run = run_of(span("root", None, AGENT), span("turn", "root", turn, start=1), span("chat", "turn", CHAT, start=2))

    assert [step.name for step in run.steps] == ["chat"]


def test_name_that_stands_for_every_agent_of_the_openai_sdk_is_not_read() -> None:
    asked = "ResponseFunctionToolCall(arguments='{\"order_id\": \"A-17\"}', call_id='c1', name='lookup', status=None)"
    output = {"gen_ai.output.messages": said({"type": "text", "content": asked})}

    run = run_of(
        span("root", None, AGENT | {"gen_ai.agent.name": "desk"}, end=9),
        span("chat", "root", CHAT | FILLER | output, start=1, end=2),
        span("tool", "root", TOOL | FILLER | {"gen_ai.tool.name": "lookup"}, start=3, end=4),
    )

    assert run.agent_name == "desk"
    assert "agents" not in (run.model_extra or {})
    assert run.answer is None
    assert [(call.tool_name, call.args_json) for call in run.tool_calls] == [("lookup", ARGUMENTS)]


def test_request_that_an_input_repeats_under_another_id_is_one_call() -> None:
    request = {"type": "tool_call", "name": "lookup", "arguments": ARGUMENTS}
    result = {"type": "tool_call_response", "id": "call_1", "response": "shipped"}
    history = [
        {"role": "assistant", "parts": [{**request, "id": "fc_1"}]},
        {"role": "tool", "parts": [result]},
    ]

    run = run_of(
        span("root", None, AGENT, end=9),
        span("first", "root", CHAT | {"gen_ai.output.messages": said({**request, "id": "call_1"})}, start=1, end=2),
        span("tool", "root", TOOL | {"gen_ai.tool.name": "lookup"}, start=3, end=4),
        span("second", "root", CHAT | {"gen_ai.input.messages": json.dumps(history)}, start=5, end=6),
    )

    assert [call.status for call in run.tool_calls] == ["success"]


def test_equal_request_of_another_turn_is_a_call_of_its_own() -> None:
    request = {"type": "tool_call", "name": "lookup", "arguments": ARGUMENTS}
    first, second = (CHAT | {"gen_ai.output.messages": said({**request, "id": name})} for name in ("c1", "c2"))

    run = run_of(
        span("root", None, AGENT, end=9), span("a", "root", first, start=1), span("b", "root", second, start=5)
    )

    assert len(run.tool_calls) == 2


def test_span_with_an_id_of_its_own_is_the_requested_call_with_the_same_arguments() -> None:
    request = {"type": "tool_call", "id": "call_1", "name": "lookup", "arguments": json.dumps(ARGUMENTS)}
    tool = {"gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "run-7", "gen_ai.tool.call.arguments": str(ARGUMENTS)}

    run = run_of(
        span("root", None, AGENT, end=9),
        span("chat", "root", CHAT | {"gen_ai.output.messages": said(request)}, start=1, end=2),
        span("tool", "root", TOOL | tool, start=3, end=4, status=2),
    )

    assert [(call.status, call.args_json) for call in run.tool_calls] == [("failure", ARGUMENTS)]


def test_message_of_langchain_that_python_printed_is_read_up_to_the_end_of_its_content() -> None:
    text = """it's "here",\nby name='x'"""
    printed = f"content={text!r} name='lookup' id='m1' tool_call_id='c1'"

    call = call_of(TOOL | {"gen_ai.tool.call.result": printed})

    assert call.result_summary == text
    assert extra(call, "tool_call_id") == "c1"


def test_message_of_langchain_js_is_the_result() -> None:
    message = {"lc": 1, "id": ["langchain_core", "messages", "ToolMessage"], "kwargs": {"content": "shipped"}}

    call = call_of({"openinference.span.kind": "TOOL", "output.value": json.dumps({"output": message})})

    assert call.result_summary == "shipped"


def test_empty_text_is_no_answer() -> None:
    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", CHAT | {"gen_ai.output.messages": said({"type": "text", "content": ""})}),
    )

    assert run.answer is None


def test_error_that_langsmith_prints_with_its_traceback_has_its_own_class_and_message() -> None:
    printed = "OperationalError('no such table: orders')Traceback (most recent call last):\n\n\n  File \"a.py\"\n\n\nsqlite3.OperationalError: no such table: orders"

    call = call_of(
        {"langsmith.span.kind": "tool", "gen_ai.completion": "{}"}, status=2, events=[exception("Exception", printed)]
    )

    assert (call.error_class, call.error_message) == ("sqlite3.OperationalError", "no such table: orders")
    assert call.result_summary is None


def graph(*spans: Any) -> AgentRun:
    workflow = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.provider.name": "langgraph"}
    return run_of(span("root", None, workflow | {"gen_ai.workflow.name": "desk"}, end=9), *spans)


def test_node_of_a_graph_is_not_an_agent_of_openlit() -> None:
    node = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "langgraph",
        "gen_ai.agent.name": "model",
        "gen_ai.agent.id": "model",
    }

    run = graph(span("node", "root", node, start=1, end=3), span("chat", "node", CHAT, start=1, end=2))

    assert run.agent_name == "desk"
    assert [step.name for step in run.steps] == ["chat"]


def test_input_and_metadata_of_mastra_are_read() -> None:
    root = {
        "gen_ai.operation.name": "invoke_agent",
        "mastra.span.type": "agent_run",
        "mastra.agent_run.input": "Where is it?",
        "mastra.agent_run.output": '{"text": "There.", "files": []}',
        "mastra.metadata.sessionId": "s",
        "mastra.metadata.userId": "u",
    }

    run = run_of(span("root", None, root))

    assert (run.question, run.answer, run.conversation_id) == ("Where is it?", "There.", "s")


def test_flow_of_genkit_is_an_agent_with_calls_of_its_model_and_tools() -> None:
    def action(kind: str, name: str, given: Any, result: Any) -> dict[str, Any]:
        texts = {"genkit:input": json.dumps(given), "genkit:output": json.dumps(result), "genkit:name": name}
        return {"genkit:type": "action", "genkit:metadata:subtype": kind, **texts}

    ask = {"role": "model", "content": [{"toolRequest": {"name": "lookup", "ref": "c1", "input": ARGUMENTS}}]}
    answer = {"message": ask, "finishReason": "stop", "usage": {"inputTokens": 12, "outputTokens": 3}}
    messages = {"messages": [{"role": "user", "content": [{"text": "Where is it?"}]}]}
    run = run_of(
        span("root", None, action("flow", "desk", "Where is it?", "There."), end=9),
        span("chat", "root", action("model", "openai/m-1", messages, answer), start=1, end=2),
        span("tool", "root", action("tool", "lookup", ARGUMENTS, "shipped"), start=3, end=4),
    )

    [step], [call] = run.steps, run.tool_calls
    assert (run.agent_name, run.model, run.question, run.answer) == ("desk", "m-1", "Where is it?", "There.")
    assert (extra(step, "tokens_prompt"), extra(step, "tokens_completion")) == (12, 3)
    assert (call.tool_name, call.args_json, call.result_summary) == ("lookup", ARGUMENTS, "shipped")


def test_agent_of_voltagent_has_the_tokens_of_all_calls() -> None:
    entity = {"entity.type": "agent", "entity.name": "desk", "conversation.id": "s"}
    agent = {"input": "Where is it?", "output": "There.", "usage.prompt_tokens": 48, "usage.completion_tokens": 7}
    model = {"span.type": "llm", "llm.model": "m-1", "llm.usage.prompt_tokens": 20}
    tool = {"span.type": "tool", "tool.name": "lookup", "input": json.dumps(ARGUMENTS), "output": "shipped"}
    run = run_of(
        span("root", None, entity | agent, end=9),
        span("chat", "root", entity | model, start=1, end=8),
        span("tool", "root", entity | tool, start=3, end=4),
    )

    [call] = run.tool_calls
    assert (run.agent_name, run.question, run.answer, run.conversation_id) == ("desk", "Where is it?", "There.", "s")
    assert run.cost is not None
    assert (run.cost.tokens_prompt, run.cost.tokens_completion) == (48, 7)
    assert (call.tool_name, call.args_json, call.result_summary) == ("lookup", ARGUMENTS, "shipped")


def test_messages_that_voltagent_saves_have_the_call_that_it_rejected() -> None:
    entity = {"entity.type": "agent", "entity.name": "desk"}
    part = {"type": "tool-look-up", "toolCallId": "c1", "state": "output-available", "input": ARGUMENTS}
    part["output"] = {"type": "error-text", "value": "Invalid input for tool lookup"}
    saved = json.dumps({"message": {"role": "assistant", "parts": [part]}})
    memory = {"span.type": "memory", "memory.operation": "write", "input": saved}

    run = run_of(span("root", None, entity, end=9), span("memory", "root", entity | memory, start=3, end=4))

    [call] = run.tool_calls
    assert (call.tool_name, call.args_json, call.status) == ("look-up", ARGUMENTS, "failure")
    assert call.result_summary == "Invalid input for tool lookup"


def test_spans_of_voltagent_name_their_agent_before_its_own_span_arrives() -> None:
    entity = {"entity.type": "agent", "entity.name": "desk"}
    spans = (entity | {"span.type": "llm", "llm.model": "m"}, entity | {"span.type": "tool", "tool.name": "lookup"})

    run = run_of(*(span(str(number), "root", attributes) for number, attributes in enumerate(spans)))

    assert {extra(item, "agent_name") or run.agent_name for item in (*run.steps, *run.tool_calls)} == {"desk"}


def test_streamed_answer_of_google_adk_is_shown_once() -> None:
    pieces = [said_by_assistant(text) for text in ("It is ", "there.", "It is there.")]
    chat = {"gcp.vertex.agent.event_id": "e", "gen_ai.output.messages": json.dumps(pieces)}

    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", CHAT | {"gen_ai.operation.name": "generate_content"} | chat, title="generate_content m"),
    )

    assert run.answer == "It is there."


def test_call_in_a_piece_of_a_streamed_answer_of_google_adk_is_shown() -> None:
    request = {"type": "tool_call", "id": "c1", "name": "lookup", "arguments": ARGUMENTS}
    first, last = said_by_assistant("I look."), said_by_assistant("I look.")
    first["parts"].append(request)
    chat = {"gcp.vertex.agent.event_id": "e", "gen_ai.output.messages": json.dumps([first, last])}

    run = run_of(
        span("root", None, AGENT),
        span("chat", "root", CHAT | {"gen_ai.operation.name": "generate_content"} | chat, title="generate_content m"),
    )

    [call] = run.tool_calls
    assert call.tool_name == "lookup"


def said_by_assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "parts": [{"type": "text", "content": text}]}


def test_request_of_logfire_and_the_end_of_its_streamed_answer_are_one_step() -> None:
    chat = CHAT | {"logfire.msg": "Chat", "gen_ai.input.messages": json.dumps([{"role": "user", "content": "Where?"}])}
    answer = {"gen_ai.output.messages": json.dumps([said_by_assistant("There.")]), "gen_ai.usage.input_tokens": 12}

    run = run_of(
        span("root", None, {}, end=9),
        span("request", "root", chat | {"logfire.span_type": "span"}, start=1, end=2),
        span("end", "root", chat | answer | {"logfire.span_type": "log"}, start=4, end=4),
    )

    [step] = run.steps
    assert (step.output_summary, step.effective_latency_ms) == ("There.", 3)
    assert run.cost is not None
    assert (run.cost.tokens_prompt, run.cost.calls_without_tokens) == (12, None)


def test_streamed_answer_of_pydantic_ai_with_its_messages_as_events_is_one_step() -> None:
    asked = {"event.name": "gen_ai.user.message", "role": "user", "content": "Where?"}
    said = {"event.name": "gen_ai.choice", "message": {"role": "assistant", "content": "There."}}

    def chat(kind: str, *events: dict[str, Any]) -> dict[str, Any]:
        return CHAT | {"logfire.msg": "Chat", "logfire.span_type": kind, "events": json.dumps(events)}

    run = run_of(
        span("root", None, {}, end=9),
        span("request", "root", chat("span", asked), start=1, end=2),
        span("end", "root", chat("log", asked, said), start=4, end=4),
    )

    [step] = run.steps
    assert step.input_summary == "Where?"
    assert step.output_summary == "There."


def test_tokens_of_litellm_are_those_of_all_calls_in_the_span_of_the_program() -> None:
    def call(tokens: int) -> dict[str, Any]:
        usage = {"prompt_tokens": tokens, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        return {"llm.openai.messages": "[{'role': 'user', 'content': 'Where?'}]", "llm.openai.usage": str(usage)}

    program = {"litellm.call_id": "c", "gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 2}
    run = run_of(
        span("root", None, program, end=9),
        span("first", "root", call(20), start=1, end=2),
        span("second", "root", call(30), start=3, end=4),
    )

    assert run.cost is not None
    assert (run.cost.tokens_prompt, run.cost.tokens_completion, run.cost.tokens_cached) == (50, 4, 8)


REQUESTING = json.dumps([{"role": "assistant", "tool_calls": [{"id": "c1", "name": "lookup", "arguments": "{}"}]}])


@pytest.mark.parametrize("reasons", [{}, {"gen_ai.response.finish_reasons": "stop"}])
def test_answer_that_requests_tools_ends_with_tool_calls(reasons: dict[str, Any]) -> None:
    """Agno's instrumentation and openai-agents-v2 report no finish reason."""
    step = step_of(CHAT | {"gen_ai.output.messages": REQUESTING} | reasons)

    assert extra(step, "finish_reasons") == ["tool_calls"]


@pytest.mark.parametrize(
    "notice",
    [
        "I have tools to execute, but I need confirmation.",
        "I have tools to execute, but it needs external execution.",
        "Operation cancelled by user",
        "Run 92958cac-5a30 was cancelled",
    ],
)
def test_notice_of_agno_is_no_answer(notice: str) -> None:
    attributes = {"openinference.span.kind": "AGENT", "agent.name": "desk", "input.value": "Where is it?"}

    assert run_of(span("root", None, attributes | {"output.value": notice})).answer is None
    assert run_of(span("root", None, attributes | {"output.value": f"{notice} Why?"})).answer == f"{notice} Why?"


def test_deferred_calls_of_pydantic_ai_are_no_answer() -> None:
    deferred = json.dumps({"calls": [], "approvals": [{"tool_name": "lookup", "args": "{}"}], "metadata": {}})

    assert run_of(span("root", None, AGENT | {"final_result": deferred})).answer is None
    assert run_of(span("root", None, AGENT | {"final_result": '{"calls": 3}'})).answer == '{"calls": 3}'


def test_structured_answer_of_pydantic_ai_may_begin_with_calls() -> None:
    planned = '{"calls":[{"to":"Ann"}],"note":"after noon"}'
    assert run_of(span("root", None, AGENT | {"final_result": planned})).answer == planned


def test_assistant_message_with_nothing_but_its_role_is_empty() -> None:
    """Agno reports an empty answer like this."""
    attributes = {"openinference.span.kind": "LLM", "output.value": json.dumps([{"role": "assistant"}])}

    assert run_of(span("root", None, AGENT), span("chat", "root", attributes, start=1)).answer is None


LITELLM_CALL = CHAT | {
    "litellm.call_id": "f615c532",
    "gen_ai.input.messages": json.dumps([{"role": "user", "content": "Where is it?"}]),
    "gen_ai.output.messages": said({"type": "text", "content": "It was shipped."}),
}


def test_span_that_litellm_names_after_its_call_is_a_model_call() -> None:
    """With OpenTelemetry's current conventions, LiteLLM names its span after the operation and the model."""
    run = run_of(span("chat", None, LITELLM_CALL, title="chat gpt-x"))

    assert (run.model, run.question, run.answer) == ("gpt-x", "Where is it?", "It was shipped.")
    assert [step.name for step in run.steps] == ["chat gpt-x"]


def test_span_of_the_program_with_the_attributes_of_a_call_of_litellm_is_no_model_call() -> None:
    run = run_of(span("web", None, LITELLM_CALL, title="POST /ask"))

    assert (run.model, run.steps) == (None, [])


def test_object_that_instructor_returns_is_the_answer() -> None:
    attributes = {
        "openinference.span.kind": "CHAIN",
        "instructor.response_model": "Delivery",
        "input.value": json.dumps([{"role": "user", "content": "Where is it?"}]),
        "output.value": '{"order_id": "A-17", "days": 3}',
    }

    run = run_of(span("root", None, attributes, end=9), span("chat", "root", CHAT, start=1))

    assert (run.question, run.answer) == ("Where is it?", '{"order_id": "A-17", "days": 3}')


def test_turn_in_which_openai_agents_v2_reports_an_error_is_a_failed_step() -> None:
    """An answer that is no object of the wanted type is an error of the turn alone, and reaches nobody."""
    turn = {"gen_ai.operation.name": "unknown"} | FILLER
    answer = {"gen_ai.output.messages": said({"type": "text", "content": '{"days": "soon"}'})}

    run = run_of(
        span("root", None, AGENT, end=9),
        span("turn", "root", turn, start=1, end=8, status=2, message="Invalid JSON provided: {}"),
        span("chat", "turn", CHAT | FILLER | answer, start=2, end=3),
    )

    assert [(step.name, step.status, step.error_message) for step in run.steps] == [
        ("turn", "failure", "Invalid JSON provided: {}"),
        ("chat", "success", None),
    ]
    assert run.answer is None
