"""The scripted model for tests: returns its answers in order, validates them, and rejects a call too many."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from relab.llm import (
    LlmError,
    LlmInvalidOutputError,
    LlmUnavailableError,
    Prompt,
    ScriptedGateway,
    ScriptExhaustedError,
)


class Word(BaseModel):
    word: str


class Other(BaseModel):
    number: int


PROMPT = Prompt("system", "user")


def test_gives_values_mappings_text_and_errors_in_order() -> None:
    gateway = ScriptedGateway([Word(word="a"), {"word": "b"}, '{"word": "c"}', LlmUnavailableError("down")])

    assert [gateway.complete(PROMPT, Word).word for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(LlmUnavailableError) as caught:
        gateway.complete(PROMPT, Word)
    assert caught.value.message == "down"
    assert gateway.prompts == [PROMPT] * 4


def test_validates_values_too() -> None:
    with pytest.raises(LlmInvalidOutputError, match="Word: missing"):
        ScriptedGateway([Other(number=1)]).complete(PROMPT, Word)


def test_call_beyond_the_script_is_not_a_model_error() -> None:
    with pytest.raises(ScriptExhaustedError) as caught:
        ScriptedGateway([]).complete(PROMPT, Word)

    assert not isinstance(caught.value, LlmError)
