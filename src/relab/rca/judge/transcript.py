"""A run as the judge reads it: its innermost steps with their texts, cut to the model's context by a fixed rule. Pure.

A long text is cut to 4,000 characters: two thirds from its beginning, one third from its end. If the run is still too
long for a prompt, lower limits are tried in turn, down to 120 (`TEXT_CHARS`). If the run is too long even then, steps
are left out. Important steps (`anchors`) and their neighbours are left out last.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.rca.evidence import PlacedCall, PlacedStep, Quotation, RunView, field_text
from relab.rca.models import EvidenceKind
from relab.telemetry.models import AgentRun

TEXT_CHARS: Final = (4_000, 2_000, 1_000, 500, 250, 120)
"""The lengths to which texts are cut, in the order in which they are tried."""

MAX_CALLS: Final = 20
"""The maximum number of tool calls of a step that are shown; of more calls, only the first ones are shown."""

MIN_QUOTE_CHARS: Final = 8
MAX_QUOTE_CHARS: Final = 500
_AROUND: Final = 2
_NAME_CHARS: Final = 120
_RUN_FIELDS: Final = ("answer", "error_message", "question")
_STEP_FIELDS: Final = ("input_summary", "output_summary", "error_message")
_CALL_FIELDS: Final = ("args_json", "result_summary", "error_message")
_WITHHELD: Final = "[withheld: it reads like an instruction to a model]"
_ORDER: Final = re.compile(
    r"(?:"
    r"\b(?:ignore|disregard|forget|override) (?:all |any |the |your |these |of ){0,3}"
    r"(?:previous|prior|above|earlier|preceding|system) (?:instruction|prompt|message|rule|direction)"
    r"|\byou are (?:now )?(?:the|a|an) (?:judge|evaluator|grader)\b"
    r"|\b(?:answer|respond|reply) (?:only )?with step \d"
    r"|\"(?:is_first_mistake|is_shown)\" ?:"
    r")[^\n]{0,300}",
    re.IGNORECASE,
)


class ShownTexts(ABC):
    """A part of a run whose texts the judge (a language model) can quote."""

    __slots__ = ()

    @abstractmethod
    def quotations(self) -> Iterator[tuple[Quotation, str]]:
        """Yield `(quotation, text)` for each text that the judge (a language model) can quote.

        `quotation` points to the beginning of `text`.
        """

    def find(self, quote: str) -> Quotation | None:
        """Return the place of `quote` in the first text that contains it; None if no text does.

        A text contains the quote if it has it exactly, or if its first 4,000 characters have it with other white space.
        """
        words = quote.split()
        if not words:
            return None
        loose = re.compile(r"\s{1,20}".join(map(re.escape, words)))
        for quotation, text in self.quotations():
            start = text.find(quote)
            end = start + len(quote)
            if start < 0:
                # Only the part that the judge was shown is searched, so that the time for a long text is bounded.
                found = loose.search(text, 0, TEXT_CHARS[0])
                start, end = found.span() if found is not None else (-1, -1)
            if start >= 0:
                return Quotation(quotation.kind, quotation.source, quotation.field, start, end)
        return None

    def is_short(self, quote: str) -> bool:
        """Return whether `quote` is too short as evidence.

        A quote with fewer than 8 characters is too short, unless it equals a whole text.
        """
        return len(quote.strip()) < MIN_QUOTE_CHARS and all(text.strip() != quote for _, text in self.quotations())


@dataclass(frozen=True, slots=True)
class ShownRun(ShownTexts):
    """The texts of a run that belong to no step, such as its question and its answer."""

    run: AgentRun

    def quotations(self) -> Iterator[tuple[Quotation, str]]:
        """Yield `(quotation, text)` of the run's answer, error and question; `quotation` says which field has `text`."""
        for name in _RUN_FIELDS:
            if text := field_text(self.run, name):
                yield Quotation(EvidenceKind.RUN, self.run, name), text


@dataclass(frozen=True, slots=True)
class ShownStep(ShownTexts):
    """An innermost step of a run (a step without steps inside), as the judge (a language model) reads it.

    `number` is the index of the step among the innermost steps. `calls` are at most its first `MAX_CALLS` tool calls.
    """

    number: int
    placed: PlacedStep
    calls: tuple[PlacedCall, ...]

    @property
    def step_id(self) -> str:
        """The id of the step."""
        return self.placed.step.step_id

    def quotations(self) -> Iterator[tuple[Quotation, str]]:
        """Yield `(quotation, text)` of each text of the step and its calls.

        `quotation` names the field with `text`: a field of the step, or of one of its calls.
        """
        step = self.placed.step
        for name in _STEP_FIELDS:
            if text := field_text(step, name):
                yield Quotation(EvidenceKind.STEP, step, name), text
        for placed in self.calls:
            for name in (*_CALL_FIELDS, "tool_name"):
                if text := field_text(placed.call, name):
                    yield Quotation(EvidenceKind.TOOL_CALL, placed.call, name), text
        yield Quotation(EvidenceKind.STEP, step, "name"), step.name


@dataclass(frozen=True, slots=True)
class Excerpt:
    """An excerpt of a run as JSON, for a prompt.

    Attributes:
        data: the JSON.
        shown: the numbers of the steps in `data`.
        left_out: the number of steps that were left out.
        cut: the number of texts that were cut.
        withheld: the number of passages that were withheld, because they read like instructions to the judge (a
            language model).
    """

    data: str
    shown: frozenset[int]
    left_out: int
    cut: int
    withheld: int


