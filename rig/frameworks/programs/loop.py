"""An agent's loop written by hand around OpenAI's client, for programs that have no framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import shop
from openai.lib.streaming.chat import ChatCompletionStreamState

Tools = Mapping[str, Callable[..., str]]

_TYPES = {
    "order_lookup": {"order_id": "string", "customer_id": "string"},
    "stock_level": {"sku": "string"},
    "refund": {"order_id": "string", "amount_eur": "number"},
    "ask_billing_desk": {"task": "string"},
}


class StepLimitError(Exception):
    """The model asked for a tool even in the last call that the limit allows."""


def schema(tool: str) -> dict[str, Any]:
    """Return the description of the tool with this name, as a request to the model contains it."""
    properties = {name: {"type": kind} for name, kind in _TYPES[tool].items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": tool, "description": f"The tool {tool}.", "parameters": parameters},
    }


def create(client: Any, agent: str, messages: list[dict[str, Any]], tools: Tools) -> Any:
    """Call an agent's model with the messages and tools; return the chat completion of OpenAI's client."""
    described = [schema(tool) for tool in tools]
    request = {"model": shop.MODELS[agent], "messages": messages, "tools": described}
    if shop.CASE != "streamed":
        return client.chat.completions.create(**request)
    chunks = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    return whole(chunks)


def whole(chunks: Any) -> Any:
    """Return the completion of a stream, as OpenAI's client makes it of the chunks."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    return state.get_final_completion()


def answer(client: Any, agent: str, question: str, tools: Tools, call_model: Callable[..., Any] = create) -> str:
    """Ask an agent a question and return its answer; `call_model` replaces `create`.

    Raises:
        StepLimitError: the model gave no answer within the limit of calls.
    """
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": shop.INSTRUCTIONS},
        {"role": "user", "content": question},
    ]
    for _ in range(shop.STEP_LIMIT):
        said = call_model(client, agent, messages, tools).choices[0].message
        if not said.tool_calls:
            return str(said.content)
        calls = [call.to_dict() for call in said.tool_calls]
        messages.append({"role": "assistant", "content": said.content, "tool_calls": calls})
        for call in said.tool_calls:
            result = _called(tools[call.function.name], json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    raise StepLimitError(f"no answer after {shop.STEP_LIMIT} steps")


def _called(tool: Callable[..., str], arguments: dict[str, Any]) -> str:
    try:
        return tool(**arguments)
    except Exception as error:
        if shop.CASE == "raised_error":
            raise
        return f"Error: {type(error).__name__}: {error}"
