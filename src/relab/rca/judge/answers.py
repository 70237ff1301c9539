"""The answers of the judge, and the checks that each of them must pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from relab.core.errors import RelabError
from relab.rca.evidence import Quotation
from relab.rca.judge.transcript import MAX_QUOTE_CHARS, TEXT_CHARS, ShownStep, ShownTexts, Transcript
from relab.rca.judge_models import JudgeDrop
from relab.rca.models import Confidence
from relab.rca.report import check_text, normal_text

_PIECE_CHARS: Final = TEXT_CHARS[0]
_MAX_REASON_CHARS: Final = 2_000

PlaceT = TypeVar("PlaceT", bound=ShownTexts)


class DroppedAnswerError(RelabError):
    """An answer of the judge breaks a rule, so that nothing of it is used; `reason` names the rule."""

    code = "dropped_answer"

    def __init__(self, reason: JudgeDrop) -> None:
        super().__init__(f"The answer of the judge was dropped: {reason}.")
        self.reason = reason


class JudgeAnswer(BaseModel):
    """What all answers have: the code of the request, which a text of the run cannot know, and the model's confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    confidence: Literal["high", "medium", "low"]


class StepAnswer(JudgeAnswer):
    """The number of the step that went wrong first, or null for none, with a quotation and the reason."""

    step: int | None
    quote: str
    reason: str


class MistakeAnswer(JudgeAnswer):
    """Whether the newest step is the first mistake, with a quotation and the reason."""

    is_first_mistake: bool
    quote: str
    reason: str


class HalfAnswer(JudgeAnswer):
    """Which half of the steps has the first mistake, with a quotation from that half and the reason."""

    half: Literal["first", "second"]
    quote: str
    reason: str


class SentenceAnswer(JudgeAnswer):
    """Whether a run shows a behaviour, with a quotation of the step with this number (null: of the run's own texts) and the reason."""

    is_shown: bool
    step: int | None
    quote: str
    reason: str


class RankedStep(BaseModel):
    """One candidate in the judge's order, with a quotation of it and the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    quote: str
    reason: str


class OrderAnswer(JudgeAnswer):
    """The candidates, the most likely first."""

    order: tuple[RankedStep, ...]


@dataclass(frozen=True, slots=True)
class Pick:
    """A step that the judge names, where it is quoted, and the reason; None if the reason was dropped."""

    step: ShownStep
    quotation: Quotation
    reason: str | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """The result of a method: the named steps, the most likely first, and the confidence that the model states.

    Without steps, the model found no mistake.
    """

    picks: tuple[Pick, ...]
    confidence: Confidence | None


def check_quote(places: tuple[PlaceT, ...], quote: str) -> tuple[PlaceT, Quotation]:
    """Return the first of `places` that has the quotation verbatim, and where.

    Raises:
        DroppedAnswerError: no place has it, or it is too long or too short to show anything.
    """
    quote = quote.strip()
    if len(quote) > MAX_QUOTE_CHARS:
        raise DroppedAnswerError(JudgeDrop.TOO_LONG)
    for place in places:
        found = place.find(quote)
        if found is not None:
            if place.is_short(quote):
                raise DroppedAnswerError(JudgeDrop.QUOTE_TOO_SHORT)
            return place, found
    raise DroppedAnswerError(JudgeDrop.QUOTE_NOT_VERBATIM)


def grounded_reason(transcript: Transcript, step: ShownStep | None, reason: str, *known: str) -> str | None:
    """Return the reason in the form to show; None if the task, the step and the one before it do not support it.

    Without a step, the texts of the run that belong to no step must support it. The texts `known` are not of the run, and support it too.

    Its numbers, names and quotations must occur there (`rca/report/grounding.py`).
    """
    if len(reason) > _MAX_REASON_CHARS:
        return None
    shown = normal_text(reason)
    return shown if check_text(shown, (*known, *_pieces(transcript, step))) is None else None


def _pieces(transcript: Transcript, step: ShownStep | None) -> Iterator[str]:
    run = transcript.view.run
    yield from (text[:_PIECE_CHARS] for text in (run.question, run.answer, run.error_message) if text)
    for near in () if step is None else transcript.steps[max(step.number - 1, 0) : step.number + 1]:
        yield near.placed.step.agent_name or ""
        yield from (text[:_PIECE_CHARS] for _, text in near.quotations())
