"""An index of one run: steps and calls in order of time, their agents, errors, and whether the run recovered from them.

The index (`RunView`) is built once per analysis. Every detector reads it, so that none has to search the whole run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property

from relab.rca.evidence.collector import quotable_field
from relab.rca.evidence.error_text import ErrorReader
from relab.rca.evidence.failures import (
    Failure,
    PlacedCall,
    PlacedStep,
    call_reports_error,
    first_given,
    is_specific_error,
    shortest_at,
    status_code_of,
    step_reports_error,
)
from relab.rca.evidence.generic_errors import is_generic_class, is_generic_message
from relab.rca.evidence.roles import is_given
from relab.rca.models import EvidenceKind
from relab.telemetry.log_models import LogLine
from relab.telemetry.models import AgentRun, GuardrailEvent, RunStatus, Step, StepStatus, ToolCall
from relab.telemetry.outcome import (
    Case,
    OutcomeReport,
    OutcomeRule,
    RunOutcome,
    activities_of,
    filled,
    is_cancellation,
    is_error_code,
    is_error_in_result,
    judge,
)
from relab.telemetry.past_models import PastRun

_SHORT_OUTPUT_CHARS = 300
"""A longer output of a failed step or call is content, not an error message, unless it begins like an error report."""


class RunView:
    """An index of one run, which every detector reads.

    Args:
        run: the run.
        history: summaries of other runs of the agent, for the comparison of versions.
        logs: the warnings and errors in the log of the run's trace, in order of time.

    Attributes:
        steps: the run's steps in order of start time.
        calls: the run's tool calls in order of start time.
        outcome: whether the run succeeded, and the rule that decided this.
    """

    def __init__(self, run: AgentRun, history: Sequence[PastRun] = (), logs: Sequence[LogLine] = ()) -> None:
        self.run = run
        self.logs = logs
        self.history = history
        ordered = sorted(run.steps, key=lambda step: step.started_at)
        self.steps = tuple(PlacedStep(step, position) for position, step in enumerate(ordered))
        self._step_by_id: dict[str, PlacedStep] = {}
        for placed in self.steps:
            self._step_by_id.setdefault(placed.step.step_id, placed)
        timed = sorted(zip(run.call_starts(), run.tool_calls, strict=True), key=lambda pair: pair[0])
        self.calls = tuple(
            PlacedCall(call, position, start, self.agent_of(call.step_id))
            for position, (start, call) in enumerate(timed)
        )
        self._readers = {kind: ErrorReader() for kind in EvidenceKind}
        case = Case(run, activities_of(run))
        self._recovery = case.recovery
        self.outcome: OutcomeReport = judge(case)

    @property
    def failed(self) -> bool:
        """Whether the run failed, or completed with unrecovered errors."""
        return self.outcome.value.is_failure

    @property
    def succeeded(self) -> bool:
        """Whether the outcome of the run is `SUCCEEDED`.

        The outcome can differ from the status that the run reports.
        """
        return self.outcome.value is RunOutcome.SUCCEEDED

    @cached_property
    def end_us(self) -> int:
        """The end of the run in microseconds since 1970.

        If the end is not reported, it is the latest time of a step, call or event.
        """
        if self.run.ended_at is not None:
            return self.run.ended_at
        moments = [self.run.started_at]
        moments.extend(placed.ended_us for placed in self.steps)
        moments.extend(placed.ended_us for placed in self.calls)
        moments.extend(event.created_at for event in self.run.guardrail_events)
        return max(moments)

    def is_received(self, step: Step) -> bool:
        """Return whether a step is a message that an agent receives from a user, a system prompt or a tool."""
        return is_given(step.agent_name or step.name) or self.is_tool_result(step)

    def is_tool_result(self, step: Step) -> bool:
        """Return whether a step only repeats the result of a tool call.

        Its name is the name of the tool, and its output is the result of the call. It names no agent, or the tool as
        the agent.
        """
        return step.agent_name in (None, step.name) and (step.name, step.output_summary) in self._results

    @cached_property
    def _results(self) -> frozenset[tuple[str, str | None]]:
        return frozenset((call.tool_name, call.result_summary) for call in self.run.tool_calls if call.result_summary)

    def step(self, step_id: str | None) -> PlacedStep | None:
        """Return the step with this id; None if `step_id` is None or the run has no such step."""
        return self._step_by_id.get(step_id) if step_id is not None else None

    def agent_of(self, step_id: str | None) -> str | None:
        """Return the name of a step's agent; None if the step names no agent, or if the run has no such step."""
        placed = self.step(step_id)
        return placed.step.agent_name if placed is not None else None

    @cached_property
    def _parents(self) -> dict[str, str]:
        """`{step id: id of its parent step}`. Links between steps that would close a cycle are left out."""
        parents: dict[str, str] = {}
        settled: set[str] = set()
        for placed in self.steps:
            path: set[str] = set()
            here = placed
            while here.step.step_id not in settled:
                path.add(here.step.step_id)
                outer = self.step(here.step.parent_step_id)
                if outer is None or outer.step.step_id in path:
                    break
                parents[here.step.step_id] = outer.step.step_id
                here = outer
            settled |= path
        return parents

    def parent_of(self, step_id: str | None) -> str | None:
        """Return the id of a step's parent step.

        Return None if the step has no parent, or if the link to the parent would close a cycle.
        """
        return self._parents.get(step_id) if step_id is not None else None

    def ancestors(self, step_id: str | None) -> Iterator[str]:
        """Yield `step_id` and the ids of its ancestors, innermost first; yield nothing if `step_id` is None."""
        while step_id is not None:
            yield step_id
            step_id = self.parent_of(step_id)

    def step_was_recovered(self, placed: PlacedStep) -> bool:
        """Return whether the run recovered from the failure of a step.

        The run recovered if it succeeded, or if a later step succeeded in place of the failed step. Whether the step
        failed is not checked.
        """
        return self.succeeded or self._recovery.step_was_recovered(placed.position)

    def call_was_recovered(self, placed: PlacedCall) -> bool:
        """Return whether the run recovered from the failure of a call: the run succeeded, or a later attempt succeeded.

        The result is also true if the call did not fail.
        """
        return self.succeeded or self._recovery.call_was_recovered(placed.position)

    @cached_property
    def call_failures(self) -> tuple[Failure, ...]:
        """The errors of tool calls, in order of time."""
        return tuple(
            self._of_call(placed)
            for placed in self.calls
            if call_reports_error(placed.call) and not self._was_stopped(placed.call)
        )

    @cached_property
    def step_failures(self) -> tuple[Failure, ...]:
        """The errors of steps, in order of time."""
        return tuple(
            self._of_step(placed)
            for placed in self.steps
            if step_reports_error(placed.step) and not self._was_stopped(placed.step)
        )

    def _was_stopped(self, item: Step | ToolCall) -> bool:
        """Return whether a step or call ended only because the run was cancelled. Such an end is not an error."""
        is_only_stopped = item.error_class is None or is_cancellation(item.error_class)
        return item.status is StepStatus.CANCELLED and is_only_stopped and self.outcome.rule is OutcomeRule.CANCELLED

    @cached_property
    def guardrail_failures(self) -> tuple[Failure, ...]:
        """The guardrail events of the run as failures, in order of time."""
        events = sorted(self.run.guardrail_events, key=lambda event: event.created_at)
        return tuple(self._of_event(event, position) for position, event in enumerate(events))

    @cached_property
    def run_failure(self) -> Failure | None:
        """The error that the run itself reports, apart from those of its steps and calls; None if it reports none.

        The cancellation of a run is not an error.
        """
        run = self.run
        message = filled(run.error_message)
        error_type = filled(run.error_type)
        if message is None and error_type is None:
            return None
        if run.status is RunStatus.CANCELLED and (error_type is None or is_cancellation(error_type)):
            return None
        return Failure(
            kind=EvidenceKind.RUN,
            source=run,
            position=0,
            at_us=self.end_us,
            step_id=None,
            error_class=error_type,
            field="error_message" if message is not None else "error_type",
            text=self._readers[EvidenceKind.RUN].read(message),
            is_generic=is_generic_class(error_type) and is_generic_message(message),
            is_specific=not (is_generic_class(error_type) and is_generic_message(message)),
            recovered=self.succeeded,
        )

    @cached_property
    def log_failures(self) -> tuple[Failure, ...]:
        """The errors in the run's log, in order of time, each assigned to a failed call or step if possible.

        A line with the id of a failed call or step is assigned to it. A line without the id of any call or step is
        assigned to the failed call or step in progress at that time; of several, to the one with the shortest duration.

        All other lines are left out. Exception: if the run failed, but none of its calls and steps did, all lines are
        returned without a call or step.
        """
        errors = [line for line in self.logs if line.is_error]
        if not errors:
            return ()
        failed = (*self.call_failures, *self.step_failures)
        by_id = {failure.call_id or failure.step_id: failure for failure in reversed(failed)}
        known = self._step_by_id.keys() | self._call_by_id.keys()
        going = shortest_at(failed, (line.at for line in errors if line.span_id not in known))
        found = []
        for position, line in enumerate(errors):
            # A line of a call or step that did not fail is left out: programs log errors that they then
            # handle.
            place = by_id.get(line.span_id) if line.span_id in known else going.get(line.at)
            if place is not None or (self.failed and not failed):
                found.append(self._of_line(line, position, place))
        return tuple(found)

    def _of_line(self, line: LogLine, position: int, place: Failure | None) -> Failure:
        return Failure(
            kind=EvidenceKind.LOG_LINE,
            source=line,
            position=position,
            at_us=line.at or self.end_us,
            step_id=place.step_id if place is not None else None,
            call_id=place.call_id if place is not None else None,
            agent_name=place.agent_name if place is not None else None,
            tool_name=place.tool_name if place is not None else None,
            field="message",
            text=self._readers[EvidenceKind.LOG_LINE].read(line.message),
            is_generic=is_generic_message(line.message),
            is_specific=not is_generic_message(line.message),
            recovered=self.succeeded if place is None else place.recovered,
        )

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """All reported errors: first the errors of calls, then of steps, guardrails, the log, and the run itself."""
        own = (self.run_failure,) if self.run_failure is not None else ()
        return (*self.call_failures, *self.step_failures, *self.guardrail_failures, *self.log_failures, *own)

    @cached_property
    def failures_by_shape(self) -> tuple[tuple[Failure, ...], ...]:
        """All reported errors, in groups; every detector classifies all errors of one group in the same way.

        The errors of a group have an equal `Failure.shape`: among others, an equal kind of object, status code, error
        class and text (except ids and numbers).
        """
        groups: dict[Hashable, list[Failure]] = {}
        for failure in self.failures:
            groups.setdefault(failure.shape, []).append(failure)
        return tuple(tuple(group) for group in groups.values())

    def _of_call(self, placed: PlacedCall) -> Failure:
        call = placed.call
        has_error = filled(call.error_class) is not None or is_error_code(call.status_code)
        is_ignored = has_error and call.status is not StepStatus.FAILURE
        return self._of_item(
            placed,
            call,
            ("result_summary", None if is_ignored else filled(call.result_summary)),
            agent_name=placed.agent_name,
            status_code=call.status_code,
            recovered=self.call_was_recovered(placed),
        )

    def _of_step(self, placed: PlacedStep) -> Failure:
        step = placed.step
        return self._of_item(
            placed,
            step,
            ("output_summary", filled(step.output_summary)),
            agent_name=step.agent_name,
            status_code=status_code_of(step),
            recovered=self.step_was_recovered(placed),
        )

    def _of_item(
        self,
        placed: PlacedStep | PlacedCall,
        item: Step | ToolCall,
        output: tuple[str, str | None],
        *,
        agent_name: str | None,
        status_code: int | None,
        recovered: bool,
    ) -> Failure:
        """Return the error of a step or call; `output` is the name and the text of the field with its output."""
        call = item if isinstance(item, ToolCall) else None
        kind = EvidenceKind.STEP if call is None else EvidenceKind.TOOL_CALL
        message, error_class, (output_field, result) = filled(item.error_message), filled(item.error_class), output
        # A long output is content and not a message, unless it begins like an error report.
        if result is not None and len(result) > _SHORT_OUTPUT_CHARS and not is_error_in_result(result):
            result = None
        text = message if message is not None else result
        return Failure(
            kind=kind,
            source=item,
            position=placed.position,
            at_us=placed.ended_us,
            step_id=item.step_id,
            call_id=call.call_id if call is not None else None,
            agent_name=agent_name,
            tool_name=call.tool_name if call is not None else None,
            status_code=status_code,
            error_class=error_class,
            field=first_given(
                ("error_message", message),
                (output_field, result),
                ("error_class", error_class),
                ("status_code", status_code),
                ("status", item.status),
            ),
            text=self._readers[kind].read(text),
            is_hint=message is None,
            is_generic=is_generic_class(error_class) and is_generic_message(text),
            is_specific=is_specific_error(error_class, message, text),
            recovered=recovered,
            latency_ms=item.effective_latency_ms,
        )

    @cached_property
    def _call_by_id(self) -> dict[str, PlacedCall]:
        found: dict[str, PlacedCall] = {}
        for placed in self.calls:
            found.setdefault(placed.call.call_id, placed)
        return found

    def call(self, call_id: str | None) -> PlacedCall | None:
        """Return the tool call with this id; None if `call_id` is None or the run has no such call."""
        return self._call_by_id.get(call_id) if call_id is not None else None

    def _of_event(self, event: GuardrailEvent, position: int) -> Failure:
        call = self.call(event.call_id)
        step_id = event.step_id if event.step_id is not None else call.call.step_id if call is not None else None
        message = filled(event.message)
        return Failure(
            kind=EvidenceKind.GUARDRAIL_EVENT,
            source=event,
            position=position,
            at_us=event.created_at,
            step_id=step_id,
            call_id=event.call_id,
            agent_name=self.agent_of(step_id),
            tool_name=call.call.tool_name if call is not None else None,
            field=quotable_field(event, "message", "type", "event_id"),
            text=self._readers[EvidenceKind.GUARDRAIL_EVENT].read(message),
            is_specific=True,
            recovered=self.succeeded or (call is not None and self.call_was_recovered(call)),
        )
