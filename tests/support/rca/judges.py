"""Scripted models for the prompts of the judge."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from relab.llm.answers import validate_text
from relab.llm.budget import Spent
from relab.llm.gateway import AnswerT, Billed
from relab.llm.models import Prompt

_PROMPT = re.compile(r'<run code="(?P<code>\w+)">\n(?P<data>.*)\n</run code=')
_SENTENCE = re.compile(r"\nThe behaviour: (.*)\n")
Answer = dict[str, Any]


def read_prompt(prompt: Prompt) -> tuple[str, Answer]:
    """Return the code and the data of a prompt of the judge."""
    found = _PROMPT.search(prompt.user)
    assert found is not None
    return found["code"], json.loads(found["data"])


def quote_of(data: Answer, number: int) -> str:
    """Return the first 40 characters of a step's text in the data of a prompt; "" if the step is missing."""
    step = next((step for step in data["steps"] if step["step"] == number), {})
    text = step.get("output_summary") or step.get("input_summary") or step.get("name", "")
    return str(text[:40])


class _ScriptedModel:
    """A model whose `_reply` answers each prompt.

    Attributes:
        prompts: the prompts that were sent.
    """

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def complete(
        self,
        prompt: Prompt,
        schema: type[AnswerT],
        *,
        timeout_s: float | None = None,  # noqa: ARG002 the seam's parameter
        billed: Billed | None = None,
    ) -> AnswerT:
        """Return the answer to a prompt, validated like the answer of a real model."""
        self.prompts.append(prompt)
        if billed is not None:
            billed(Spent(1, 100, 10, 0.001))
        code, data = read_prompt(prompt)
        answer = self._reply(schema.__name__, {"code": code, "confidence": "high"}, prompt, data)
        return validate_text(answer if isinstance(answer, str) else json.dumps(answer), schema)

    def _reply(self, schema: str, head: Answer, prompt: Prompt, data: Answer) -> Answer | str:
        """Return the answer: a JSON object that begins with `head`, or text; `data` is the run in the prompt."""
        raise NotImplementedError


class StepJudge(_ScriptedModel):
    """Answers every prompt that step `number` went wrong first, with a verbatim quotation.

    Args:
        number: the number of the step; None for no step.
        change: changes an answer before it is returned; it may return text instead.
    """

    def __init__(self, number: int | None, change: Callable[[Answer], Answer | str] = lambda answer: answer) -> None:
        super().__init__()
        self._number = number
        self._change = change

    def _reply(self, schema: str, head: Answer, prompt: Prompt, data: Answer) -> Answer | str:  # noqa: ARG002 one of the kinds of answer needs it
        return self._change({**head, **self._said(schema, data)})

    def _said(self, schema: str, data: Answer) -> Answer:
        number = self._number
        quoted = {"quote": "" if number is None else quote_of(data, number), "reason": ""}
        if schema == "StepAnswer":
            return {"step": number, **quoted}
        if schema == "MistakeAnswer":
            return {"is_first_mistake": data["newest_step"] == number, **quoted}
        if schema == "HalfAnswer":
            low, high = data["first_half"]
            return {"half": "first" if number is not None and low <= number <= high else "second", **quoted}
        order = sorted(data["candidates"], key=lambda candidate: candidate != number)
        return {"order": [{"step": each, "quote": quote_of(data, each), "reason": ""} for each in order]}


class SentenceModel(_ScriptedModel):
    """Answers the prompts about sentences by what `answer(sentence, data)` returns: an object without the code, or text."""

    def __init__(self, answer: Callable[[str, Answer], Answer | str]) -> None:
        super().__init__()
        self._answer = answer

    def _reply(self, schema: str, head: Answer, prompt: Prompt, data: Answer) -> Answer | str:  # noqa: ARG002 one of the kinds of answer needs it
        said = self._answer(read_sentence(prompt.user), data)
        return said if isinstance(said, str) else {**head, **said}


def read_sentence(user: str) -> str:
    """Return the sentence in the user message of a prompt."""
    found = _SENTENCE.search(user)
    assert found is not None
    sentence: str = json.loads(found[1])
    return sentence


def says(quote: str, step: int | None = 0, reason: str = "") -> Answer:
    """Return the answer that a run shows the behaviour of a sentence, with a quotation of this step."""
    return {"is_shown": True, "step": step, "quote": quote, "reason": reason}


DENIES: Answer = {"is_shown": False, "step": None, "quote": "", "reason": ""}
"""The answer that a run does not show the behaviour of a sentence."""


class Answers:
    """Stores answers in memory, like `JudgeAnswerCache`."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """Return a stored answer."""
        return self.stored.get(key)

    def put(self, key: str, answer: str) -> None:
        """Store an answer."""
        self.stored[key] = answer
