"""Small agents with spans made by hand, in OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

ORDER = {"order_id": "A-1", "days": 3}
QUESTION = "Where is order A-1?"
ANSWER = "It was shipped on Monday."
MODEL = "gpt-4o"

Lookup = Callable[..., Any]


def found_order(**arguments: Any) -> dict[str, Any]:
    """Return the order: a tool call that succeeds."""
    return {"state": "shipped", **arguments}


def lost_order(**arguments: Any) -> dict[str, Any]:
    """Raise an error: a tool call that fails."""
    raise ValueError(f"no customer_id for order {arguments['order_id']}")


def run_shop_agent(tracer: Tracer, lookup: Lookup, *, conversation_id: str) -> str:
    """Call a model, run the tool that it requests, and call the model again; an error of the tool is raised.

    The SDK records such an error. The agent's span repeats the tokens of the model calls, as the conventions allow.
    """
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.name": "shop-agent",
        "gen_ai.agent.id": "asst_5",
        "gen_ai.conversation.id": conversation_id,
        "gen_ai.request.model": MODEL,
        "gen_ai.usage.input_tokens": 260,
        "gen_ai.usage.output_tokens": 32,
    }
    with tracer.start_as_current_span("invoke_agent shop-agent", kind=SpanKind.INTERNAL, attributes=attributes):
        call = {"type": "tool_call", "id": "call_1", "name": "order_lookup", "arguments": ORDER}
        _chat(tracer, [_said("user", QUESTION)], {"role": "assistant", "parts": [call], "finish_reason": "tool_call"})
        result = _execute_tool(tracer, lookup)
        response = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": result}]}
        _chat(tracer, [_said("user", QUESTION), response], _said("assistant", ANSWER) | {"finish_reason": "stop"})
    return ANSWER


def _said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def _chat(tracer: Tracer, messages: list[dict[str, Any]], answer: dict[str, Any]) -> None:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.temperature": 0.0,
        "server.address": "api.example",
        "server.port": 443,
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Help customers."}]),
        "gen_ai.input.messages": json.dumps(messages),
    }
    with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        span.set_attributes(
            {
                "gen_ai.response.id": "chatcmpl-9",
                "gen_ai.response.model": f"{MODEL}-2024-08-06",
                "gen_ai.response.finish_reasons": [answer["finish_reason"]],
                "gen_ai.usage.input_tokens": 100 if len(messages) == 1 else 160,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.output_tokens": 20 if len(messages) == 1 else 12,
                "gen_ai.output.messages": json.dumps([answer]),
            }
        )


def _execute_tool(tracer: Tracer, lookup: Lookup) -> Any:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "order_lookup",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.call.arguments": json.dumps(ORDER),
    }
    with tracer.start_as_current_span("execute_tool order_lookup", attributes=attributes) as span:
        request = {
            "http.request.method": "GET",
            "url.full": "http://orders.example/A-1",
            "http.response.status_code": 200,
        }
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=request):
            result = lookup(**ORDER)
        span.set_attribute("gen_ai.tool.call.result", json.dumps(result))
        return result


def run_broken_stream(tracer: Tracer) -> None:
    """Run a model call whose stream breaks; its span records the error and then gets the status OK."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop-agent"}
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": MODEL}
    with (
        tracer.start_as_current_span("invoke_agent shop-agent", attributes=agent),
        tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=chat) as span,
    ):
        span.record_exception(ConnectionResetError("the stream broke after 3 chunks"))
        span.set_status(Status(StatusCode.OK))


def run_counting_agent(tracer: Tracer) -> None:
    """Run an agent whose span repeats the model and its tokens, like some of OpenInference's instrumentations."""
    counts = {"llm.token_count.prompt": 30, "llm.token_count.completion": 4, "llm.token_count.total": 34}
    model = {"openinference.span.kind": "LLM", "llm.model_name": MODEL, **counts}
    agent = {"openinference.span.kind": "AGENT", "llm.model_name": MODEL, "input.value": QUESTION, **counts}
    with tracer.start_as_current_span("CodeAgent.run", attributes=agent) as span:
        with (
            tracer.start_as_current_span("Step 1", attributes={"openinference.span.kind": "CHAIN"}),
            tracer.start_as_current_span("Model.generate", attributes=model),
        ):
            pass
        span.set_status(Status(StatusCode.OK))
