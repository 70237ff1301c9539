"""The bodies of OpenAI's two HTTP APIs, chat completions and responses: read requests, and make answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_VERSIONS = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4o": "gpt-4o-2024-08-06"}
_CREATED = 1_760_000_000


@dataclass(frozen=True)
class ToolRequest:
    """A tool call that a model asks for: the tool's name, its arguments and the id of the call."""

    name: str
    arguments: dict[str, Any]
    call_id: str


@dataclass(frozen=True)
class Tokens:
    """The numbers of tokens of one model call: of its input, of its output, and how many of the input were cached."""

    input: int
    output: int
    cached: int = 64


@dataclass(frozen=True)
class Answer:
    """One answer of a model: either `text`, or the tool call `asked`; the other one is None."""

    model: str
    text: str | None
    asked: ToolRequest | None
    tokens: Tokens

    @property
    def model_version(self) -> str:
        """The model's name with a version, as in the answers of real providers."""
        return _VERSIONS[self.model]


def offered_tools(request: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the JSON schemas of the parameters of all tools that a request offers, by the tool's name."""
    functions = [tool.get("function", tool) for tool in request.get("tools") or []]
    return {function["name"]: function.get("parameters") or {} for function in functions}


def refusal(code: str, message: str) -> dict[str, Any]:
    """Return the body of an HTTP error with this code and message."""
    return {"error": {"message": message, "type": "requests", "param": None, "code": code}}


# Chat completions


def completion(answer: Answer, number: int) -> dict[str, Any]:
    """Return the body of a chat completion; `number` is the number of the call, from which its id is made."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.asked is not None:
        function = {"name": answer.asked.name, "arguments": json.dumps(answer.asked.arguments)}
        message["tool_calls"] = [{"id": answer.asked.call_id, "type": "function", "function": function}]
    return {
        "id": f"chatcmpl-{number:04d}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": answer.model_version,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if answer.asked else "stop"}],
        "usage": {
            "prompt_tokens": answer.tokens.input,
            "completion_tokens": answer.tokens.output,
            "total_tokens": answer.tokens.input + answer.tokens.output,
            "prompt_tokens_details": {"cached_tokens": answer.tokens.cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def completion_events(body: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """Return a chat completion (`body`) as server-sent events, with the usage if the request asks for that."""
    (choice,) = body["choices"]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
    head = {key: body[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    chunks: list[dict[str, Any]] = [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        head | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
    ]
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append(head | {"choices": [], "usage": body["usage"]})
    return [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]


# Responses


def response(answer: Answer, number: int, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a response (OpenAI's second API).

    Args:
        answer: the model's answer.
        number: the number of the call, from which the ids are made.
        request: the body of the request, whose instructions and tools are repeated.
    """
    if answer.asked is not None:
        item: dict[str, Any] = {
            "type": "function_call",
            "id": f"fc_{number:04d}",
            "call_id": answer.asked.call_id,
            "name": answer.asked.name,
            "arguments": json.dumps(answer.asked.arguments),
            "status": "completed",
        }
    else:
        content = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        item = {
            "type": "message",
            "id": f"msg_{number:04d}",
            "role": "assistant",
            "status": "completed",
            "content": [content],
        }
    return {
        "id": f"resp_{number:04d}",
        "object": "response",
        "created_at": _CREATED,
        "status": "completed",
        "model": answer.model_version,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "metadata": {},
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": answer.tokens.input,
            "output_tokens": answer.tokens.output,
            "total_tokens": answer.tokens.input + answer.tokens.output,
            "input_tokens_details": {"cached_tokens": answer.tokens.cached},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def response_events(body: Mapping[str, Any]) -> list[str]:
    """Return a response (`body`, as `response` returns it) as server-sent events."""
    return [
        f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"
        for number, event in enumerate(_response_events(body))
    ]


def _response_events(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    (item,) = body["output"]
    yield {"type": "response.created", "response": {**body, "output": [], "status": "in_progress", "usage": None}}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": body}
