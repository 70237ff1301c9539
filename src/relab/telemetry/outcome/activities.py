"""Convert the steps and tool calls of a run into activities, the form in which the rules for its outcome read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple

from relab.telemetry.models import CALL, STEP, AgentRun, StepStatus
from relab.telemetry.outcome.reported_errors import reports_error
from relab.telemetry.outcome_models import AgentRelation

AGENT_ROLE = "agent"
MODEL_ROLE = "llm"
HANDOVER_ROLE = "handoff"
UNKNOWN_ROLE = "other"
"""The role of the whole trace if it has no agent activity."""


class RunActivity(NamedTuple):
    """One step or tool call of a run, with the fields that the rules of the run's outcome read.

    Attributes:
        kind: `STEP` or `CALL`.
        ref_id: the id of the step or call.
        at_us: the start, in microseconds since 1970. For a call without a start, the start of its step; if that is not
            known, the start of the run.
        position: the sort key of activities with the same kind and start.
        end_us: the end, in microseconds since 1970; equal to `at_us` if not known.
        name: the name of the step or of the tool.
        agent: the agent of the step or call; without one, the agent of the nearest enclosing step that has one; None if
            not known.
        role: the role of the span from which a step was computed, such as `agent` or `llm`; None if not known.
        parent: the id of the enclosing step; None if there is none.
        result: the output of a step, or the result of a call.
        arguments: the arguments of a call; None if not reported.
        args_hash: the reported digest of the arguments; None if not reported.
        has_error: whether the step or call reports an error (`reports_error`).
        finish_reasons: the reasons why the model ended its answer.
        hands_over: whether the step or call hands the conversation over to another agent.
        has_tokens: whether the step reports the tokens that a model wrote.
    """

    kind: int
    ref_id: str
    at_us: int
    position: int
    end_us: int
    name: str
    agent: str | None
    role: str | None
    parent: str | None
    status: StepStatus
    error_class: str | None
    error_message: str | None
    status_code: int | None
    result: str | None
    has_error: bool
    arguments: Any = None
    args_hash: str | None = None
    finish_reasons: tuple[str, ...] = ()
    hands_over: bool = False
    has_tokens: bool = False

    @property
    def order(self) -> tuple[int, int, int, str]:
        """A sort key: first the start, then steps before tool calls, then the position in the reported list."""
        return (self.at_us, self.kind, self.position, self.ref_id)

    @property
    def is_good(self) -> bool:
        """Whether the step or call succeeded and reports no error."""
        return self.status is StepStatus.SUCCESS and not self.has_error


def step_activity(read: Callable[[str], Any], at_us: int, position: int, latency_ms: float | None) -> RunActivity:
    """Return a step as an activity. The rules for the outcome of a run read steps and tool calls in this form.

    Args:
        read: takes the name of a field and returns its value in the step; None if the step does not have the field.
        at_us: the start of the step, in microseconds since 1970.
        position: the sort key among steps with the same start.
        latency_ms: the duration of the step; None if not known.
    """
    status, error_class, error_message = _STATUSES[read("status")], read("error_class"), read("error_message")
    reasons = read("finish_reasons") or read("finish_reason")
    # By position, because keyword arguments would double the time, and this function is called for each item of each
    # run.
    return RunActivity(
        STEP,
        read("step_id"),
        at_us,
        position,
        at_us + int(latency_ms * 1_000) if latency_ms else at_us,
        read("name"),
        read("agent_name"),
        _text(read("span_kind")),
        read("parent_step_id"),
        status,
        error_class,
        error_message,
        None,
        read("output_summary"),
        # The output is not checked: if it begins with "Error:", this may be a text that a model wrote.
        reports_error(status, error_class, error_message, None),
        None,
        None,
        _texts(reasons) if reasons else (),
        read("span_kind") == HANDOVER_ROLE,
        read("tokens_completion") is not None,
    )


def call_activity(read: Callable[[str], Any], at_us: int, position: int, latency_ms: float | None) -> RunActivity:
    """Return a tool call as an activity. The rules for the outcome of a run read steps and tool calls in this form.

    Args:
        read: takes the name of a field and returns its value in the call; None if the call does not have the field.
        at_us: the start of the call, in microseconds since 1970.
        position: the sort key among calls with the same start.
        latency_ms: the duration of the call; None if it is not known.
    """
    status, error_class, error_message = _STATUSES[read("status")], read("error_class"), read("error_message")
    result, status_code = read("result_summary"), read("status_code")
    return RunActivity(
        CALL,
        read("call_id"),
        at_us,
        position,
        at_us + int(latency_ms * 1_000) if latency_ms else at_us,
        read("tool_name"),
        _text(read("agent_name")),
        None,
        read("step_id"),
        status,
        error_class,
        error_message,
        status_code,
        result,
        reports_error(status, error_class, error_message, result, status_code),
        read("args_json"),
        read("args_hash"),
        (),
        read("relation") == AgentRelation.HANDED_OVER,
    )


_STATUSES: Final[Mapping[str, StepStatus]] = {status.value: status for status in StepStatus}
"""Several times as fast as a call of the class."""


def activities_of(run: AgentRun) -> list[RunActivity]:
    """Return the steps and tool calls of a run as activities, in order of time."""
    found = [
        step_activity(_reader(step), step.started_at, position, step.effective_latency_ms)
        for position, step in enumerate(run.steps)
    ]
    found += [
        call_activity(_reader(call), at_us, position, call.effective_latency_ms)
        for position, (call, at_us) in enumerate(zip(run.tool_calls, run.call_starts(), strict=True))
    ]
    return in_order(found)


_ORDER: Final = itemgetter(*map(RunActivity._fields.index, ("at_us", "kind", "position", "ref_id")))
"""`RunActivity.order`, several times as fast."""


def in_order(activities: Iterable[RunActivity]) -> list[RunActivity]:
    """Return the activities sorted by time, each with its agent if it is known.

    An activity that names no agent gets the agent of the nearest enclosing step that names one.
    """
    ordered = sorted(activities, key=_ORDER)
    steps: dict[str, RunActivity] = {}
    for activity in ordered:
        if activity.kind == STEP:
            steps.setdefault(activity.ref_id, activity)
    if all(step.agent is None for step in steps.values()):
        return ordered
    agents: dict[str, str | None] = {}
    return [
        activity._replace(agent=_agent_around(activity.parent, steps, agents)) if activity.agent is None else activity
        for activity in ordered
    ]


def _agent_around(step_id: str | None, steps: Mapping[str, RunActivity], agents: dict[str, str | None]) -> str | None:
    """Return the agent of the step `step_id`; without one, the agent of the nearest enclosing step that has one.

    Return None if there is no such step.

    Args:
        step_id: the id of the step; None returns None.
        steps: `{step id: step}` of the run.
        agents: a cache, read and filled here: `{step id: result of this function}`.
    """
    path: list[str] = []
    agent: str | None = None
    while step_id is not None and step_id in steps:
        if step_id in agents:
            agent = agents[step_id]
            break
        # Stored before the result is known, so that the search ends if parents form a cycle.
        agents[step_id] = agent = steps[step_id].agent
        path.append(step_id)
        if agent is not None:
            break
        step_id = steps[step_id].parent
    agents.update(dict.fromkeys(path, agent))
    return agent


def _reader(item: Any) -> Callable[[str], Any]:
    """Return a function that takes the name of a field and returns its value in `item`, or None without such a field.

    If `item` is a Pydantic model, its extra fields, which its class does not define, are read too.
    """
    return lambda name: getattr(item, name, None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, str))
