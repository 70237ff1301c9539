"""Schemas of agent runs: the requests that clients post and the responses that the API returns.

The names and the meanings of the fields are those of AgentOps. Unknown fields are stored at every level and returned.
All times are int microseconds in Python and RFC 3339 in JSON (`core/clock.py`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, field_validator, model_validator

from relab.core.clock import ReportedTime, Timestamp, format_time
from relab.core.ids import ExternalId
from relab.core.json import digest
from relab.telemetry.agent_models import ReportedAgent, RunAgent
from relab.telemetry.cost_models import Cost, CostEstimate
from relab.telemetry.outcome_models import OutcomeEvidence, OutcomeRule, RunOutcome

RESERVED_RUN_IDS = frozenset({"rca-runs"})
"""`/agent-runs/rca-runs/{id}` is a route, so no run may have that name."""

MAX_INT64 = 2**63 - 1
MAX_NAME_CHARS = 500
MAX_SHORT_TEXT_CHARS = 1_000
MAX_STATUS_CODE = 99_999
MAX_ITEMS = 100_000
"""The maximum number of steps, of tool calls and of events in one run. In memory an item takes many times its
bytes, so that a limit on the size of the body alone would not limit the memory of a run."""

# For indexed columns: at four bytes per character, the value must fit into an index entry of PostgreSQL (2,704 bytes).
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
ShortText = Annotated[str, Field(max_length=MAX_SHORT_TEXT_CHARS)]
Count = Annotated[int, Field(ge=0, le=MAX_INT64)]
LatencyMs = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Item = TypeVar("Item")
Timed = TypeVar("Timed", bound="Step | ToolCall | RunFields")
Limited = Annotated[list[Item], Field(max_length=MAX_ITEMS)]
# Validation stops at the first invalid item: one message for each of millions of invalid items would take gigabytes.
Items = Annotated[Limited[Item], FailFast()]


def _or_default(default: Any, kind: Any) -> BeforeValidator:
    """Return a validator that replaces null by `default`: many clients send null for a field that they do not fill.

    `kind` is the type that the API's JSON Schema shows for the field: the field's type, or null.
    """
    return BeforeValidator(lambda value: default if value is None else value, json_schema_input_type=kind)


Retries = Annotated[Count, _or_default(0, Count | None)]


class RunStatus(StrEnum):
    """The status of a run as its reporter (its sender) states it; `incomplete` if the end was never reported."""

    SUCCESS = "success"
    FAILURE = "failure"
    RUNNING = "running"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    """The end of the run was never reported, and its trace has received nothing for a configured time."""


class StepStatus(StrEnum):
    """The status of a step or a tool call, as the reporter (the sender of the run) states it."""

    SUCCESS = "success"
    FAILURE = "failure"
    RUNNING = "running"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class TelemetryModel(BaseModel):
    """Base of the values that clients post: unknown fields are kept, and instances are immutable.

    Types are not converted, except in fields that allow it, such as `status` (a text becomes an enum member).
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


def _check_order(timed: Timed) -> Timed:
    start, end = timed.started_at, timed.ended_at
    if start is not None and end is not None and end < start:
        times = f"ended_at {format_time(end)} is before started_at {format_time(start)}"
        raise ValueError(f"{times}; send an end that is not before the start, or no ended_at")
    return timed


def _latency_ms(reported: float | None, started_at: int | None, ended_at: int | None) -> float | None:
    """Return the reported latency in ms, or if there is none, the time from start to end; None if neither is known."""
    if reported is not None or started_at is None or ended_at is None:
        return reported
    return (ended_at - started_at) / 1_000


class Step(TelemetryModel):
    """One step of an agent's run, such as a plan, a turn or a call to a model.

    `input_summary` and `output_summary` are the step's input and output as text.
    """

    step_id: ExternalId
    name: ShortText
    status: Annotated[StepStatus, Field(strict=False)]
    started_at: ReportedTime
    ended_at: ReportedTime | None = None
    input_summary: str | None = None
    output_summary: str | None = None
    retries: Retries = 0
    latency_ms: LatencyMs | None = None
    agent_name: ShortText | None = Field(None, description="Who acted, in a run of several agents.")
    parent_step_id: ExternalId | None = None
    error_class: ShortText | None = None
    error_message: str | None = None

    _ends_after_start = model_validator(mode="after")(_check_order)

    @property
    def effective_latency_ms(self) -> float | None:
        """The reported latency in ms; without one, the time from start to end; None if neither is known."""
        return _latency_ms(self.latency_ms, self.started_at, self.ended_at)


