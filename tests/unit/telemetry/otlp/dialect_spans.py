"""The spans of one run in each dialect: an agent that calls a model and a tool."""

from __future__ import annotations

import json
from typing import Any

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL

ARGUMENTS = {"order_id": "A-17"}
QUESTION, ANSWER, RESULT = "Where is order A-17?", "It was shipped.", "shipped"


def as_json(value: object) -> str:
    return json.dumps(value)


CHAT_MESSAGES = [
    {"role": "user", "content": QUESTION},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": as_json(ARGUMENTS)}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": RESULT},
]
SESSION = {"session.id": "s", "user.id": "u"}
CHAT_ANSWER = {"role": "assistant", "content": ANSWER}

RUNS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "OpenInference": [
        ("Desk.run", {"openinference.span.kind": "AGENT", "input.value": QUESTION, "output.value": ANSWER}),
        (
            "lookup",
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "lookup",
                "input.value": as_json({"args": [], "sanitize_inputs_outputs": True, "kwargs": ARGUMENTS}),
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
                "traceloop.entity.input": as_json({"args": [QUESTION], "kwargs": {}}),
                "traceloop.entity.output": as_json(ANSWER),
            },
        ),
        (
            "lookup.tool",
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "lookup",
                "traceloop.entity.input": as_json({"args": [], "kwargs": ARGUMENTS}),
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
                "ai.prompt": as_json({"prompt": QUESTION}),
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
                "ai.toolCall.args": as_json(ARGUMENTS),
                "ai.toolCall.result": RESULT,
            },
        ),
        (
            "ai.generateText.doGenerate",
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.id": "m-1",
                "ai.prompt.messages": as_json([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]),
                "ai.response.text": ANSWER,
            },
        ),
    ],
    "MLflow": [
        (
            "Desk",
            {
                "mlflow.spanType": '"AGENT"',
                "mlflow.spanInputs": as_json({"question": QUESTION}),
                "mlflow.spanOutputs": as_json(ANSWER),
                "mlflow.trace.session": "s",
                "mlflow.trace.user": "u",
            },
        ),
        (
            "lookup",
            {
                "mlflow.spanType": '"TOOL"',
                "mlflow.spanFunctionName": '"lookup"',
                "mlflow.spanInputs": as_json(ARGUMENTS),
                "mlflow.spanOutputs": as_json(RESULT),
            },
        ),
        (
            "Completions",
            {
                "mlflow.spanType": '"CHAT_MODEL"',
                "mlflow.spanInputs": as_json({"model": "m-1", "messages": CHAT_MESSAGES}),
                "mlflow.spanOutputs": as_json({"choices": [{"index": 0, "message": CHAT_ANSWER}]}),
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
                "gen_ai.prompt": as_json({"messages": CHAT_MESSAGES[:1]}),
                "gen_ai.completion": as_json({"messages": [*CHAT_MESSAGES, CHAT_ANSWER]}),
            },
        ),
        (
            "lookup",
            {
                "langsmith.span.kind": "tool",
                "gen_ai.prompt": as_json({"input": as_json(ARGUMENTS)}),
                "gen_ai.completion": as_json({"output": {"type": "tool", "content": RESULT, "tool_call_id": "c1"}}),
            },
        ),
        (
            "ChatModel",
            {
                "langsmith.span.kind": "llm",
                "gen_ai.request.model": "m-1",
                "gen_ai.prompt": as_json({"messages": CHAT_MESSAGES}),
                "gen_ai.completion": as_json({"messages": [CHAT_ANSWER]}),
            },
        ),
    ],
    "Laminar": [
        (
            "Desk",
            {
                "lmnr.span.type": "DEFAULT",
                "lmnr.span.path": ["Desk"],
                "lmnr.span.input": as_json({"q": QUESTION}),
                "lmnr.span.output": as_json(ANSWER),
                "lmnr.association.properties.session_id": "s",
                "lmnr.association.properties.user_id": "u",
            },
        ),
        (
            "lookup",
            {
                "lmnr.span.type": "TOOL",
                "lmnr.span.input": as_json(ARGUMENTS),
                "lmnr.span.output": as_json(RESULT),
            },
        ),
        (
            "openai.chat",
            {
                "lmnr.span.type": "LLM",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "m-1",
                "gen_ai.input.messages": as_json(CHAT_MESSAGES),
                "gen_ai.output.messages": as_json([{"finish_reason": "stop", "index": 0, "message": CHAT_ANSWER}]),
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 5,
            },
        ),
    ],
    "Braintrust": [
        (
            "Desk",
            {
                "braintrust.span_attributes": as_json({"type": "task"}),
                "braintrust.input": QUESTION,
                "braintrust.output": ANSWER,
                "braintrust.metadata": as_json({"session_id": "s", "user_id": "u"}),
            },
        ),
        (
            "lookup",
            {
                "braintrust.span_attributes.type": "tool",
                "braintrust.input_json": as_json(ARGUMENTS),
                "braintrust.output": RESULT,
            },
        ),
        (
            "Chat Completion",
            {
                "braintrust.span_attributes": as_json({"type": "llm"}),
                "braintrust.input_json": as_json(CHAT_MESSAGES),
                "braintrust.output_json": as_json([{"index": 0, "message": CHAT_ANSWER, "finish_reason": "stop"}]),
                "braintrust.metadata": as_json({"model": "m-1", "provider": "openai"}),
                "braintrust.metrics": as_json({"prompt_tokens": 10, "completion_tokens": 5}),
            },
        ),
    ],
    "Langfuse": [
        (
            "Desk",
            {
                "langfuse.observation.type": "agent",
                "langfuse.observation.input": as_json({"question": QUESTION}),
                "langfuse.observation.output": ANSWER,
                "langfuse.session.id": "s",
                "langfuse.user.id": "u",
            },
        ),
        (
            "lookup",
            {
                "langfuse.observation.type": "tool",
                "langfuse.observation.input": as_json(ARGUMENTS),
                "langfuse.observation.output": RESULT,
            },
        ),
        (
            "completion",
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": "m-1",
                "langfuse.observation.input": as_json(CHAT_MESSAGES),
                "langfuse.observation.output": as_json(CHAT_ANSWER),
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
                "gcp.vertex.agent.tool_call_args": as_json(ARGUMENTS),
                "gcp.vertex.agent.tool_response": RESULT,
                "gcp.vertex.agent.llm_request": "{}",
            },
        ),
        (
            "call_llm",
            {
                "gcp.vertex.agent.llm_request": as_json(
                    {"model": "m-1", "contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
                ),
                "gcp.vertex.agent.llm_response": as_json({"content": {"role": "model", "parts": [{"text": ANSWER}]}}),
            },
        ),
    ],
    "pydantic-ai, first version": [
        (
            "agent run",
            {
                "agent_name": "Desk",
                "all_messages_events": as_json([{"role": "user", "content": QUESTION}, CHAT_ANSWER]),
                "final_result": ANSWER,
                "session.id": "s",
                "user.id": "u",
            },
        ),
        (
            "running tool",
            {"gen_ai.tool.name": "lookup", "tool_arguments": as_json(ARGUMENTS), "tool_response": RESULT},
        ),
        (
            "chat m-1",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m-1",
                "events": as_json(
                    [
                        {"event.name": "gen_ai.user.message", "role": "user", "content": QUESTION},
                        {"event.name": "gen_ai.choice", "index": 0, "message": CHAT_ANSWER},
                    ]
                ),
            },
        ),
    ],
    "Spring AI": [
        (
            "spring_ai chat_client",
            {
                "gen_ai.operation.name": "framework",
                "spring.ai.kind": "chat_client",
                "gen_ai.agent.name": "Desk",
                "gen_ai.prompt": as_json([{"role": "user", "content": QUESTION}]),
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
                "spring.ai.tool.call.arguments": as_json(ARGUMENTS),
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
        ("tool: lookup", {"input": as_json(ARGUMENTS), "output": RESULT}),
        ("llm call", {"model": "m-1", "prompt": as_json(CHAT_MESSAGES[:1]), "completion": ANSWER}),
    ],
    "hand-written, OpenTelemetry's names of operations": [
        ("handle", AGENT | {"gen_ai.agent.name": "Desk", "input": QUESTION, "output": ANSWER} | SESSION),
        ("run", TOOL | {"gen_ai.tool.name": "lookup", "arguments": as_json(ARGUMENTS), "result": RESULT}),
        ("ask", CHAT | {"gen_ai.request.model": "m-1", "input": as_json(CHAT_MESSAGES[:1]), "output": ANSWER}),
    ],
}
