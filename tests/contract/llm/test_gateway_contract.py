"""The contract of all LLM gateways, real and scripted: schema values, errors, budgets and costs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from relab.llm import (
    PROVIDERS,
    Budget,
    BudgetLimits,
    LangChainGateway,
    LlmBudgetExceededError,
    LlmConfig,
    LlmDisabledError,
    LlmError,
    LlmGateway,
    LlmInvalidOutputError,
    LlmRefusedError,
    LlmUnavailableError,
    MeteredGateway,
    NullGateway,
    OutputMethod,
    Prompt,
    ScriptedGateway,
    Spent,
)


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    ids: tuple[str, ...]


class Answer(BaseModel):
    """The schema of the answers in these tests."""

    model_config = ConfigDict(extra="forbid")

    parts: tuple[Part, ...]


PROMPT = Prompt(system="You answer.", user="What is it?")
GOOD: dict[str, Any] = {"parts": [{"text": "naïve \u2603", "ids": ["a", "b"]}]}


class Backend(Protocol):
    """A gateway of one kind whose next answers the test sets."""

    def says(self, text: str) -> None: ...
    def refuses(self) -> None: ...
    def fails(self) -> None: ...
    def gateway(self, budget: Budget | None = None) -> LlmGateway: ...
    def asked(self) -> list[str]: ...


class ScriptedBackend:
    """The scripted gateway that other tests use."""

    def __init__(self) -> None:
        self._replies: list[str | Exception] = []
        self._gateway: ScriptedGateway | None = None

    def says(self, text: str) -> None:
        self._replies = [text] * 3

    def refuses(self) -> None:
        self._replies = [LlmRefusedError("no")]

    def fails(self) -> None:
        self._replies = [LlmUnavailableError("no", status=500)]

    def gateway(self, budget: Budget | None = None) -> LlmGateway:
        self._gateway = ScriptedGateway(self._replies, budget=budget)
        return self._gateway

    def asked(self) -> list[str]:
        assert self._gateway is not None
        return [prompt.system + prompt.user for prompt in self._gateway.prompts]


class MeteredBackend(ScriptedBackend):
    """The scripted gateway inside a gateway that adds up the cost."""

    def gateway(self, budget: Budget | None = None) -> LlmGateway:
        return MeteredGateway(super().gateway(budget))


@dataclass
class LoopbackBackend:
    """The real gateway with the model server of `conftest.py`."""

    server: Any
    provider: str
    method: OutputMethod

    def says(self, text: str) -> None:
        self.server.will(self.server.say(text))

    def refuses(self) -> None:
        anthropic = self.provider == "anthropic"
        self.server.will(self.server.say("I can't.", finish="refusal" if anthropic else "content_filter"))

    def fails(self) -> None:
        self.server.will(self.server.raw(b'{"error": {"message": "down"}}', status=500))

    def gateway(self, budget: Budget | None = None) -> LlmGateway:
        path = "" if self.provider == "anthropic" else "/v1"
        config = LlmConfig(
            provider=self.provider,
            model="m",
            api_key=SecretStr("sk-contract"),
            base_url=self.server.url + path,
            output_method=self.method,
            max_retries=0,
        )
        return LangChainGateway(config, budget=budget)

    def asked(self) -> list[str]:
        return [json.dumps(request.body, ensure_ascii=False) for request in self.server.requests]


@pytest.fixture(
    params=[
        "scripted",
        "metered",
        *((name, method) for name, provider in PROVIDERS.items() for method in provider.methods),
    ],
    ids=lambda param: param if isinstance(param, str) else "-".join(param),
)
def backend(request: pytest.FixtureRequest) -> Backend:
    if isinstance(request.param, str):
        return ScriptedBackend() if request.param == "scripted" else MeteredBackend()
    provider, method = request.param
    return LoopbackBackend(request.getfixturevalue("server"), provider, method)


def test_complete_returns_a_value_of_the_schema(backend: Backend) -> None:
    backend.says(json.dumps(GOOD))

    answer = backend.gateway().complete(PROMPT, Answer)

    assert answer == Answer.model_validate(GOOD)


def test_system_and_user_prompt_are_sent_once(backend: Backend) -> None:
    backend.says(json.dumps(GOOD))

    backend.gateway().complete(PROMPT, Answer)

    (asked,) = backend.asked()
    assert PROMPT.system in asked
    assert PROMPT.user in asked


def test_gateway_can_be_called_repeatedly(backend: Backend) -> None:
    backend.says(json.dumps(GOOD))
    gateway = backend.gateway()

    assert [gateway.complete(PROMPT, Answer) for _ in range(3)] == [Answer.model_validate(GOOD)] * 3
    assert len(backend.asked()) == 3


@pytest.mark.parametrize(
    "text",
    [
        "I think it is a schema problem.",
        "",
        '{"parts": [{"text": "a", "ids": ["b"]',
        "[]",
        "null",
        '{"claims": []}',
        '{"parts": [{"text": "a"}]}',
        '{"parts": [{"text": 7, "ids": []}]}',
        '{"parts": [], "category": "timeout"}',
        '{"parts": ' + "[" * 300 + "]" * 300 + "}",
    ],
    ids=["prose", "empty", "truncated", "list", "null", "other schema", "missing", "type", "extra", "deep"],
)
def test_answer_outside_the_schema_raises_invalid_output(backend: Backend, text: str) -> None:
    backend.says(text)

    with pytest.raises(LlmInvalidOutputError):
        backend.gateway().complete(PROMPT, Answer)


def test_raises_refused_when_the_model_declines(backend: Backend) -> None:
    backend.refuses()

    with pytest.raises(LlmRefusedError):
        backend.gateway().complete(PROMPT, Answer)


def test_raises_unavailable_when_the_server_fails(backend: Backend) -> None:
    backend.fails()

    with pytest.raises(LlmUnavailableError) as caught:
        backend.gateway().complete(PROMPT, Answer)

    assert caught.value.status == 500


def test_call_beyond_the_budget_is_not_sent(backend: Backend) -> None:
    backend.says(json.dumps(GOOD))
    gateway = backend.gateway(Budget(BudgetLimits(max_calls=1)))
    gateway.complete(PROMPT, Answer)

    with pytest.raises(LlmBudgetExceededError):
        gateway.complete(PROMPT, Answer)

    assert len(backend.asked()) == 1


@pytest.mark.parametrize("way", ["says", "refuses", "fails", "nonsense"])
def test_reports_the_cost_of_every_call_once(backend: Backend, way: str) -> None:
    if way in {"says", "nonsense"}:
        backend.says(json.dumps(GOOD) if way == "says" else "well")
    else:
        getattr(backend, way)()
    bills: list[Spent] = []
    with contextlib.suppress(LlmError):
        backend.gateway().complete(PROMPT, Answer, billed=bills.append)

    (bill,) = bills
    assert bill.calls == 1
    assert 0 <= bill.prompt_tokens <= max(PROMPT.most_tokens(), 11)


def test_reports_no_cost_of_a_call_that_the_budget_rejected(backend: Backend) -> None:
    backend.says(json.dumps(GOOD))
    bills: list[Spent] = []
    with pytest.raises(LlmBudgetExceededError):
        backend.gateway(Budget(BudgetLimits(max_calls=0))).complete(PROMPT, Answer, billed=bills.append)

    assert bills == []


@pytest.mark.parametrize("make", [NullGateway], ids=["null"])
def test_gateway_without_a_model_raises_an_llm_error(make: Callable[[], LlmGateway]) -> None:
    with pytest.raises(LlmDisabledError) as caught:
        make().complete(PROMPT, Answer)

    assert isinstance(caught.value, LlmError)
