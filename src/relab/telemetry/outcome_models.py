"""The outcome of a run (whether the agent did its task), the rule that decided it, and the evidence.

The outcome may differ from the status that the reporter (the program that sent the run) states: see
`telemetry/outcome/` and docs/design/outcome.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

OUTCOME_VERSION: Final = 13
"""Increase it when the rules may give a stored run another outcome; `lab agent-runs remap` then recomputes it."""


class RunOutcome(StrEnum):
    """The outcome of a run: whether the agent did its task, as the telemetry of the run shows it."""

    SUCCEEDED = "succeeded"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """The outcome in words."""
        return "completed with unrecovered errors" if self is RunOutcome.COMPLETED_WITH_ERRORS else self.value

    @property
    def is_failure(self) -> bool:
        """Whether the run failed, or completed with errors from which it did not recover."""
        return self in {RunOutcome.FAILED, RunOutcome.COMPLETED_WITH_ERRORS}


class OutcomeRule(StrEnum):
    """The rule that decided the outcome of a run."""

    NO_AGENT_ACTIVITY = "no_agent_activity"
    NOT_FINISHED = "not_finished"
    CANCELLED = "cancelled"
    REPORTED_FAILURE = "reported_failure"
    AGENT_FAILED = "agent_failed"
    STEP_LIMIT = "step_limit"
    MODEL_FAILED = "model_failed"
    NO_ANSWER = "no_answer"
    ANSWER_REPORTS_FAILURE = "answer_reports_failure"
    TOOL_FAILED = "tool_failed"
    REPEATED_CALLS = "repeated_calls"
    STEP_FAILED = "step_failed"
    ANSWER_EMPTY = "answer_empty"
    ANSWER_FILTERED = "answer_filtered"
    ANSWER_CUT_OFF = "answer_cut_off"
    INCOMPLETE = "incomplete"
    NO_UNRECOVERED_ERROR = "no_unrecovered_error"

    @property
    def reason(self) -> str:
        """The reason for an outcome that this rule decided, as a part of a sentence ("it is still running")."""
        return _REASONS[self]


_REASONS: Final = {
    OutcomeRule.NO_AGENT_ACTIVITY: "its trace has no agent, workflow, model call or tool call",
    OutcomeRule.NOT_FINISHED: "it is still running",
    OutcomeRule.CANCELLED: "it was cancelled",
    OutcomeRule.REPORTED_FAILURE: "it is reported as failed",
    OutcomeRule.AGENT_FAILED: "an agent ended with an error",
    OutcomeRule.STEP_LIMIT: "the agent reached a limit of steps",
    OutcomeRule.MODEL_FAILED: "the last call of a model failed",
    OutcomeRule.NO_ANSWER: "it ended without an answer",
    OutcomeRule.REPEATED_CALLS: "its last tool calls were all the same, with the same result",
    OutcomeRule.ANSWER_REPORTS_FAILURE: "the answer reports a failure, and a failed or missing call shows why",
    OutcomeRule.TOOL_FAILED: "the last attempt of a tool call failed",
    OutcomeRule.STEP_FAILED: "the last step of an agent failed",
    OutcomeRule.ANSWER_EMPTY: "the answer is empty",
    OutcomeRule.ANSWER_FILTERED: "a content filter stopped the answer",
    OutcomeRule.ANSWER_CUT_OFF: "the answer was cut off at the limit of tokens",
    OutcomeRule.INCOMPLETE: "its trace is incomplete: the end of the run never arrived",
    OutcomeRule.NO_UNRECOVERED_ERROR: "no error is left that it did not recover from",
}


class OutcomeEvidence(BaseModel):
    """A verbatim quotation of the run that shows its outcome."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="run, step or tool_call.")
    ref_id: str = Field(description="The id of the run, step or tool call.")
    field: str = Field(description="The quoted field.")
    text: str = Field(description="A part of the field's value, at most 200 characters.")


class AgentRelation(StrEnum):
    """How an agent got its task from its parent agent: by a call or by a hand-over."""

    CALLED = "called"
    """The parent called the agent as a sub-agent, and continued with the agent's answer."""
    HANDED_OVER = "handed_over"
    """The parent handed the conversation over to the agent, and did not continue itself."""


class AgentOutcome(BaseModel):
    """The outcome of one agent of a run, decided from the agent's own steps and calls.

    `parent` is the agent that called this agent or handed over to it; None if there is no such agent. `relation` states
    whether it was a call or a hand-over; None if that is not known.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    parent: str | None
    relation: AgentRelation | None
    steps: int = Field(description="The number of its steps.")
    tool_calls: int = Field(description="The number of its tool calls.")
    outcome: RunOutcome
    outcome_rule: OutcomeRule
    outcome_evidence: tuple[OutcomeEvidence, ...]


class OutcomeReport(BaseModel):
    """The outcome of a run, the rule that decided it, and quotations of the run as evidence."""

    model_config = ConfigDict(frozen=True)

    value: RunOutcome
    rule: OutcomeRule
    evidence: tuple[OutcomeEvidence, ...] = ()
    agents: tuple[AgentOutcome, ...] = ()
    """The outcome of each agent: of the agents that the reporter lists, or else of several agents in order of time."""
