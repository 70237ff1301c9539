"""The answers of the judge (a language model), and the checks that each answer must pass."""

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
    """An answer of the judge (a language model) breaks a rule and is not used; `reason` names the rule."""

    code = "dropped_answer"

    def __init__(self, reason: JudgeDrop) -> None:
        super().__init__(f"The answer of the judge was dropped: {reason}.")
        self.reason = reason


class JudgeAnswer(BaseModel):
    """Base class of the judge's answers: the confidence of the judge (a language model), and the code in the prompt.

    The model must repeat the code. The code is a digest of the prompt's data, so no text of the run can contain it. A
    correct code therefore shows that no text of the run has dictated the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    confidence: Literal["high", "medium", "low"]


class StepAnswer(JudgeAnswer):
    """The answer of the judge (a language model) to the question which step of a run went wrong first.

    `step` is the number of the step; None if no step went wrong. `quote` is a quotation of the step, and `reason` is
    the judge's reason.
    """

    step: int | None
    quote: str
    reason: str


class MistakeAnswer(JudgeAnswer):
    """The answer of the judge (a language model) to: is the last of the shown steps the run's first mistake?

    `quote` is a quotation of this last step, and `reason` is the judge's reason.
    """

    is_first_mistake: bool
    quote: str
    reason: str


class HalfAnswer(JudgeAnswer):
    """The answer of the judge (a language model) to: which half of the shown steps has the run's first mistake?

    `quote` is a quotation from the named half, and `reason` is the judge's reason.
    """

    half: Literal["first", "second"]
    quote: str
    reason: str


class SentenceAnswer(JudgeAnswer):
    """The answer of the judge (a language model) to: does a run show the behaviour that a sentence describes?

    `quote` is a quotation of the step with the number `step`. If `step` is None, it is a quotation of the run's
    question, answer or error. `reason` is the judge's reason.
    """

    is_shown: bool
    step: int | None
    quote: str
    reason: str


class RankedStep(BaseModel):
    """One candidate step in the order of the judge (a language model), with a quotation of the step and a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    quote: str
    reason: str


class OrderAnswer(JudgeAnswer):
    """The judge (a language model) orders the candidate steps. The likeliest first mistake comes first."""

    order: tuple[RankedStep, ...]


@dataclass(frozen=True, slots=True)
class Pick:
    """A step that the judge (a language model) names, a verbatim quotation of the step, and the judge's reason.

    The reason is None if the judge gave none, or if the run does not support it (`grounded_reason`).
    """

    step: ShownStep
    quotation: Quotation
    reason: str | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """The opinion of the judge (a language model): the steps that it names, most likely first, and its confidence.

    If there are no steps, the judge found no mistake.
    """

    picks: tuple[Pick, ...]
    confidence: Confidence | None


def check_quote(places: tuple[PlaceT, ...], quote: str) -> tuple[PlaceT, Quotation]:
    """Return the first of `places` that contains `quote`, and the quotation there.

    A place is a part of the run with texts, such as a step. White space in the text may differ from that in `quote`.

    Raises:
        DroppedAnswerError: no place contains the quote, or the quote is too long or too short.
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
    """Return the model's reason, normalised for display; None if `check_text` rejects it, or if it is too long.

    The texts that can support the reason are the run's question, answer and error, the texts of `step` and of the step
    before it (each cut to 4,000 characters), and `known`.

    Args:
        transcript: the run as the model read it.
        step: the step that the reason is about; None if it is about no single step.
        reason: the model's words.
        known: further texts, not from the run, that may support the reason.
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
