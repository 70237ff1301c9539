"""The steps, tool calls and errors of a run as detectors read them: `PlacedStep`, `PlacedCall` and `Failure`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from relab.core.clock import LATEST_US
from relab.rca.evidence.error_text import ErrorText
from relab.rca.evidence.generic_errors import is_generic_class, is_generic_message
from relab.rca.evidence.quotation import Quotable, Quotation
from relab.rca.models import EvidenceKind
from relab.telemetry.models import GuardrailEvent, Step, StepStatus, ToolCall
from relab.telemetry.outcome import is_error_in_result, reports_error


def _end_after(started_us: int, latency_ms: float) -> int:
    """Return the end of a step or call, in microseconds since 1970; the end of the year 2199 if it would be later."""
    # A latency in a wrong unit may be thousands of years, and a report has no times after 2199.
    return min(started_us + int(latency_ms * 1_000), LATEST_US - 1)


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """A step of a run, and its index among the run's steps in order of time."""

    step: Step
    position: int

    @property
    def ended_us(self) -> int:
        """The end of the step in microseconds since 1970.

        It is the reported end. If that is not known, it is the start plus the latency; without a latency, the start.
        """
        if self.step.ended_at is not None:
            return self.step.ended_at
        return _end_after(self.step.started_at, self.step.latency_ms or 0)


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A tool call, its index among the run's calls in order of time, and the agent of its step.

    `started_us` is the start in microseconds since 1970. If the call reports no start, it is the start of the call's
    step; if the step is not known, it is the start of the run.
    """

    call: ToolCall
    position: int
    started_us: int
    agent_name: str | None

    @property
    def ended_us(self) -> int:
        """The end of the call in microseconds since 1970.

        It is the reported end. If that is not known, it is the call's own start plus its latency; if one of the two is
        not known, it is `started_us`.
        """
        call = self.call
        if call.ended_at is not None:
            return call.ended_at
        if call.started_at is not None and call.latency_ms is not None:
            return _end_after(call.started_at, call.latency_ms)
        return self.started_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error that an object of the run reports: a call, a step, a guardrail event, a log line or the run itself.

    Attributes:
        kind: the kind of the object.
        source: the object.
        position: the index of the object among the objects of its kind, in order of time.
        at_us: when the error occurred, in microseconds since 1970.
        step_id: the step in which the error occurred; None if not known.
        call_id: the call in which the error occurred; None if not known.
        field: the name of the field to quote: the field with the error text; without one, the error class, the status
            code or the status.
        text: the error text, prepared by `read_error` for the rules that classify errors; empty if there is none.
        is_hint: whether the step or call has no error message. `text` is then its output or result, which is only a
            weak sign.
        is_generic: whether neither the error class nor `text` names a kind of error; always false for a guardrail
            event.
        is_specific: whether the error class or the error message names a kind of error. If there is no message, an
            output or result that names one counts only if it begins like an error report. Always true for a guardrail
            event.
        recovered: whether the run recovered from the error.
        latency_ms: how long the failed step or call took, in ms; None if not known.
    """

    kind: EvidenceKind
    source: Quotable
    position: int
    at_us: int
    step_id: str | None
    call_id: str | None = None
    agent_name: str | None = None
    tool_name: str | None = None
    status_code: int | None = None
    error_class: str | None = None
    field: str
    text: ErrorText
    is_hint: bool = False
    is_generic: bool = False
    is_specific: bool
    recovered: bool
    latency_ms: float | None = None

    @property
    def shape(self) -> Hashable:
        """A hashable key of the fields by which detectors classify failures.

        Detectors classify failures with equal keys alike.
        """
        event_type = self.source.type if isinstance(self.source, GuardrailEvent) else None
        error = (self.status_code, self.error_class, id(self.text), self.is_hint, self.is_generic)
        return (self.kind, event_type, self.is_model_call, *error)

    @property
    def is_model_call(self) -> bool:
        """Whether the failed object is the step of a model call: its field `span_kind` is `llm`."""
        kind = (self.source.model_extra or {}).get("span_kind") if isinstance(self.source, Step) else None
        return isinstance(kind, str) and kind.lower() == "llm"

    def quotation(self, start: int = 0, end: int = 0) -> Quotation:
        """Return a quotation of the characters `start` to `end` of the text in the field `field` of the failed object.

        If `start` and `end` are 0, the quotation points to the beginning of the text.
        """
        return Quotation(self.kind, self.source, self.field, start, end)


def is_good_call(call: ToolCall) -> bool:
    """Return whether a call has status success and reports no error."""
    return call.status is StepStatus.SUCCESS and not call_reports_error(call)


def status_code_of(step: Step) -> int | None:
    """Return the HTTP status code (400 to 599) of the error that a step reports; None if it reports none.

    The code is an extra field `status_code` of the step. Only traces report it, and only for model calls.
    """
    code = (step.model_extra or {}).get("status_code")
    return code if type(code) is int and 400 <= code <= 599 else None


def first_given(*fields: tuple[str, object]) -> str:
    """Return the name of the first pair `(name, value)` whose value is not None. At least one value must be given."""
    return next(name for name, value in fields if value is not None)


def is_specific_error(error_class: str | None, message: str | None, text: str | None) -> bool:
    """Return whether the class or the message of an error names a kind of error.

    If there is no message, the error is also specific if `text` (the output of the step or the result of the call)
    names a kind of error and begins like an error report.
    """
    if not is_generic_class(error_class) or not is_generic_message(message):
        return True
    return message is None and not is_generic_message(text) and is_error_in_result(text or "")


def call_reports_error(call: ToolCall) -> bool:
    """Return whether a call reports an error: by its status, error class or message, result, or status code."""
    return reports_error(call.status, call.error_class, call.error_message, call.result_summary, call.status_code)


def step_reports_error(step: Step) -> bool:
    """Return whether a step reports an error: by its status, its error class or message, or its output."""
    return reports_error(step.status, step.error_class, step.error_message, step.output_summary)


def _length(failure: Failure) -> float:
    return failure.latency_ms or 0.0


def shortest_at(failures: Sequence[Failure], moments: Iterable[int]) -> dict[int, Failure]:
    """Return which failed call or step was in progress at each moment, as `{moment: its failure}`.

    If several were in progress, the one with the shortest duration is returned. Moments at which none was in progress
    are left out. Failures without a latency are ignored. Moments are in microseconds since 1970.
    """
    begins = sorted(
        (
            (failure.at_us - int(failure.latency_ms * 1_000), order)
            for order, failure in enumerate(failures)
            if failure.latency_ms is not None
        ),
        reverse=True,
    )
    # Each failure enters and leaves the heap once, so the cost is not the product of failures and moments.
    going: list[tuple[float, int]] = []
    found: dict[int, Failure] = {}
    for moment in sorted(set(moments)):
        while begins and begins[-1][0] <= moment:
            _, order = begins.pop()
            heappush(going, (_length(failures[order]), order))
        while going and failures[going[0][1]].at_us < moment:
            heappop(going)
        if going:
            found[moment] = failures[going[0][1]]
    return found
