"""A loop without a framework: only model calls are spans, so that only messages contain tool calls and their errors."""

from __future__ import annotations

import json
from typing import Any

import loop
import openai
import shop
import tracing
from opentelemetry.trace import SpanKind

client = openai.OpenAI(max_retries=0)
tracer = tracing.provider.get_tracer("shop.loop", "1.4.0")
Message = dict[str, Any]

LOOKING_UP = {"order_lookup": shop.order_lookup, "stock_level": shop.stock_level}


def ask_billing_desk(task: str) -> str:
    return answer("billing_desk", task, {"refund": shop.refund})


def answer(agent: str, question: str, tools: loop.Tools) -> str:
    return loop.answer(client, agent, question, tools, chat)


def chat(client: openai.OpenAI, agent: str, messages: list[Message], tools: loop.Tools) -> Any:
    model = shop.MODELS[agent]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": shop.SESSION_ID,
        "user.id": shop.USER_ID,
        "gen_ai.input.messages": json.dumps([parts_of(message) for message in messages]),
    }
    with tracer.start_as_current_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        try:
            done = loop.create(client, agent, messages, tools)
        except openai.APIError as error:
            span.set_attribute("error.type", type(error).__name__)
            raise
        (choice,) = done.choices
        said = parts_of(choice.message.to_dict()) | {"finish_reason": choice.finish_reason}
        span.set_attributes(
            {
                "gen_ai.response.model": done.model,
                "gen_ai.response.id": done.id,
                "gen_ai.response.finish_reasons": [choice.finish_reason],
                "gen_ai.usage.input_tokens": done.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": done.usage.completion_tokens,
                "gen_ai.output.messages": json.dumps([said]),
            }
        )
        return done


def parts_of(message: Message) -> Message:
    """Return a message of OpenAI's API in the form of OpenTelemetry's semantic conventions: `{role, parts}`."""
    if message["role"] == "tool":
        part = {"type": "tool_call_response", "id": message["tool_call_id"], "response": message["content"]}
        return {"role": "tool", "parts": [part]}
    parts: list[Message] = [{"type": "text", "content": message["content"]}] if message.get("content") else []
    for call in message.get("tool_calls") or []:
        function = call["function"]
        arguments = json.loads(function["arguments"])
        parts.append({"type": "tool_call", "id": call["id"], "name": function["name"], "arguments": arguments})
    return {"role": message["role"], "parts": parts}


def main() -> Any:
    with tracer.start_as_current_span("POST /ask", kind=SpanKind.SERVER):
        if shop.CASE == "hand_over":
            return answer("front_desk", shop.question(), {"ask_billing_desk": ask_billing_desk})
        if shop.CASE == "two_agents":
            return {agent: answer(agent, asked, LOOKING_UP) for agent, asked in shop.QUESTIONS.items()}
        return answer("order_desk", shop.question(), LOOKING_UP)


shop.run(main, tracing.flush)
