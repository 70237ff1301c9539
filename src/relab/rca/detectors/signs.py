"""Find signs of a failure category in a run's errors, and build problems from them; shared by several detectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from relab.rca.detectors.phrases import Phrases
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.evidence import Failure, RunView, TextMatch, last_name
from relab.rca.models import Category, Confidence, EvidenceKind
from relab.telemetry.models import GuardrailEvent


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign that a failure belongs to a category: a status code, an error class or a wording.

    `confidence` states how strong the sign is. `detail` is the finer kind of failure within the category; None if not
    known. `where` is the place of the sign in the error text; None if the sign is not in the text.
    """

    confidence: Confidence
    detail: str | None = None
    where: TextMatch | None = None


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """A rule that recognises the failures of one category, first by structured fields, then by the wording.

    Attributes:
        codes: `{HTTP status code: detail}`; the detail is the finer kind of failure, None if there is none.
        classes: a pattern for the last part of an error class (`RateLimitError` of `openai.RateLimitError`).
        phrases: typical wordings of the errors.
        guard_types: a pattern for the type of a guardrail event.
    """

    codes: Mapping[int, str | None]
    classes: re.Pattern[str]
    phrases: Phrases
    guard_types: re.Pattern[str]

    def read(self, failure: Failure) -> Sign | None:
        """Return the strongest sign that `failure` belongs to the category of this rule; None without a sign.

        From strong to weak, the signs are: the failure's status code, its error class, and its text (a status code, an
        error class or a typical wording in it). For a guardrail event, they are the event's type and the wording.
        """
        found = self.phrases.find(failure.text)
        detail = found.detail if found is not None else None
        where = found.where if found is not None else None
        if isinstance(failure.source, GuardrailEvent):
            return self._read_guardrail(failure.source, detail, where)
        code = failure.status_code
        if code is not None and code in self.codes:
            return Sign(Confidence.HIGH, detail or self.codes[code], where)
        if failure.error_class is not None and self.classes.search(last_name(failure.error_class)):
            return Sign(Confidence.HIGH, detail, where)
        by_wording = Confidence.LOW if failure.is_hint else Confidence.MEDIUM
        stated = failure.text.status_code
        if stated is not None and stated in self.codes:
            return Sign(by_wording, detail or self.codes[stated], failure.text.status_at)
        for name, place in failure.text.classes:
            if self.classes.search(name):
                return Sign(by_wording, detail, where or place)
        return Sign(by_wording, detail, where) if found is not None else None

    def _read_guardrail(self, event: GuardrailEvent, detail: str | None, where: TextMatch | None) -> Sign | None:
        if self.guard_types.search(event.type):
            return Sign(Confidence.HIGH, detail, where)
        return Sign(Confidence.LOW, detail, where) if where is not None else None


def problem_of(category: Category, failure: Failure, sign: Sign) -> DetectedProblem:
    """Build the problem of `category` that a failure shows. `sign` is the sign that shows the category."""
    quote = failure.quotation(sign.where.start, sign.where.end) if sign.where else failure.quotation()
    return DetectedProblem(
        category=category,
        detail=sign.detail,
        confidence=sign.confidence,
        at_us=failure.at_us,
        kind=failure.kind,
        position=failure.position,
        quotes=(quote,),
        step_id=failure.step_id,
        call_id=failure.call_id,
        agent_name=failure.agent_name,
        tool_name=failure.tool_name,
        recovered=failure.recovered,
    )


def signs(read: Callable[[Failure], Sign | None], view: RunView) -> Iterator[tuple[Failure, Sign]]:
    """Yield `(failure, sign)` for each failure of a run in which `read` finds a sign of the detector's category.

    A sign is a status code, an error class or a wording. `read` returns the sign in a failure, or None. Failures with
    an equal `Failure.shape` (the key of the fields that `read` may use) share one call of `read`.
    """
    for failures in view.failures_by_shape:
        sign = read(failures[0])
        if sign is not None:
            yield from ((failure, sign) for failure in failures)


LOCATED_KINDS = frozenset({EvidenceKind.TOOL_CALL, EvidenceKind.STEP})
