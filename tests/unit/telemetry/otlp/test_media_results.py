"""Images and other media in the results of tools: a word stands in their place, because their data is no text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, call_of, run_of, span

DATA = "iVBORw0KGgo" + "A" * 800
URL = f"data:image/png;base64,{DATA}"

MEDIA: dict[str, tuple[object, str]] = {
    "pydantic-ai": ({"data": DATA, "media_type": "image/png", "kind": "binary"}, "[image]"),
    "pydantic-ai, beside a text": (
        ["the photo", {"data": DATA, "media_type": "image/png", "kind": "binary"}],
        "the photo\n[image]",
    ),
    "LangChain, beside a text": (
        [{"type": "text", "text": "the photo"}, {"type": "image", "base64": DATA, "mime_type": "image/png"}],
        "the photo\n[image]",
    ),
    "OpenAI's responses": ([{"type": "input_image", "image_url": URL}], "[image]"),
    "MCP": ([{"type": "audio", "data": DATA, "mimeType": "audio/wav"}], "[audio]"),
    "Anthropic": ([{"type": "image", "source": {"type": "base64", "data": DATA}}], "[image]"),
    "OpenAI Agents SDK, as Python prints it": (f"type='image' image_url='{URL}' file_id=None detail=None", "[image]"),
}


@pytest.mark.parametrize(("result", "shown"), MEDIA.values(), ids=MEDIA)
@pytest.mark.parametrize("as_text", [False, True])
def test_medium_in_a_result_is_named(result: Any, shown: str, as_text: bool) -> None:
    given = json.dumps(result) if as_text and not isinstance(result, str) else result

    assert call_of(TOOL | {"gen_ai.tool.call.result": given}).result_summary == shown


@pytest.mark.parametrize(("result", "shown"), MEDIA.values(), ids=MEDIA)
def test_medium_in_a_message_with_a_result_is_named(result: Any, shown: str) -> None:
    request = {"type": "tool_call", "id": "c1", "name": "photo", "arguments": {}}
    response = {"type": "tool_call_response", "id": "c1", "response": result}
    messages = [{"role": "assistant", "parts": [request]}, {"role": "tool", "parts": [response]}]
    chat = CHAT | {"gen_ai.input.messages": json.dumps(messages)}

    [call] = run_of(span("root", None, AGENT, end=9), span("chat", "root", chat, start=1)).tool_calls

    assert call.result_summary == shown


@pytest.mark.parametrize(
    "result",
    [
        '{"type":"image","url":"https://shop.example/photo.png"}',
        '[{"type":"image","data":"no data"}]',
        '{"data":"' + DATA + '","kind":"order"}',
        '{"data": [1, 2, 3]}',
        "data, base64",
        '{"data": ',
    ],
)
def test_result_without_the_data_of_a_medium_is_shown_as_it_is(result: str) -> None:
    assert call_of(TOOL | {"gen_ai.tool.call.result": result}).result_summary == result
