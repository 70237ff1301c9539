"""Secrecy of the gateway: keys and prompts are in no exception and no log, and nothing is traced."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from pydantic import SecretStr

from relab.llm import LlmError
from support.llm.words import GOOD, PROMPT, MakeGateway, Word

KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_the_key_is_in_no_exception_and_no_log(
    server: Any,
    make_gateway: MakeGateway,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"bad key {KEY}", "type": KEY, "code": KEY}}).encode()
    server.will(server.raw(echo, status=status, headers={"X-Request-Id": "req-1"}))

    gateway = make_gateway(api_key=SecretStr(KEY))
    with pytest.raises(LlmError) as caught:
        gateway.complete(PROMPT, Word)

    seen = [caplog.text, *capfd.readouterr(), repr(gateway.__dict__)]
    error: BaseException | None = caught.value
    while error is not None:
        seen += [str(error), repr(error), repr(error.__dict__)]
        error = error.__cause__ or error.__context__
    assert "llm_call" in seen[1]
    assert not [text for text in seen if KEY in text]
    assert not [text for text in seen[1:] if PROMPT.user in text]


def test_nothing_is_traced_even_when_the_environment_asks_for_it(
    server: Any, make_gateway: MakeGateway, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langchain_core.tracers.langchain import LangChainTracer
    from langsmith import utils as langsmith_utils

    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    for name in ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT", "LANGSMITH_GATEWAY"):
        monkeypatch.setenv(name, f"{server.url}/traces")
    monkeypatch.setenv("LANGSMITH_API_KEY", "ls-key")
    langsmith_utils.get_env_var.cache_clear()
    tracers: list[object] = []
    monkeypatch.setattr(LangChainTracer, "__init__", lambda self, **_: tracers.append(self))
    server.will(server.say(GOOD))
    try:
        # This checks the setup of the test: LangChain itself would trace now.
        assert langsmith_utils.tracing_is_enabled()

        make_gateway().complete(PROMPT, Word)
    finally:
        langsmith_utils.get_env_var.cache_clear()

    assert not tracers
    expected = "/v1/messages" if provider == "anthropic" else "/v1/chat/completions"
    assert [request.path for request in server.requests] == [expected]


def test_callbacks_of_the_caller_do_not_see_the_model_call(server: Any, make_gateway: MakeGateway) -> None:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import RunnableLambda

    class Spy(BaseCallbackHandler):
        def __init__(self) -> None:
            self.models = 0

        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            self.models += 1

    spy = Spy()
    server.will(server.say(GOOD))
    gateway = make_gateway()

    RunnableLambda(lambda _: gateway.complete(PROMPT, Word)).invoke(None, config={"callbacks": [spy]})

    assert spy.models == 0
