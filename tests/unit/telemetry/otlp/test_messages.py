"""The input and output of a step, from messages in the form of each dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.otlp.messages import Message, read_messages
from unit.telemetry.otlp.builders import AGENT, CHAT, is_plain, run_of, span, step_of

OI_LLM = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-x"}
LLMETRY = {"llm.request.type": "chat", "gen_ai.request.model": "gpt-x", "gen_ai.system": "openai"}

PARTS_IN = [
    {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
    {"role": "user", "parts": [{"type": "text", "content": "Where is"}, {"type": "text", "content": "order 5?"}]},
]
PARTS_OUT = [
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "Let me look."},
            {"type": "tool_call", "id": "call-7", "name": "order_lookup", "arguments": {"order": 5}},
        ],
        "finish_reason": "tool_call",
    }
]
TOOL_ANSWER = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-7", "response": "shipped"}]}]
IN, OUT = "Where is\norder 5?", 'Let me look.\norder_lookup({"order":5})'

MESSAGES: dict[str, tuple[dict[str, Any], tuple[str | None, str | None]]] = {
    "parts as JSON text": (
        CHAT | {"gen_ai.input.messages": json.dumps(PARTS_IN), "gen_ai.output.messages": json.dumps(PARTS_OUT)},
        (IN, OUT),
    ),
    "parts as values": (CHAT | {"gen_ai.input.messages": PARTS_IN, "gen_ai.output.messages": PARTS_OUT}, (IN, OUT)),
    "the answer of a tool": (CHAT | {"gen_ai.input.messages": PARTS_IN + TOOL_ANSWER}, ("shipped", None)),
    "a tool call whose arguments are text": (
        CHAT | {"gen_ai.output.messages": [{"parts": [{"type": "tool_call", "name": "f", "arguments": '{"a": 1}'}]}]},
        (None, 'f({"a":1})'),
    ),
    "a tool call without arguments": (
        CHAT | {"gen_ai.output.messages": [{"parts": [{"type": "tool_call", "id": "x", "name": "f"}]}]},
        (None, "f()"),
    ),
    "a request of OpenAI's format as content, as Langtrace writes it": (
        CHAT | {
            "gen_ai.output.messages": [{
                "role": "assistant",
                "content": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            }]
        },
        (None, 'f({"a":1})'),
    ),
    "messages without parts": (
        CHAT | {"gen_ai.input.messages": '[{"role": "user", "content": "hi"}]'},
        ("hi", None),
    ),
    "a list of texts": (CHAT | {"gen_ai.input.messages": ["one", "two"], "gen_ai.output.messages": ["a", "b"]},
                        ("two", "a\nb")),
    "plain texts": (CHAT | {"gen_ai.input.messages": "hi", "gen_ai.output.messages": "hello"}, ("hi", "hello")),
    "a text that looks like JSON and is none": (CHAT | {"gen_ai.input.messages": "[hi"}, ("[hi", None)),
    "no message at all": (CHAT | {"gen_ai.input.messages": [], "gen_ai.output.messages": "[]"}, (None, None)),
    "a message without content": (
        CHAT | {"gen_ai.input.messages": [{"role": "user"}]},
        ('{"role":"user"}', None),
    ),
    "a part of a kind of a later version": (
        CHAT | {"gen_ai.input.messages": [{"parts": [{"type": "hologram", "mime": "x"}]}]},
        ('{"type":"hologram","mime":"x"}', None),
    ),
    "an image of pydantic-ai beside a text": (
        CHAT | {"gen_ai.input.messages": [{"role": "user", "parts": [
            {"type": "text", "content": "What is this?"},
            {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "eHh4"},
        ]}]},
        ("What is this?\n[image]", None),
    ),
    "an image and a sound of chat completions": (
        CHAT | {"gen_ai.input.messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,eHh4"}},
            {"type": "input_audio", "input_audio": {"data": "eHh4"}},
        ]}]},
        ("[image]\n[audio]", None),
    ),
    "a video of Gemini and a file of unknown type": (
        CHAT | {"gen_ai.input.messages": [{"role": "user", "parts": [
            {"inline_data": {"mime_type": "video/mp4", "data": "eHh4"}}, {"type": "file", "file_id": "f-1"},
        ]}]},
        ("[video]\n[file]", None),
    ),
    "an answer without parts": (
        CHAT | {"gen_ai.output.messages": [{"role": "assistant", "parts": [], "finish_reason": "stop"}]},
        (None, None),
    ),
    "parts that are none": (
        CHAT | {"gen_ai.input.messages": [{"parts": "x", "content": "c"}], "gen_ai.output.messages": [5, None, []]},
        ("c", "5\n[]"),
    ),
    "OpenInference, flattened": (
        OI_LLM
        | {
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "be kind",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.content": "hi",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "hello",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
            "input.value": "all of it",
        },
        ("hi", 'hello\nf({"a":1})'),
    ),
    "OpenInference, the last of more than ten": (
        OI_LLM | {f"llm.input_messages.{n}.message.content": f"message {n}" for n in range(12)},
        ("message 11", None),
    ),
    "OpenInference, contents of several kinds": (
        OI_LLM
        | {
            "llm.input_messages.0.message.contents.0.message_content.type": "text",
            "llm.input_messages.0.message.contents.0.message_content.text": "look at",
            "llm.input_messages.0.message.contents.1.message_content.type": "image",
            "llm.input_messages.0.message.contents.2.message_content.text": "this",
        },
        ("look at\nthis", None),
    ),
    "OpenInference, input and output as values": (
        OI_LLM | {"input.value": '{"messages": []}', "output.value": "hello"},
        ('{"messages": []}', "hello"),
    ),
    "OpenLLMetry, flattened": (
        LLMETRY
        | {
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be kind",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "hi",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "hello",
        },
        ("hi", "hello"),
    ),
    "OpenLLMetry, entities": (
        {"traceloop.span.kind": "task", "traceloop.entity.input": "hi", "traceloop.entity.output": "hello"},
        ("hi", "hello"),
    ),
    "a chain's input and output": (
        {"openinference.span.kind": "CHAIN", "input.value": "hi", "output.value": {"answer": 42}},
        ("hi", '{"answer":42}'),
    ),
    "nothing captured": (CHAT, (None, None)),
    "indices that are none": (
        LLMETRY | {"gen_ai.prompt.x.content": "a", "gen_ai.prompt.-1.content": "b", "gen_ai.prompt.²": "c",
                   "gen_ai.prompt.99999999999.content": "d", "gen_ai.prompt.": "e"},
        (None, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("attributes", "texts"), MESSAGES.values(), ids=MESSAGES)
def test_step_shows_the_last_input_message_and_all_output_messages(
    attributes: dict[str, Any], texts: tuple[str | None, str | None]
) -> None:
    step = step_of(attributes)
    assert (step.input_summary, step.output_summary) == texts


def test_flattened_messages_without_a_role_are_read() -> None:
    step = step_of(
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.content": "hi",
            "llm.output_messages.0.message.content": "hello",
        }
    )
    assert step.input_summary == "hi"
    assert step.output_summary == "hello"


def test_input_and_output_may_be_in_different_dialects() -> None:
    step = step_of(
        CHAT
        | {
            "gen_ai.output.messages": "hello",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "hi",
        }
    )
    assert step.input_summary == "hi"
    assert step.output_summary == "hello"


def test_the_contents_of_a_flattened_message_are_in_the_order_of_their_numbers() -> None:
    prefix = "llm.input_messages.0.message.contents"
    step = step_of(OI_LLM | {f"{prefix}.{n}.message_content.text": str(n) for n in (10, 9, 1, 0)})
    assert step.input_summary == "0\n1\n9\n10"


def test_long_messages_are_cut() -> None:
    step = step_of(CHAT | {"gen_ai.input.messages": "i" * 9_000, "gen_ai.output.messages": "o" * 50_000})
    assert step.input_summary == "i" * 4_000
    assert step.output_summary == "o" * 16_000


@pytest.mark.parametrize(
    "attributes",
    [
        CHAT | {"gen_ai.input.messages": '[{"role": "user", "content": "a\\u0000b"}]'},
        CHAT | {"gen_ai.output.messages": '[{"parts": [{"type": "text", "content": "a\\u0000b"}]}]'},
        {"gen_ai.tool.name": "t", "gen_ai.tool.call.result": '{"type": "tool", "content": "a\\u0000b"}'},
    ],
)
def test_escaped_nul_in_json_does_not_reach_the_run(attributes: dict[str, Any]) -> None:
    run = run_of(span("root", None, AGENT), span("it", "root", attributes))
    assert is_plain(run.model_dump(mode="json"))


@pytest.mark.parametrize(
    "message",
    [
        {"type": {"name": "human"}, "content": "hi"},
        {"type": ["human"], "content": "hi"},
        {"kind": ["request"], "content": "hi"},
    ],
)
def test_message_whose_type_is_not_a_text_is_read_without_a_role(message: dict[str, Any]) -> None:
    assert read_messages([message]) == [Message("", "hi")]


def test_definitions_of_tools_in_messages_are_no_requests() -> None:
    definition = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    messages = [{"role": "system", "content": [definition]}, definition, {"type": "function", "name": "f"}]
    run = run_of(
        span("it", None, AGENT, end=9), span("m", "it", CHAT | {"gen_ai.input.messages": messages}, start=1, end=2)
    )

    assert run.tool_calls == []
