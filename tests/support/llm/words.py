"""A prompt, the schema of its answers, and a valid answer, for tests of gateways."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from relab.llm import LangChainGateway, Prompt

MakeGateway: TypeAlias = Callable[..., LangChainGateway]
"""Returns a gateway to the model server of a test; the arguments are fields of `LlmConfig`, and `budget`."""

PROMPT = Prompt(system="You answer.", user="What is the secret-free question?")
GOOD = '{"word": "yes"}'


class Word(BaseModel):
    """The schema of the answers to `PROMPT`."""

    model_config = ConfigDict(extra="forbid")

    word: str