class ToolCall(TelemetryModel):
    """One call of a tool by an agent.

    A program that does not send the arguments may send a digest of them (`args_hash`).
    """

    call_id: ExternalId
    step_id: ExternalId | None = None
    tool_name: ShortText
    status: Annotated[StepStatus, Field(strict=False)]
    args_json: Any = None
    args_hash: ShortText | None = None
    result_summary: str | None = None
    error_class: ShortText | None = None
    error_message: str | None = None
    status_code: Annotated[int, Field(ge=0, le=MAX_STATUS_CODE)] | None = None
    retries: Retries = 0
    latency_ms: LatencyMs | None = None
    # In the timeline, a missing start is replaced by the start of the step; if that is not known, by that of the run.
    started_at: ReportedTime | None = None
    ended_at: ReportedTime | None = None

    _ends_after_start = model_validator(mode="after")(_check_order)

    @property
    def effective_latency_ms(self) -> float | None:
        """The reported latency in ms; without one, the time from start to end; None if neither is known."""
        return _latency_ms(self.latency_ms, self.started_at, self.ended_at)

    @property
    def args_fingerprint(self) -> str | None:
        """A digest of the arguments; the reported `args_hash` if the arguments are not known; None without both.

        Calls that report equal arguments have equal digests.
        """
        return digest(self.args_json) if self.args_json is not None else self.args_hash


class GuardrailEvent(TelemetryModel):
    """One event of a guardrail, such as a policy or a content filter.

    It may name the step or the tool call that it is about.
    """

    event_id: ExternalId
    type: ShortText
    message: str
    step_id: ExternalId | None = None
    call_id: ExternalId | None = None
    created_at: ReportedTime


_Agents = Annotated[tuple[ReportedAgent, ...], Field(strict=False, max_length=MAX_ITEMS)]


class RunFields(TelemetryModel):
    """The fields of a run without its steps, tool calls and guardrail events: the base class of all models of runs."""

    run_id: ExternalId
    agent_name: Name
    agent_version: ShortText | None = None
    model: ShortText | None = None
    environment: ShortText | None = None
    started_at: ReportedTime
    ended_at: ReportedTime | None = None
    status: Annotated[RunStatus, Field(strict=False)]
    error_type: ShortText | None = None
    error_message: str | None = None
    trace_id: ShortText | None = None
    correlation_ids: Annotated[Items[ShortText], _or_default([], Limited[ShortText] | None)] = []
    conversation_id: Name | None = Field(None, description="Groups the runs of one conversation or session.")
    task_id: ShortText | None = Field(None, description="What the run was asked to do, shared by repeats of it.")
    prompt_hash: ShortText | None = Field(None, description="Identifies the prompt, so that versions of it compare.")
    question: str | None = Field(None, description="What the user asked the agent, as text.")
    answer: str | None = Field(None, description="The final answer that the agent gave, as text.")
    cost: Cost | None = None
    agents: Annotated[_Agents, _or_default((), Limited[ReportedAgent] | None)] = Field(
        (), description="The agents of the run. If empty, relab finds them by the `agent_name` of steps and calls."
    )

    _ends_after_start = model_validator(mode="after")(_check_order)


class AgentRun(RunFields):
    """One run of an agent with its steps, tool calls and guardrail events: the body of `POST /agent-runs`."""

    steps: Annotated[Items[Step], _or_default([], Limited[Step] | None)] = []
    tool_calls: Annotated[Items[ToolCall], _or_default([], Limited[ToolCall] | None)] = []
    guardrail_events: Annotated[Items[GuardrailEvent], _or_default([], Limited[GuardrailEvent] | None)] = []

    @field_validator("run_id")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if value in RESERVED_RUN_IDS:
            raise ValueError(f"{value!r} is reserved: it is part of a URL of this API")
        return value

    def call_starts(self) -> list[int]:
        """Return the start of each call in `tool_calls`, in microseconds since 1970.

        A call without a start gets the start of its step; if that is not known, it gets the start of the run.
        """
        step_starts = {step.step_id: step.started_at for step in self.steps}
        return [
            step_starts.get(call.step_id or "", self.started_at) if call.started_at is None else call.started_at
            for call in self.tool_calls
        ]


class RunCounts(BaseModel):
    """The numbers of steps, tool calls and guardrail events of a run."""

    steps: int
    tool_calls: int
    guardrail_events: int

    @property
    def items(self) -> int:
        """The number of all items in the run's timeline."""
        return self.steps + self.tool_calls + self.guardrail_events


class RunContent(BaseModel):
    """The hash of a stored run's current content, and the time when a run with this id was first received."""

    model_config = ConfigDict(frozen=True)

    content_hash: str
    received_at: int


