"""Replies of models are read with and without a Markdown code fence."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from relab.llm.answers import validate_text
from relab.llm.errors import LlmInvalidOutputError


class Answer(BaseModel):
    """The schema of the replies."""

    cause: str


@pytest.mark.parametrize(
    "text",
    [
        '{"cause": "disk"}',
        '```json\n{"cause": "disk"}\n```',
        '```\n\n  {"cause": "disk"}\n\n\n```',
        '```JSON \r\n{"cause": "disk"}\r\n  ```\n',
    ],
)
def test_reply_is_read_with_and_without_a_fence(text: str) -> None:
    assert validate_text(text, Answer) == Answer(cause="disk")


def test_fence_with_many_empty_lines_is_rejected_quickly() -> None:
    # An expression that tries each split of the lines would take hours.
    with pytest.raises(LlmInvalidOutputError):
        validate_text("```json" + "\n" * 20_000 + "x", Answer)
