"""Servers that speak OpenAI's protocol with their own habits: their answers are read, and their errors are named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.llm import Budget, LangChainGateway, LlmConfig, LlmInvalidOutputError, LlmUnavailableError, OutputMethod
from support.llm.words import GOOD, PROMPT, Word

LATER = "Thu, 26 Nov 2026 21:00:30 GMT"
NOW = "Thu, 26 Nov 2026 21:00:00 GMT"


def gateway(server: Any, *, budget: Budget | None = None, **options: Any) -> LangChainGateway:
    """Return a gateway to `server` that does not retry."""
    fields = {"model": "m", "base_url": f"{server.url}/v1", "max_retries": 0, "retry_backoff_s": 0.01, **options}
    return LangChainGateway(LlmConfig(**fields), budget=budget)


def completion(message: dict[str, Any], *, finish: str = "stop", **fields: Any) -> bytes:
    """Return the body of a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], **fields}
    ).encode()


# What Qwen2.5-Coder 1.5B on llama-cpp-python 0.3.36 answered, with the field of this test in its JSON.
FENCED = (
    b'{"id":"chatcmpl-2a869fb0-2342-4054-85c9-667729f25cd6","object":"chat.completion","created":1795726403,'
    b'"model":"qwen","choices":[{"index":0,"message":{"content":"```json\\n{\\n  \\"word\\": \\"yes\\"\\n}\\n```",'
    b'"role":"assistant"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":39,"completion_tokens":16,'
    b'"total_tokens":55}}'
)


@pytest.mark.parametrize(
    "body",
    [
        FENCED,
        completion({"content": f"<think>\nYes or no?\n</think>\n\n{GOOD}"}),
        completion({"content": GOOD, "reasoning_content": 'Perhaps {"word": "no"}.'}),
        completion({"content": GOOD, "reasoning": 'Perhaps {"word": "no"}.', "tool_calls": [], "refusal": None}),
        completion({"content": [{"type": "text", "text": GOOD}]}),
        completion(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": 'Perhaps {"word": "no"}.'}]},
                    {"type": "text", "text": GOOD},
                ]
            }
        ),
        completion({"content": [{"type": "reasoning", "text": '{"word": "no"}'}, {"type": "text", "text": GOOD}]}),
        completion({"content": GOOD}, finish="eos", system_fingerprint=None, timings={"prompt_ms": 1.5}),
    ],
    ids=[
        "fence", "tags", "reasoning_content", "reasoning", "list of parts", "parts with thinking", "part of reasoning", "unknown fields",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [OutputMethod.JSON_SCHEMA, OutputMethod.FUNCTION_CALLING])
def test_answer_beside_its_reasoning_is_read(server: Any, body: bytes, method: OutputMethod) -> None:
    # A server that ignores `response_format` or `tools` answers so.
    server.will(server.raw(body))

    assert gateway(server, output_method=method).complete(PROMPT, Word) == Word(word="yes")


@pytest.mark.parametrize(
    "usage",
    [{}, {"usage": None}, {"usage": {}}, {"usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}}],
    ids=["absent", "null", "empty", "nulls"],
)  # fmt: skip
def test_call_without_token_counts_keeps_its_reservation(server: Any, usage: dict[str, Any]) -> None:
    server.will(server.raw(completion({"content": GOOD}, **usage)))
    budget = Budget()

    assert gateway(server, budget=budget).complete(PROMPT, Word) == Word(word="yes")

    assert budget.spent().completion_tokens == 1_024


def test_reasoning_without_an_answer_names_the_token_limit(server: Any) -> None:
    server.will(server.raw(completion({"content": "", "reasoning_content": GOOD})))

    with pytest.raises(LlmInvalidOutputError, match=r"is empty\. .* raise RELAB_LLM__MAX_COMPLETION_TOKENS"):
        gateway(server).complete(PROMPT, Word)


@pytest.mark.parametrize(
    ("method", "others"),
    [("json_schema", "json_mode or function_calling"), ("json_mode", "json_schema or function_calling")],
)
def test_prose_names_the_other_methods_for_json(server: Any, method: str, others: str) -> None:
    server.will(server.say("The word is yes."))

    with pytest.raises(
        LlmInvalidOutputError, match=f"does not know {method}, set RELAB_LLM__OUTPUT_METHOD to {others}"
    ):
        gateway(server, output_method=method).complete(PROMPT, Word)


def test_function_calls_that_differ_are_ambiguous(server: Any) -> None:
    def calls(*words: str) -> bytes:
        made = [
            {"id": f"c{n}", "type": "function", "function": {"name": "Word", "arguments": json.dumps({"word": word})}}
            for n, word in enumerate(words)
        ]
        return completion({"content": None, "tool_calls": made}, finish="tool_calls")

    asked = gateway(server, output_method=OutputMethod.FUNCTION_CALLING)
    server.will(server.raw(calls("yes", "yes")))
    assert asked.complete(PROMPT, Word) == Word(word="yes")

    server.will(server.raw(calls("yes", "no")))
    with pytest.raises(LlmInvalidOutputError, match="several function calls that differ"):
        asked.complete(PROMPT, Word)


@pytest.mark.parametrize(
    ("content_type", "body", "named"),
    [
        ("text/html; charset=utf-8", b"<!DOCTYPE html><html></html>", "an HTML page.* RELAB_LLM__BASE_URL"),
        ("text/event-stream", b'data: {"choices": []}\n\ndata: [DONE]\n\n', "with a stream.* reads only complete answers"),
    ],
)  # fmt: skip
def test_body_of_another_kind_is_named_and_not_retried(server: Any, content_type: str, body: bytes, named: str) -> None:
    server.will(server.raw(body, headers={"Content-Type": content_type}))

    with pytest.raises(LlmInvalidOutputError, match=named):
        gateway(server, max_retries=3).complete(PROMPT, Word)

    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503, 529])
def test_error_page_of_a_proxy_is_unavailable(server: Any, status: int) -> None:
    page = b"<html><body><h1>Overloaded</h1></body></html>"
    server.will(server.raw(page, status=status, headers={"Content-Type": "text/html"}))

    with pytest.raises(LlmUnavailableError, match=f"HTTP {status}"):
        gateway(server).complete(PROMPT, Word)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "30"}, 30.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": LATER, "Date": NOW}, 30.0),
        ({"Retry-After": NOW, "Date": LATER}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Thu, 99 Nov 2026 21:00:30 GMT"}, None),
        ({"Retry-After": "Thu, 26 Nov 2026 21:00:30 +" + "9" * 30}, None),
        ({}, None),
    ],
)
def test_requested_wait_is_read_as_seconds_or_as_a_date(
    server: Any, headers: dict[str, str], wait_s: float | None
) -> None:
    server.will(server.raw(b"{}", status=429, headers=headers))

    with pytest.raises(LlmUnavailableError) as caught:
        gateway(server).complete(PROMPT, Word)

    assert caught.value.retry_after_s == wait_s
    assert ("asks for a wait of" in str(caught.value)) is (wait_s is not None)
    assert "Repeat it later." in str(caught.value)