class RunHeader(RunFields):
    """A stored run without its steps, tool calls and guardrail events, as the API returns it.

    `source` is `otlp` if the run was computed from spans, and `json` if the complete run was posted.
    """

    model_config = ConfigDict(strict=False, json_schema_serialization_defaults_required=True)

    source: Literal["json", "otlp"]
    started_at: Timestamp
    ended_at: Timestamp | None
    outcome: RunOutcome = Field(description="What became of the run; the status is only what its reporter says.")
    outcome_rule: OutcomeRule | None = Field(description="The rule that decided the outcome.")
    outcome_evidence: list[OutcomeEvidence] = Field(description="Quotations of the run that show the outcome.")
    agents: tuple[RunAgent, ...] = Field(
        (),
        description="The agents that the reporter lists, in its order, also if it is only one; else the agents with "
        "steps or tool calls, in order of time, if there are several. Each has its outcome.",
    )
    category: str | None = Field(description="The failure category that the newest analysis of this content found.")
    category_confidence: str | None = Field(description="The confidence of that category: high, medium or low.")
    cost_estimate: CostEstimate | None = Field(
        None,
        description="The cost of the tokens by relab's table of prices, or what is missing for it. Null if the reporter "
        "gave the cost, or neither prompt tokens, nor tokens by model, nor `calls_without_tokens`.",
    )
    counts: RunCounts
    content_hash: str
    received_at: Timestamp
    updated_at: Timestamp


class IngestReceipt(BaseModel):
    """The result of storing a posted run."""

    run_id: str
    created: bool = Field(description="True for a new run, false for one that was replaced.")
    content_hash: str
    counts: RunCounts


class RunFilter(BaseModel):
    """A filter of runs. A run must match every field that is not None.

    - `started_after_us` (included) and `started_before_us` (excluded) are in microseconds since 1970.
    - `behaviour` is the name of a behaviour (a pattern that a rule describes) that was found in the run.
    - `text` must occur in an id, the agent's name or an error of the run, in the name or an error of a failed step or
      tool call, or in a guardrail event; case is ignored. Only the first 8,000 characters of these texts are searched.
    - `all_traces` is the exception: true adds the traces without agent activity, which are left out otherwise.
    - Each other field must equal the run's field with the same name.
    """

    model_config = ConfigDict(frozen=True)

    agent_name: str | None = None
    agent_version: str | None = None
    status: RunStatus | None = None
    outcome: RunOutcome | None = None
    environment: str | None = None
    category: str | None = None
    task_id: str | None = None
    conversation_id: str | None = None
    behaviour: str | None = None
    started_after_us: int | None = None
    started_before_us: int | None = None
    text: str | None = None
    all_traces: bool | None = None


class RunPage(BaseModel):
    """One page of runs, newest first."""

    items: list[RunHeader]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null at the end.")


class TimelineKind(StrEnum):
    """The kind of a timeline item; items with equal times are sorted in the order of these kinds."""

    STEP = "step"
    TOOL_CALL = "tool_call"
    GUARDRAIL_EVENT = "guardrail_event"


STEP, CALL, EVENT = 0, 1, 2
"""The kinds of timeline items, as indexes of `ITEM_KINDS`; these numbers are stored."""


class ItemKind(NamedTuple):
    """A kind of timeline item (step, tool call or guardrail event), and the field names of the items of this kind.

    `list_name` is the run's field that lists the items of this kind. `id_field` and `title_field` are the names of the
    fields that hold an item's id and an item's title.
    """

    name: TimelineKind
    list_name: Literal["steps", "tool_calls", "guardrail_events"]
    id_field: str
    title_field: str


ITEM_KINDS = (
    ItemKind(TimelineKind.STEP, "steps", "step_id", "name"),
    ItemKind(TimelineKind.TOOL_CALL, "tool_calls", "call_id", "tool_name"),
    ItemKind(TimelineKind.GUARDRAIL_EVENT, "guardrail_events", "event_id", "type"),
)


class TimelineItem(BaseModel):
    """One entry of a run's timeline: a step, a tool call or a guardrail event; `ref_id` is its id.

    `title` is the name of the step or of the tool, or the type of the event. `at` is the time of the event, or the
    start of the step or call. If a call has no start, `at` is the start of its step, or else the start of the run.
    """

    kind: TimelineKind
    ref_id: str
    at: Timestamp
    step_id: str | None
    call_id: str | None
    title: str
    status: str | None
    data: dict[str, Any] = Field(description="The step, tool call or guardrail event as it was sent.")


class TimelinePage(BaseModel):
    """One page of a timeline, oldest first; `total` is the number of items in the whole timeline."""

    run_id: str
    items: list[TimelineItem]
    total: int
    next_cursor: str | None
