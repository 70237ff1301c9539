"""The agents of a run: the fields that the reporter (the sender of the run) gives, and the outcome of each agent."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.telemetry.outcome_models import AgentRelation, OutcomeEvidence, OutcomeRule, RunOutcome

MAX_AGENT_NAME_CHARS: Final = 1_000
AgentName = Annotated[str, Field(max_length=MAX_AGENT_NAME_CHARS)]


class ReportedAgent(BaseModel):
    """One agent of a run as the reporter (the sender of the run) describes it; further fields are kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Annotated[AgentName, Field(min_length=1)]
    parent: AgentName | None = Field(None, description="The agent that called it, or handed over to it.")
    relation: Annotated[AgentRelation, Field(strict=False)] | None = Field(
        None, description="How it got its task from its parent: `called` or `handed_over`."
    )
    question: str | None = Field(None, description="What it was asked, as text.")
    answer: str | None = Field(None, description="Its final answer, as text.")


class RunAgent(ReportedAgent):
    """One agent of a stored run, with the outcome of its task.

    An older version may have stored the run without outcomes of agents. `outcome` is then null until the job
    `telemetry.remap` or the command `lab agent-runs remap` has decided it.
    """

    model_config = ConfigDict(strict=False)

    steps: int | None = Field(None, description="The number of its steps.")
    tool_calls: int | None = Field(None, description="The number of its tool calls.")
    outcome: RunOutcome | None = Field(None, description="What became of its task.")
    outcome_rule: OutcomeRule | None = Field(None, description="The rule that decided.")
    outcome_evidence: tuple[OutcomeEvidence, ...] = Field((), description="Quotations of the run that show it.")
