"""Spans of each dialect become the same steps and tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from relab.telemetry.otlp.dialects import DIALECTS
from unit.telemetry.otlp.builders import AGENT, CHAT, extra, id_of, run_of, span

ARGUMENTS = {"order_id": "A-17"}
QUESTION, ANSWER, RESULT = "Where is order A-17?", "It was shipped.", "shipped"


def _json(value: object) -> str:
    return json.dumps(value)


CHAT_MESSAGES = [
    {"role": "user", "content": QUESTION},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": _json(ARGUMENTS)}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": RESULT},
]
CHAT_ANSWER = {"role": "assistant", "content": ANSWER}

RUNS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "OpenInference": [
        ("Desk.run", {"openinference.span.kind": "AGENT", "input.value": QUESTION, "output.value": ANSWER}),
        (
            "lookup",
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "lookup",
                "input.value": _json({"args": [], "sanitize_inputs_outputs": True, "kwargs": ARGUMENTS}),
                "output.value": RESULT,
            },
        ),
        (
            "model",
            {
                "openinference.span.kind": "LLM",
                "llm.model_name": "m-1",
                "llm.input_messages.0.message.role": "user",
                "llm.input_messages.0.message.content": QUESTION,
                "llm.output_messages.0.message.role": "assistant",
                "llm.output_messages.0.message.content": ANSWER,
                "session.id": "s",
                "user.id": "u",
            },
        ),
    ],
    "OpenLLMetry": [
        (
            "desk.agent",
            {
                "traceloop.span.kind": "agent",
                "traceloop.entity.name": "Desk",
                "traceloop.entity.input": _json({"args": [QUESTION], "kwargs": {}}),
                "traceloop.entity.output": _json(ANSWER),
            },
        ),
        (
            "lookup.tool",
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "lookup",
                "traceloop.entity.input": _json({"args": [], "kwargs": ARGUMENTS}),
                "traceloop.entity.output": RESULT,
            },
        ),
        (
            "openai.chat",
            {
                "llm.request.type": "chat",
                "gen_ai.request.model": "m-1",
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": QUESTION,
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": ANSWER,
                "traceloop.association.properties.session_id": "s",
                "traceloop.association.properties.user_id": "u",
            },
        ),
    ],
    "Vercel AI SDK": [
        (
            "ai.generateText",
            {
                "ai.operationId": "ai.generateText",
                "ai.telemetry.functionId": "Desk",
                "ai.telemetry.metadata.sessionId": "s",
                "ai.telemetry.metadata.userId": "u",
                "ai.prompt": _json({"prompt": QUESTION}),
                "ai.response.text": ANSWER,
                "ai.model.id": "m-1",
            },
        ),
        (
            "ai.toolCall",
            {
                "ai.operationId": "ai.toolCall",
                "ai.toolCall.name": "lookup",
                "ai.toolCall.id": "c1",
                "ai.toolCall.args": _json(ARGUMENTS),
                "ai.toolCall.result": RESULT,
            },
        ),
        (
            "ai.generateText.doGenerate",
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.id": "m-1",
                "ai.prompt.messages": _json([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]),
                "ai.response.text": ANSWER,
            },
        ),
    ],
    "MLflow": [
        (
            "Desk",
            {
                "mlflow.spanType": '"AGENT"',
                "mlflow.spanInputs": _json({"question": QUESTION}),
                "mlflow.spanOutputs": _json(ANSWER),
                "mlflow.trace.session": "s",
                "mlflow.trace.user": "u",
            },
        ),
        (
            "lookup",
            {
                "mlflow.spanType": '"TOOL"',
                "mlflow.spanFunctionName": '"lookup"',
                "mlflow.spanInputs": _json(ARGUMENTS),
                "mlflow.spanOutputs": _json(RESULT),
            },
        ),
        (
            "Completions",
            {
                "mlflow.spanType": '"CHAT_MODEL"',
                "mlflow.spanInputs": _json({"model": "m-1", "messages": CHAT_MESSAGES}),
                "mlflow.spanOutputs": _json({"choices": [{"index": 0, "message": CHAT_ANSWER}]}),
            },
        ),
    ],
    "LangSmith": [
        (
            "Desk",
            {
                "langsmith.span.kind": "agent",
                "langsmith.metadata.lc_agent_name": "Desk",
                "langsmith.metadata.session_id": "s",
                "langsmith.metadata.user_id": "u",
                "gen_ai.prompt": _json({"messages": CHAT_MESSAGES[:1]}),
                "gen_ai.completion": _json({"messages": [*CHAT_MESSAGES, CHAT_ANSWER]}),
            },
        ),
        (
            "lookup",
            {
                "langsmith.span.kind": "tool",
                "gen_ai.prompt": _json({"input": _json(ARGUMENTS)}),
                "gen_ai.completion": _json({"output": {"type": "tool", "content": RESULT, "tool_call_id": "c1"}}),
            },
        ),
        (
            "ChatModel",
            {
                "langsmith.span.kind": "llm",
                "gen_ai.request.model": "m-1",
                "gen_ai.prompt": _json({"messages": CHAT_MESSAGES}),
                "gen_ai.completion": _json({"messages": [CHAT_ANSWER]}),
            },
        ),
    ],
    "Langfuse": [
        (
            "Desk",
            {
                "langfuse.observation.type": "agent",
                "langfuse.observation.input": _json({"question": QUESTION}),
                "langfuse.observation.output": ANSWER,
                "langfuse.session.id": "s",
                "langfuse.user.id": "u",
            },
        ),
        (
            "lookup",
            {
                "langfuse.observation.type": "tool",
                "langfuse.observation.input": _json(ARGUMENTS),
                "langfuse.observation.output": RESULT,
            },
        ),
        (
            "completion",
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": "m-1",
                "langfuse.observation.input": _json(CHAT_MESSAGES),
                "langfuse.observation.output": _json(CHAT_ANSWER),
            },
        ),
    ],
    "Google ADK": [
        (
            "invoke_agent Desk",
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "Desk",
                "gcp.vertex.agent.session_id": "s",
                "gcp.vertex.agent.user_id": "u",
            },
        ),
        (
            "execute_tool lookup",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "lookup",
                "gen_ai.tool.call.id": "c1",
                "gcp.vertex.agent.tool_call_args": _json(ARGUMENTS),
                "gcp.vertex.agent.tool_response": RESULT,
                "gcp.vertex.agent.llm_request": "{}",
            },
        ),
        (
            "call_llm",
            {
                "gcp.vertex.agent.llm_request": _json(
                    {"model": "m-1", "contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
                ),
                "gcp.vertex.agent.llm_response": _json({"content": {"role": "model", "parts": [{"text": ANSWER}]}}),
            },
        ),
    ],
    "pydantic-ai, first version": [
        (
            "agent run",
            {
                "agent_name": "Desk",
                "all_messages_events": _json([{"role": "user", "content": QUESTION}, CHAT_ANSWER]),
                "final_result": ANSWER,
                "session.id": "s",
                "user.id": "u",
            },
        ),
        (
            "running tool",
            {"gen_ai.tool.name": "lookup", "tool_arguments": _json(ARGUMENTS), "tool_response": RESULT},
        ),
        ("chat m-1", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}),
    ],
    "Spring AI": [
        (
            "spring_ai chat_client",
            {
                "gen_ai.operation.name": "framework",
                "spring.ai.kind": "chat_client",
                "gen_ai.agent.name": "Desk",
                "gen_ai.prompt": _json([{"role": "user", "content": QUESTION}]),
                "spring.ai.chat.client.conversation.id": "s",
                "user.id": "u",
            },
        ),
        (
            "tool_call lookup",
            {
                "gen_ai.operation.name": "framework",
                "spring.ai.kind": "tool_call",
                "spring.ai.tool.definition.name": "lookup",
                "spring.ai.tool.call.arguments": _json(ARGUMENTS),
                "spring.ai.tool.call.result": RESULT,
            },
        ),
        (
            "chat m-1",
            {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.completion": [ANSWER]},
        ),
    ],
    "hand-written, flattened values": [
        (
            "Runner.run",
            {
                "agent.name": "Desk",
                "agent.request": QUESTION,
                "agent.response": ANSWER,
                "session.id": "s",
                "user.id": "u",
            },
        ),
        (
            "ToolExecutor.execute",
            {"tool.name": "lookup", "tool.parameters.order_id": "A-17", "tool.response": RESULT},
        ),
        (
            "LlmClient.complete",
            {
                "request.model": "m-1",
                "request.messages.0.role": "user",
                "request.messages.0.content": QUESTION,
                "response.message.role": "assistant",
                "response.message.content": ANSWER,
            },
        ),
    ],
    "hand-written, names of spans": [
        ("agent: Desk", {"input": QUESTION, "output": ANSWER, "session.id": "s", "user.id": "u"}),
        ("tool: lookup", {"input": _json(ARGUMENTS), "output": RESULT}),
        ("llm call", {"model": "m-1", "prompt": _json(CHAT_MESSAGES[:1]), "completion": ANSWER}),
    ],
}


def run_in(dialect: str) -> AgentRun:
    (agent, of_agent), (tool, of_tool), (model, of_model) = RUNS[dialect]
    return run_of(
        span("agent", None, of_agent, title=agent, start=0, end=9),
        span("tool", "agent", of_tool, title=tool, start=1, end=2),
        span("model", "agent", of_model, title=model, start=3, end=8),
        resource={"service.name": "service"},
    )


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> AgentRun:
    """The run of an agent that calls one tool, in each dialect."""
    return run_in(request.param)


def test_run_has_the_agents_name_not_the_services(run: AgentRun) -> None:
    assert run.agent_name == "Desk"


def test_run_has_model_session_and_user(run: AgentRun) -> None:
    assert run.model == "m-1"
    assert run.conversation_id == "s"
    assert (run.model_extra or {})["user_id"] == "u"


def test_run_has_question_and_answer(run: AgentRun) -> None:
    assert run.question == QUESTION
    assert run.answer == ANSWER


def test_tool_call_has_name_arguments_and_result_without_wrappers(run: AgentRun) -> None:
    [call] = run.tool_calls
    assert call.call_id == id_of("tool")
    assert call.tool_name == "lookup"
    assert call.args_json == ARGUMENTS
    assert call.result_summary == RESULT
    assert call.status == "success"


def test_model_call_is_the_only_step(run: AgentRun) -> None:
    [step] = run.steps
    assert step.step_id == id_of("model")
    assert extra(step, "span_kind") == "llm"


def test_every_dialect_is_shown_or_has_tests_of_its_own() -> None:
    shown = {name.partition(",")[0] for name in RUNS}
    elsewhere = {"OpenTelemetry GenAI", "without a convention", "Haystack", "AutoGen", "LiteLLM"}
    assert {dialect.name.partition(",")[0] for dialect in DIALECTS} == shown | elsewhere


def test_current_names_count_before_those_of_a_dialect() -> None:
    run = run_of(
        span(
            "it",
            None,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "current",
                "llm.model_name": "older",
                "openinference.span.kind": "CHAIN",
            },
        )
    )
    assert run.model == "current"
    assert extra(run.steps[0], "span_kind") == "llm"


STRANDS_EVENTS = [
    ("gen_ai.system.message", {"content": _json([{"text": "Be kind."}])}),
    ("gen_ai.user.message", {"content": _json([{"text": QUESTION}])}),
    (
        "gen_ai.choice",
        {
            "finish_reason": "tool_use",
            "message": _json([{"toolUse": {"toolUseId": "c1", "name": "lookup", "input": ARGUMENTS}}]),
        },
    ),
]


def test_messages_are_read_from_span_events() -> None:
    run = run_of(
        span("agent", None, AGENT, end=9),
        span("chat1", "agent", CHAT, start=1, end=2, events=STRANDS_EVENTS),
        span(
            "tool",
            "agent",
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c1"},
            start=3,
            end=4,
            events=[
                ("gen_ai.tool.message", {"role": "tool", "content": _json(ARGUMENTS), "id": "c1"}),
                ("gen_ai.choice", {"message": _json([{"text": RESULT}]), "id": "c1"}),
            ],
        ),
        span(
            "chat2", "agent", CHAT, start=5, end=6, events=[("gen_ai.choice", {"message": _json([{"text": ANSWER}])})]
        ),
    )
    assert run.question == QUESTION
    assert run.answer == ANSWER
    [call] = run.tool_calls
    assert call.args_json == ARGUMENTS
    assert call.result_summary == RESULT
    assert call.step_id == id_of("chat1")
    assert extra(run.steps[0], "finish_reasons") == ["tool_use"]


def test_messages_are_read_from_the_bodies_of_log_events() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": _json(ARGUMENTS)}}
    events = [
        ("gen_ai.user.message", {"gen_ai.system": "openai", "body": {"content": QUESTION}}),
        (
            "gen_ai.choice",
            {
                "body": {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "tool_calls": [call]},
                }
            },
        ),
    ]
    run = run_of(span("agent", None, AGENT, end=9), span("chat", "agent", CHAT, start=1, events=events))
    assert run.question == QUESTION
    [requested] = run.tool_calls
    assert requested.tool_name == "lookup"
    assert requested.args_json == ARGUMENTS
    assert requested.status == "skipped"


def test_names_of_spans_without_input_and_output_say_nothing() -> None:
    run = run_of(
        span("agent", None, AGENT, end=9), span("it", "agent", {"http.url": "u"}, title="tool: lookup", start=1)
    )
    assert run.tool_calls == []


def test_flattened_values_that_contradict_each_other_are_read_in_part() -> None:
    attributes = {
        "tool.name": "lookup",
        "tool.args.a": 1,
        "tool.args.a.b": 2,
        "tool.args.list.0": "x",
        "tool.args.list.1": "y",
    }
    run = run_of(span("agent", None, AGENT, end=9), span("tool", "agent", attributes, start=1))
    [call] = run.tool_calls
    assert call.args_json == {"a": 1, "list": ["x", "y"]}


def test_token_counts_are_read_from_texts() -> None:
    run = run_of(span("it", None, {**CHAT, "gen_ai.usage.input_tokens": "12", "gen_ai.usage.output_tokens": "many"}))
    assert extra(run.steps[0], "tokens_prompt") == 12
    assert extra(run.steps[0], "tokens_completion") is None
