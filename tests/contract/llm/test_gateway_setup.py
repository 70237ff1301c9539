"""Errors in the setup of the LangChain gateway that an operator must correct; each message names the settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.llm import LangChainGateway, LlmConfig, LlmError, LlmNotConfiguredError
from support.llm.words import GOOD, PROMPT, MakeGateway, Word


@pytest.mark.parametrize(
    ("status", "named"),
    [
        (401, "RELAB_LLM__API_KEY"),
        (403, "RELAB_LLM__API_KEY"),
        (404, "'m'.* RELAB_LLM__MODEL.* need /v1"),
        (400, "RELAB_LLM__TEMPERATURE"),
        (302, "a redirect.* RELAB_LLM__BASE_URL"),
        (307, "a redirect.* RELAB_LLM__BASE_URL"),
    ],
)
def test_rejected_call_is_a_configuration_error_and_not_retried(
    server: Any, make_gateway: MakeGateway, status: int, named: str
) -> None:
    server.will(server.raw(b"{}", status=status, headers={"Location": "http://127.0.0.1:1/"}))

    with pytest.raises(LlmNotConfiguredError, match=named):
        make_gateway(max_retries=3).complete(PROMPT, Word)

    assert len(server.requests) == 1


def test_model_that_a_proxy_does_not_have_is_named(server: Any, make_gateway: MakeGateway) -> None:
    # What LiteLLM 1.108.7 answered.
    said = "/chat/completions: Invalid model name passed in model=m. Call `/v1/models` to view available models for your key."
    error = {"message": said, "type": "invalid_request_error", "param": None, "code": "400"}
    server.will(server.raw(json.dumps({"error": error}).encode(), status=400))

    with pytest.raises(LlmNotConfiguredError, match=r"it does not have the model 'm'\. Set RELAB_LLM__MODEL"):
        make_gateway().complete(PROMPT, Word)


def test_rejection_names_the_key_too(server: Any, make_gateway: MakeGateway) -> None:
    # What LiteLLM 1.108.7 without a database answered to a wrong key.
    body = b'{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}'
    server.will(server.raw(body, status=400))

    with pytest.raises(LlmNotConfiguredError, match="Check RELAB_LLM__API_KEY"):
        make_gateway().complete(PROMPT, Word)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_rejection_names_the_other_methods_for_json(server: Any, status: int) -> None:
    # llama-cpp-python answers so to a JSON schema, other servers with 400 or 422.
    body = b"""{"error": {"message": "1 validation error: response_format: Input should be 'text' or 'json_object'",
        "type": "internal_server_error", "param": null, "code": null}}"""
    server.will(server.raw(body, status=status))
    gateway = LangChainGateway(LlmConfig(model="m", base_url=f"{server.url}/v1", max_retries=0))

    with pytest.raises(LlmError) as caught:
        gateway.complete(PROMPT, Word)

    assert "does not know json_schema" in str(caught.value)
    assert "RELAB_LLM__OUTPUT_METHOD to json_mode or function_calling" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "This model's maximum context length is 2048 tokens.", "code": "context_length_exceeded"}),
        (400, {"message": "Too long.", "type": "exceed_context_size_error", "n_ctx": 2048}),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum", "type": "invalid_request_error"}),
        (413, "The prompt exceeds the context window of the model."),
    ],
    ids=["OpenAI, llama-cpp-python", "llama-server", "Anthropic", "words"],
)
def test_prompt_beyond_the_context_of_the_model_is_named(
    server: Any, make_gateway: MakeGateway, status: int, error: Any
) -> None:
    server.will(server.raw(json.dumps({"error": error}).encode(), status=status))

    with pytest.raises(LlmNotConfiguredError) as caught:
        make_gateway(max_retries=3).complete(PROMPT, Word)

    assert "do not fit the context of the model 'm'" in str(caught.value)
    assert "RELAB_RCA__JUDGE_CONTEXT_TOKENS" in str(caught.value)
    assert len(server.requests) == 1


def test_a_local_server_gets_no_key_from_the_environment(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    server.will(server.say(GOOD))

    LangChainGateway(LlmConfig(model="m", base_url=f"{server.url}/v1")).complete(PROMPT, Word)

    assert "sk-of-somebody" not in json.dumps(server.requests[0].headers)


@pytest.mark.parametrize("name", ["LANGCHAIN_TRACING", "LANGCHAIN_HANDLER"])
def test_setting_of_the_removed_tracer_is_an_error_that_names_it(
    server: Any, make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "true")

    with pytest.raises(LlmNotConfiguredError, match=name):
        make_gateway().complete(PROMPT, Word)
