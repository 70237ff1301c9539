"""Indexes over one run: order in time, who acted, what failed, what succeeded later.

Built once per analysis and read by every detector, so that none of them searches the
run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from relab.rca.error_text import ErrorText, is_error_in_result, is_generic_class, is_generic_message, read_error
from relab.rca.models import EvidenceKind
from relab.rca.problems import Quotable, Quotation
from relab.telemetry.models import AgentRun, GuardrailEvent, RunStatus, RunSummary, Step, StepStatus, ToolCall

_SHORT_OUTPUT_CHARS = 300
"""The output of a failed step is read as an error message only if it is no longer than a message."""

_NO_TEXT = read_error("")


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """A step and its index in order of time."""

    step: Step
    position: int

    @property
    def ended_us(self) -> int:
        """When its outcome was known: its end, else its start and latency."""
        if self.step.ended_at is not None:
            return self.step.ended_at
        return self.step.started_at + int((self.step.latency_ms or 0) * 1_000)


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A tool call, its index in order of time, and the agent of its step.

    `started_us` is its own start, else that of its step, else that of the run.
    """

    call: ToolCall
    position: int
    started_us: int
    agent_name: str | None

    @property
    def ended_us(self) -> int:
        """When its outcome was known, as far as its own times tell."""
        call = self.call
        if call.ended_at is not None:
            return call.ended_at
        if call.started_at is not None and call.latency_ms is not None:
            return call.started_at + int(call.latency_ms * 1_000)
        return self.started_us

    @property
    def latency_ms(self) -> float | None:
        """The reported latency, else the time between its own start and end."""
        call = self.call
        if call.latency_ms is not None or call.started_at is None or call.ended_at is None:
            return call.latency_ms
        return (call.ended_at - call.started_at) / 1_000


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that some object of the run reports, prepared for the detectors.

    Attributes:
        field: the field that holds the text, and that evidence quotes.
        text: that text, prepared; empty when there is none.
        is_hint: the text is an output or a result and not an error message, so what it
            says counts for little.
        is_generic: neither class nor text tells what kind of error it was.
        is_specific: class or message tells it; a text that is only a hint counts when it
            begins as an error report does.
    """

    kind: EvidenceKind
    source: Quotable
    position: int
    at_us: int
    step_id: str | None
    call_id: str | None
    agent_name: str | None
    tool_name: str | None
    status_code: int | None
    error_class: str | None
    field: str
    text: ErrorText
    is_hint: bool
    is_generic: bool
    is_specific: bool
    recovered: bool
    latency_ms: float | None = None

    def quotation(self, start: int = 0, end: int = 0) -> Quotation:
        """Quote the text (or what stands for it), centred on the given offsets."""
        return Quotation(self.kind, self.source, self.field, start, end)


def _filled(text: str | None) -> str | None:
    return text if text is not None and text.strip() else None


class RunView:
    """One run, indexed; with the summaries of earlier runs for the detectors that compare.

    Attributes:
        steps: in order of start (equal times keep the order of the report).
        calls: in order of start, likewise.
    """

    def __init__(self, run: AgentRun, history: Sequence[RunSummary] = ()) -> None:
        self.run = run
        self.history = history
        ordered = sorted(run.steps, key=lambda step: step.started_at)
        self.steps = tuple(PlacedStep(step, position) for position, step in enumerate(ordered))
        self._step_by_id: dict[str, PlacedStep] = {}
        for placed in self.steps:
            self._step_by_id.setdefault(placed.step.step_id, placed)
        timed = sorted(((self._call_start(call), call) for call in run.tool_calls), key=lambda pair: pair[0])
        self.calls = tuple(
            PlacedCall(call, position, start, self.agent_of(call.step_id))
            for position, (start, call) in enumerate(timed)
        )
        self._texts: dict[str, ErrorText] = {}

    @property
    def failed(self) -> bool:
        """Whether the run as a whole is reported as failed."""
        return self.run.status is RunStatus.FAILURE

    @property
    def succeeded(self) -> bool:
        """Whether the run as a whole is reported as successful."""
        return self.run.status is RunStatus.SUCCESS

    @cached_property
    def end_us(self) -> int:
        """The end of the run, else the last moment that anything in it tells of."""
        if self.run.ended_at is not None:
            return self.run.ended_at
        moments = [self.run.started_at]
        moments.extend(placed.ended_us for placed in self.steps)
        moments.extend(placed.ended_us for placed in self.calls)
        moments.extend(event.created_at for event in self.run.guardrail_events)
        return max(moments)

    def step(self, step_id: str | None) -> PlacedStep | None:
        """Return the step with this id, if the run has it."""
        return self._step_by_id.get(step_id) if step_id is not None else None

    def agent_of(self, step_id: str | None) -> str | None:
        """Return who acted in a step, if it says so."""
        placed = self.step(step_id)
        return placed.step.agent_name if placed is not None else None

    def ancestors(self, step_id: str | None) -> Iterator[str]:
        """Yield `step_id` and the ids of the steps around it, innermost first; cycles end it."""
        seen: set[str] = set()
        while step_id is not None and step_id not in seen:
            seen.add(step_id)
            yield step_id
            placed = self.step(step_id)
            step_id = placed.step.parent_step_id if placed is not None else None

    def _call_start(self, call: ToolCall) -> int:
        if call.started_at is not None:
            return call.started_at
        placed = self._step_by_id.get(call.step_id) if call.step_id is not None else None
        return placed.step.started_at if placed is not None else self.run.started_at

    def read(self, text: str | None) -> ErrorText:
        """Prepare a text for matching; equal texts, which retries produce, are prepared once."""
        if not text:
            return _NO_TEXT
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = read_error(text)
        return known

    @cached_property
    def _last_good_call(self) -> dict[str, int]:
        """The position of the last call of each tool that really succeeded."""
        return {placed.call.tool_name: placed.position for placed in self.calls if is_good_call(placed.call)}

    @cached_property
    def _last_good_step(self) -> dict[tuple[str | None, str], int]:
        return {
            (placed.step.agent_name, placed.step.name): placed.position
            for placed in self.steps
            if placed.step.status is StepStatus.SUCCESS
        }

    def step_was_retried(self, placed: PlacedStep) -> bool:
        """Whether the same agent later did a step of the same name with success."""
        last = self._last_good_step.get((placed.step.agent_name, placed.step.name), -1)
        return last > placed.position

    def call_was_recovered(self, placed: PlacedCall) -> bool:
        """Whether the run got past a failed call: it, its tool or its failed step succeeded later."""
        if self.succeeded or is_good_call(placed.call):
            return True
        if self._last_good_call.get(placed.call.tool_name, -1) > placed.position:
            return True
        step = self.step(placed.call.step_id)
        return step is not None and step.step.status is StepStatus.FAILURE and self.step_was_retried(step)

    @cached_property
    def call_failures(self) -> tuple[Failure, ...]:
        """The errors of tool calls, in order of time."""
        return tuple(self._of_call(placed) for placed in self.calls if _reports_error(placed.call))

    @cached_property
    def step_failures(self) -> tuple[Failure, ...]:
        """The errors of steps, in order of time."""
        return tuple(self._of_step(placed) for placed in self.steps if _step_reports_error(placed.step))

    @cached_property
    def guardrail_failures(self) -> tuple[Failure, ...]:
        """What guardrails said, in order of time."""
        events = sorted(self.run.guardrail_events, key=lambda event: event.created_at)
        return tuple(self._of_event(event, position) for position, event in enumerate(events))

    @cached_property
    def run_failure(self) -> Failure | None:
        """The run's own error, if it reports one."""
        run = self.run
        message = _filled(run.error_message)
        error_type = _filled(run.error_type)
        if message is None and error_type is None:
            return None
        return Failure(
            kind=EvidenceKind.RUN,
            source=run,
            position=0,
            at_us=self.end_us,
            step_id=None,
            call_id=None,
            agent_name=None,
            tool_name=None,
            status_code=None,
            error_class=error_type,
            field="error_message" if message is not None else "error_type",
            text=self.read(message),
            is_hint=False,
            is_generic=is_generic_class(error_type) and is_generic_message(message),
            is_specific=not (is_generic_class(error_type) and is_generic_message(message)),
            recovered=self.succeeded,
        )

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """Every reported error: of calls, steps, guardrails and the run itself."""
        own = (self.run_failure,) if self.run_failure is not None else ()
        return (*self.call_failures, *self.step_failures, *self.guardrail_failures, *own)

    def _of_call(self, placed: PlacedCall) -> Failure:
        call = placed.call
        message, error_class = _filled(call.error_message), _filled(call.error_class)
        result = _filled(call.result_summary)
        # The result of a call that failed is read like a message if it is one; else it is content.
        if result is not None and len(result) > _SHORT_OUTPUT_CHARS and not is_error_in_result(result):
            result = None
        if call.status is not StepStatus.FAILURE and (error_class is not None or _is_error_code(call.status_code)):
            result = None
        text = message if message is not None else result
        field = _first_given(
            ("error_message", message),
            ("result_summary", result),
            ("error_class", error_class),
            ("status_code", call.status_code),
            ("status", call.status),
        )
        return Failure(
            kind=EvidenceKind.TOOL_CALL,
            source=call,
            position=placed.position,
            at_us=placed.ended_us,
            step_id=call.step_id,
            call_id=call.call_id,
            agent_name=placed.agent_name,
            tool_name=call.tool_name,
            status_code=call.status_code,
            error_class=error_class,
            field=field,
            text=self.read(text),
            is_hint=message is None,
            is_generic=is_generic_class(error_class) and is_generic_message(text),
            is_specific=_is_specific(error_class, message, text),
            recovered=self.call_was_recovered(placed),
            latency_ms=placed.latency_ms,
        )

    def _of_step(self, placed: PlacedStep) -> Failure:
        step = placed.step
        message, error_class = _filled(step.error_message), _filled(step.error_class)
        output = _filled(step.output_summary)
        # A long output is content, unless it begins as an error does.
        if output is not None and len(output) > _SHORT_OUTPUT_CHARS and not is_error_in_result(output):
            output = None
        text = message if message is not None else output
        field = _first_given(
            ("error_message", message),
            ("output_summary", output),
            ("error_class", error_class),
            ("status", step.status),
        )
        return Failure(
            kind=EvidenceKind.STEP,
            source=step,
            position=placed.position,
            at_us=placed.ended_us,
            step_id=step.step_id,
            call_id=None,
            agent_name=step.agent_name,
            tool_name=None,
            status_code=None,
            error_class=error_class,
            field=field,
            text=self.read(text),
            is_hint=message is None,
            is_generic=is_generic_class(error_class) and is_generic_message(text),
            is_specific=_is_specific(error_class, message, text),
            recovered=self.succeeded or self.step_was_retried(placed),
            latency_ms=step.effective_latency_ms,
        )

    @cached_property
    def _call_by_id(self) -> dict[str, PlacedCall]:
        found: dict[str, PlacedCall] = {}
        for placed in self.calls:
            found.setdefault(placed.call.call_id, placed)
        return found

    def call(self, call_id: str | None) -> PlacedCall | None:
        """Return the tool call with this id, if the run has it."""
        return self._call_by_id.get(call_id) if call_id is not None else None

    def _of_event(self, event: GuardrailEvent, position: int) -> Failure:
        call = self.call(event.call_id)
        step_id = event.step_id if event.step_id is not None else call.call.step_id if call is not None else None
        message = _filled(event.message)
        return Failure(
            kind=EvidenceKind.GUARDRAIL_EVENT,
            source=event,
            position=position,
            at_us=event.created_at,
            step_id=step_id,
            call_id=event.call_id,
            agent_name=self.agent_of(step_id),
            tool_name=call.call.tool_name if call is not None else None,
            status_code=None,
            error_class=None,
            field="message" if message is not None else "type",
            text=self.read(message),
            is_hint=False,
            is_generic=False,
            is_specific=True,
            recovered=self.succeeded or (call is not None and self.call_was_recovered(call)),
        )