class Transcript:
    """The innermost steps of a run (steps without steps inside), in order of time and numbered from 0.

    The judge (a language model) gets excerpts of them.

    Args:
        view: the run.
        max_chars: the maximum number of characters of one excerpt.
    """

    def __init__(self, view: RunView, max_chars: int) -> None:
        self.view = view
        self._max_chars = max_chars
        calls: dict[str | None, list[PlacedCall]] = {}
        for placed in view.calls:
            calls.setdefault(placed.call.step_id, []).append(placed)
        outer = {placed.step.parent_step_id for placed in view.steps}
        inner = [placed for placed in view.steps if placed.step.step_id not in outer]
        self.steps = tuple(
            ShownStep(number, placed, tuple(calls.get(placed.step.step_id, ())[:MAX_CALLS]))
            for number, placed in enumerate(inner)
        )

    @property
    def has_texts(self) -> bool:
        """Whether the judge has something to read: at least one step, or the question, answer or error of the run."""
        return bool(self.steps) or next(ShownRun(self.view.run).quotations(), None) is not None

    def number_of(self, step_id: str | None) -> int | None:
        """Return the number of an innermost step; None if the run has no innermost step with this id."""
        return next((step.number for step in self.steps if step.step_id == step_id), None)

    def excerpt(self, numbers: Sequence[int], anchors: Collection[int] = (), **facts: Any) -> Excerpt:
        """Return the given steps, and the task, answer and error of the run, as JSON of at most `max_chars` characters.

        If the JSON is too long, texts are cut. If it still is too long, steps are left out. Only without any step can it
        be longer than `max_chars`.

        Args:
            numbers: the numbers of the steps, in order.
            anchors: the numbers of important steps. They are left out last; the two steps before and after each are
                left out just before them. Of all other steps, those in the middle of `numbers` are left out first.
            facts: further values for the JSON object; they are not cut.
        """
        for limit in TEXT_CHARS:
            shown = _Shown(limit)
            body = self._body(shown, numbers, facts)
            if len(body) <= self._max_chars:
                return Excerpt(body, frozenset(numbers), 0, shown.cut, shown.withheld)
        kept = self._kept(numbers, anchors, facts)
        shown = _Shown(TEXT_CHARS[-1])
        body = self._body(shown, kept, facts)
        return Excerpt(body, frozenset(kept), len(numbers) - len(kept), shown.cut, shown.withheld)

    def _kept(self, numbers: Sequence[int], anchors: Collection[int], facts: dict[str, Any]) -> list[int]:
        shown = _Shown(TEXT_CHARS[-1])
        room = self._max_chars - len(self._body(shown, (), facts))
        last = len(numbers) - 1
        near = {number for anchor in anchors for number in range(anchor - _AROUND, anchor + _AROUND + 1)}
        order = sorted(
            range(len(numbers)),
            key=lambda at: (numbers[at] not in anchors, numbers[at] not in near, min(at, last - at), at),
        )
        kept = []
        for at in order:
            # Two characters separate a step from the next one.
            room -= len(_encoded(self._step(shown, self.steps[numbers[at]]))) + 2
            if room < 0:
                break
            kept.append(numbers[at])
        return sorted(kept)

    def _body(self, shown: _Shown, numbers: Sequence[int], facts: dict[str, Any]) -> str:
        run = self.view.run
        about = {
            "agent": shown.text(run.agent_name[:_NAME_CHARS]),
            "task": shown.text(run.question),
            "final_answer": shown.text(run.answer),
            "error": shown.text(run.error_message),
        }
        steps = [self._step(shown, self.steps[number]) for number in numbers]
        return _encoded({**facts, **{name: text for name, text in about.items() if text}, "steps": steps})

    def _step(self, shown: _Shown, step: ShownStep) -> dict[str, Any]:
        source = step.placed.step
        found: dict[str, Any] = {
            "step": step.number,
            "name": shown.text(source.name[:_NAME_CHARS]),
            "agent": shown.text((source.agent_name or "")[:_NAME_CHARS]),
            **{name: shown.text(field_text(source, name)) for name in _STEP_FIELDS},
            "calls": [
                {
                    "tool": shown.text(placed.call.tool_name[:_NAME_CHARS]),
                    **{name: text for name in _CALL_FIELDS if (text := shown.text(field_text(placed.call, name)))},
                }
                for placed in step.calls
            ],
        }
        return {name: value for name, value in found.items() if value not in ("", [])}


class _Shown:
    """Prepares texts for a prompt: cuts them to `limit` characters, and withholds passages that read like instructions.

    It counts the cut texts and the withheld passages.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.cut = 0
        self.withheld = 0

    def text(self, text: str | None) -> str:
        if not text:
            return ""
        if len(text) > self._limit:
            self.cut += 1
            head = self._limit * 2 // 3
            text = f"{text[:head]} [...] {text[head - self._limit :]}"
        # Known phrases only; the other checks of answers do not depend on it.
        text, count = _ORDER.subn(_WITHHELD, text)
        self.withheld += count
        return text


def _encoded(value: Any) -> str:
    # ASCII on one line without angle brackets, so that no part of it can look like the marks around it.
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e")
