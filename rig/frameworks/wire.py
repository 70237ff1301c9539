"""The bodies of OpenAI's two HTTP APIs, chat completions and responses: read requests, and make answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_VERSIONS = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4o": "gpt-4o-2024-08-06"}
_CREATED = 1_760_000_000
_PIECE_CHARS = 16


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
    """One answer of a model: either `text`, or the tool calls `asked`; the text is None if there are calls.

    `finish` is the finish reason; None for that of a complete answer.
    """

    model: str
    text: str | None
    asked: Sequence[ToolRequest]
    tokens: Tokens
    finish: str | None = None

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
    if answer.asked:
        message["tool_calls"] = [
            {
                "id": asked.call_id,
                "type": "function",
                "function": {"name": asked.name, "arguments": json.dumps(asked.arguments)},
            }
            for asked in answer.asked
        ]
    return {
        "id": f"chatcmpl-{number:04d}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": answer.model_version,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": answer.finish or ("tool_calls" if answer.asked else "stop"),
            }
        ],
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
    head = {key: body[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    deltas = [{"role": "assistant", "content": None}, *_deltas(choice["message"]), {}]
    chunks: list[dict[str, Any]] = [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else choice["finish_reason"]}]}
        for delta in deltas
    ]
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append(head | {"choices": [], "usage": body["usage"]})
    return [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message in pieces: its text, then the name and the arguments of each tool call."""
    yield from ({"content": piece} for piece in _pieces(message["content"] or ""))
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        yield {"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}
        for piece in _pieces(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS))


# Responses


def response(answer: Answer, number: int, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a response (OpenAI's second API).

    Args:
        answer: the model's answer.
        number: the number of the call, from which the ids are made.
        request: the body of the request, whose instructions and tools are repeated.
    """
    items: list[dict[str, Any]] = [
        {
            "type": "function_call",
            "id": f"fc_{number:04d}{place or ''}",
            "call_id": asked.call_id,
            "name": asked.name,
            "arguments": json.dumps(asked.arguments),
            "status": "completed",
        }
        for place, asked in enumerate(answer.asked)
    ]
    if not items:
        content = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        message = {"type": "message", "role": "assistant", "status": "completed", "content": [content]}
        items.append({"id": f"msg_{number:04d}", **message})
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
        "output": items,
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
    yield {"type": "response.created", "response": {**body, "output": [], "status": "in_progress", "usage": None}}
    for place, item in enumerate(body["output"]):
        yield from _item_events(place, item)
    yield {"type": "response.completed", "response": body}


def _item_events(place: int, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    at: dict[str, Any] = {"output_index": place, "item_id": item["id"]}
    if item["type"] == "function_call":
        yield {"type": "response.output_item.added", "output_index": place, "item": {**item, "arguments": ""}}
        for piece in _pieces(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", "delta": piece, **at}
        yield {"type": "response.function_call_arguments.done", "arguments": item["arguments"], **at}
    else:
        (part,) = item["content"]
        at["content_index"] = 0
        yield {"type": "response.output_item.added", "output_index": place, "item": {**item, "content": []}}
        yield {"type": "response.content_part.added", "part": {**part, "text": ""}, **at}
        for piece in _pieces(part["text"]):
            yield {"type": "response.output_text.delta", "delta": piece, "logprobs": [], **at}
        yield {"type": "response.output_text.done", "text": part["text"], "logprobs": [], **at}
        yield {"type": "response.content_part.done", "part": part, **at}
    yield {"type": "response.output_item.done", "output_index": place, "item": item}