def is_good_call(call: ToolCall) -> bool:
    """Tell whether a call succeeded by all that it reports, not by its status alone."""
    return call.status is StepStatus.SUCCESS and not _reports_error(call)


def _first_given(*fields: tuple[str, object]) -> str:
    """Return the name of the first field that is not None."""
    return next(name for name, value in fields if value is not None)


def _is_specific(error_class: str | None, message: str | None, text: str | None) -> bool:
    """Whether class or message say what kind of error it was; an output counts if it is an error report."""
    if not is_generic_class(error_class) or not is_generic_message(message):
        return True
    return message is None and not is_generic_message(text) and is_error_in_result(text or "")


def _is_error_code(status_code: int | None) -> bool:
    """Whether a status code belies a call that claims success; asking for what is not there may be one."""
    return status_code is not None and 400 <= status_code < 600 and status_code not in (404, 410)


def _reports_error(call: ToolCall) -> bool:
    """Whether a call failed, or says that it succeeded while it carries an error."""
    if call.status is StepStatus.FAILURE or _filled(call.error_class) or _filled(call.error_message):
        return True
    if call.status is not StepStatus.SUCCESS:
        return False
    return _is_error_code(call.status_code) or is_error_in_result(call.result_summary or "")


def _step_reports_error(step: Step) -> bool:
    if step.status is StepStatus.FAILURE or _filled(step.error_class) or _filled(step.error_message):
        return True
    if step.status is not StepStatus.SUCCESS:
        return False
    return is_error_in_result(step.output_summary or "")
