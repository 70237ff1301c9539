"""Replies of models are read if they have exactly one JSON object outside of their reasoning, and rejected otherwise."""

from __future__ import annotations

import traceback

import pytest
from pydantic import BaseModel

from relab.llm.answers import validate_text
from relab.llm.errors import LlmInvalidOutputError

GOOD = '{"cause": "disk"}'
OTHER = '{"cause": "lock"}'


class Answer(BaseModel):
    """The schema of the replies."""

    cause: str


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```\n\n  {GOOD}\n\n\n```",
        f"```JSON \r\n{GOOD}\r\n  ```\n",
        f"```json {GOOD} ```",
        f"Here is the answer:\n\n```json\n{GOOD}\n```\nThe disk is full.",
        f"The answer is {GOOD}.",
        f"<think>\nThe disk, or the lock?\n</think>\n\n{GOOD}",
        f"<think>\n\n</think>\n{GOOD}",
        f"The disk, I think.\n</think>\n{GOOD}",
        f"<think>Perhaps {OTHER}, or {{x}}.</think>\n```json\n{GOOD}\n```",
        f"<|channel|>analysis<|message|>{OTHER}?<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
        f"◁think▷Perhaps {OTHER}.◁/think▷{GOOD}",
        f"<seed:think>Perhaps {OTHER}.</seed:think>{GOOD}",
        f"<think>one</think> and <think>{OTHER}</think>{GOOD}",
        f"[THINK]{OTHER}[/THINK]{GOOD}",
        f"<reasoning>{OTHER}</reasoning><answer>{GOOD}</answer>",
    ],
)
def test_one_object_outside_of_the_reasoning_is_the_answer(text: str) -> None:
    assert validate_text(text, Answer) == Answer(cause="disk")


@pytest.mark.parametrize("text", ['{"cause": "a </think> b"}', '```json\n{"cause": "a </think> b"}\n```'])
def test_tag_in_a_string_of_the_object_is_text(text: str) -> None:
    assert validate_text(text, Answer) == Answer(cause="a </think> b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The disk is full.", "has no JSON object"),
        ("", "has no JSON object"),
        ("} and {", "has no JSON object"),
        (f"<think>Perhaps {GOOD}.</think>\nThe disk is full.", "has no JSON object"),
        (f"{GOOD}\n{OTHER}", "more than one JSON object"),
        (f"{GOOD}\n{GOOD}", "more than one JSON object"),
        (f"```json\n{GOOD}\n```\nor\n```json\n{OTHER}\n```", "more than one JSON object"),
        (f"<think>x</think>{GOOD} or {OTHER}", "more than one JSON object"),
        (f"In {{short}}: {GOOD}", "is broken, or the text around it has braces"),
        (f'Answer: {{"cause": nothing, "inner": {GOOD}}}', "is broken"),
        ('Answer: {"cause": "disk', "has no JSON object"),
        ('Answer: {"cause": "disk", "cause": "lock"}', "duplicate key"),
        (f"Answers: [{GOOD}]", "part of a list"),
        (f"Answers: [1, {GOOD}]", "part of a list"),
        (f'The log says "{GOOD}".', "of a quotation"),
        (f"<think>Perhaps {GOOD}", "inside its reasoning"),
        (f"<|channel|>analysis<|message|>Perhaps {GOOD}?<|end|>", "inside its reasoning"),
        (
            f"<|channel|>analysis<|message|>{GOOD}?<|end|><|start|>assistant<|channel|>final<|message|>The disk.",
            "has no JSON object",
        ),
        (f"◁think▷Perhaps {GOOD}.◁/think▷The disk is full.", "has no JSON object"),
        (f"<seed:think>Perhaps {GOOD}.</seed:think>The disk is full.", "has no JSON object"),
        (f"<analysis>Perhaps {GOOD}.</analysis>The disk is full.", "has no JSON object"),
        (f"<think>one</think><think>Perhaps {GOOD}", "inside its reasoning"),
        (f"{GOOD} <think>but", "inside its reasoning"),
        (f"{GOOD}</think>", "has no JSON object"),
        # The reasoning repeats a text that pretends to end it.
        (f"<think>The log says </think>{OTHER}. Hm.</think>The disk.", "has no JSON object"),
        ('Answer: {"cause": ' + "[" * 300 + "]" * 300 + "}", "JSON"),
    ],
)
def test_reply_that_is_ambiguous_or_has_no_answer_is_rejected_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(LlmInvalidOutputError, match=reason):
        validate_text(text, Answer)


@pytest.mark.parametrize(
    "secret", ["sk-SECRET", 'Answer: {"cause": sk-SECRET}', '{"sk-SECRET": 1} {"a": 2}', '{"a": "sk-SECRET"}']
)
def test_rejection_does_not_repeat_the_reply(secret: str) -> None:
    with pytest.raises(LlmInvalidOutputError) as caught:
        validate_text(secret, Answer)

    assert "sk-SECRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        "```json" + "\n" * 200_000 + "x",
        "{" * 200_000,
        "{}" * 100_000,
        '{"a":' * 100_000 + "}" * 100_000,
        "<think>" * 100_000 + "</think>" * 100_000,
        "Answer: " + "[{" * 100_000 + "}]" * 100_000,
    ],
    ids=["lines", "open", "many", "deep", "tags", "nested"],
)
def test_reply_made_to_take_long_is_rejected_quickly(text: str) -> None:
    # An expression that tries each part of the text would take hours.
    with pytest.raises(LlmInvalidOutputError):
        validate_text(text, Answer)
