"""The rules that describe behaviours: the schema of a file of rules."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from relab.rca.behaviour_models import BEHAVIOUR_PATTERN
from relab.rca.behaviours.patterns import Pattern
from relab.telemetry.models import StepStatus

MAX_RULES: Final = 100
MAX_CONDITIONS: Final = 30
MAX_SENTENCE_CHARS: Final = 500


class _RuleModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_RuleModel):
    """A range of numbers with at least one bound; the bounds are part of the range."""

    min: Annotated[float, Field(ge=0)] | None = None
    max: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g})")
        return self

    def holds(self, number: float | None) -> bool:
        """Return whether a number is within the range; False if the number is None (not known)."""
        if number is None:
            return False
        return (self.min is None or number >= self.min) and (self.max is None or number <= self.max)


class StepTest(_RuleModel):
    """A test for steps. A step matches if all fields that are not None match.

    The step's `status` must be equal; all other fields are regular expressions.
    """

    name: Pattern | None = None
    agent: Pattern | None = None
    input: Pattern | None = None
    output: Pattern | None = None
    error: Pattern | None = None
    status: StepStatus | None = None


class CallTest(_RuleModel):
    """A test for tool calls. A call matches if all fields that are not None match.

    The call's `status` must equal the field `status`, and its `status_code` must be within the range in the field
    `status_code`. All other fields are regular expressions.
    """

    tool: Pattern | None = None
    arguments: Pattern | None = None
    result: Pattern | None = None
    error: Pattern | None = None
    status: StepStatus | None = None
    status_code: Range | None = None


class GuardrailTest(_RuleModel):
    """A test for guardrail events: regular expressions for the event's `type` and `message`.

    A field that is None matches every event.
    """

    type: Pattern | None = None
    message: Pattern | None = None


class RunTest(_RuleModel):
    """A test for the run itself. The run matches if all fields that are not None match.

    Fields for texts are regular expressions. The run's `outcome` must be equal. Numbers must be within the given
    ranges.
    """

    agent: Pattern | None = None
    version: Pattern | None = None
    environment: Pattern | None = None
    outcome: Literal["succeeded", "completed_with_errors", "failed", "unknown"] | None = None
    duration_s: Range | None = None
    steps: Range | None = None
    tool_calls: Range | None = None
    cost_usd: Range | None = None


class Item(_RuleModel):
    """A test for steps (`step`) or for tool calls (`call`) of a run; exactly one of the two fields is given."""

    step: StepTest | None = None
    call: CallTest | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.step is None) == (self.call is None):
            raise ValueError("needs either step or call")
        return self


class Repeated(Item):
    """A test for repetition: at least `times` steps or calls match the test, and all of them resemble the first one.

    The compared text is the line that a pattern of the test matched. If the test has no pattern, it is the first 2,000
    characters of the step's output (without an output: of its error message or name) or of the call's arguments. Two
    texts resemble each other if their words have a Jaccard similarity of at least `similarity`. Calls must also be calls
    of the same tool.
    """

    times: Annotated[int, Field(ge=2, le=100)] = 2
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.6


class RuleCondition(_RuleModel):
    """One condition of a rule. Exactly one field is given, and `count` or `within` may be added to it.

    The value of most fields is a test:

    - `step`, `call`, `guardrail`: a step, tool call or guardrail event passes the test. `count` may be added: how many
      must pass. By default, at least one must pass.
    - `question`, `answer`, `run`: the run's question, its answer, or the run itself passes the test.
    - `repeated`: several steps or calls pass the test and resemble the first of them.
    - `sequence`: a list of tests, which steps and calls pass in this order, with any others between them. `within` may
      be added: the maximum number of steps and calls from the first one that passes to the last one.
    - `all`, `any`, `not`: other conditions, combined.
    """

    step: StepTest | None = None
    call: CallTest | None = None
    guardrail: GuardrailTest | None = None
    count: Range | None = None
    question: Pattern | None = None
    answer: Pattern | None = None
    run: RunTest | None = None
    repeated: Repeated | None = None
    sequence: Annotated[tuple[Item, ...], Field(min_length=2, max_length=10)] | None = None
    within: Annotated[int, Field(ge=2)] | None = None
    all: Annotated[tuple[RuleCondition, ...], Field(min_length=1, max_length=MAX_CONDITIONS)] | None = None
    any: Annotated[tuple[RuleCondition, ...], Field(min_length=1, max_length=MAX_CONDITIONS)] | None = None
    not_: Annotated[RuleCondition | None, Field(alias="not")] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        # A field that is null, such as `step:` without a value, is not given.
        fields = self.model_fields_set - {"count", "within"}
        given = [name for name in fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = "step, call, guardrail, question, answer, run, repeated, sequence, all, any or not"
            raise ValueError(f"needs exactly one of {names}")
        if self.count is not None and given[0] not in {"step", "call", "guardrail"}:
            raise ValueError("count belongs beside step, call or guardrail")
        if self.within is not None and given[0] != "sequence":
            raise ValueError("within belongs beside sequence")
        return self


class Notify(_RuleModel):
    """How people are notified about runs that show a behaviour (a pattern that a rule describes).

    At most one notification about a behaviour is sent in `every_minutes` minutes. If `page` is true, the notification
    also goes to PagerDuty.
    """

    every_minutes: Annotated[int, Field(ge=1, le=10_080)] = 60
    severity: Literal["warning", "degraded", "critical"] = "warning"
    page: bool = False


class BehaviourRule(_RuleModel):
    """The rule of one behaviour: its name, a description, and how to find the behaviour in a run.

    Exactly one of `when` and `sentence` is given:
    - `when` is a condition on the run.
    - `sentence` describes the behaviour, and a language model judges whether the run shows it.

    `notify` states how people are notified; None sends no notifications. In a file of rules, `notify: true` means the
    default values of `Notify`.
    """

    name: Annotated[str, Field(pattern=BEHAVIOUR_PATTERN)]
    description: Annotated[str, Field(min_length=1, max_length=300)]
    when: RuleCondition | None = None
    sentence: Annotated[str, Field(max_length=MAX_SENTENCE_CHARS, pattern=r"\S")] | None = None
    notify: Notify | None = None

    @field_validator("notify", mode="before")
    @classmethod
    def _read_switch(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.when is None) == (self.sentence is None):
            raise ValueError("needs either when or sentence")
        return self


class RuleSet(_RuleModel):
    """The content of a file of rules for finding behaviours in runs."""

    version: Literal[1]
    behaviours: Annotated[tuple[BehaviourRule, ...], Field(min_length=1, max_length=MAX_RULES)]
