"""Labels of runs (what people state about the first mistake), and scores of how often reports agree with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relab.core.clock import Timestamp
from relab.core.ids import ExternalId
from relab.telemetry.models import AgentRun, ShortText

CATEGORY_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"


class NewLabel(BaseModel):
    """A person's statement about the first mistake of a failed run.

    It names at least one of the step, the agent and the category of the mistake.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("step_id", "agent_name", "category")
            ]
        },
    )

    step_id: ExternalId | None = Field(None, description="The step that went wrong first.")
    agent_name: ShortText | None = Field(
        None, description="The agent that went wrong first; by default the agent of the step."
    )
    category: Annotated[str, Field(pattern=CATEGORY_PATTERN)] | None = Field(
        None, description="A category or a detail of reports, such as timeout, or a name of one's own."
    )
    note: Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.step_id is None and self.agent_name is None and self.category is None:
            raise ValueError("a label needs a step, an agent or a category")
        return self


class RunLabel(NewLabel):
    """A stored label; a run has at most one.

    `content_hash` identifies the content that the run had when it was labelled.
    """

    run_id: str
    content_hash: str
    labelled_by: str
    labelled_at: Timestamp


class LabelPage(BaseModel):
    """A page of labels, the newest first. `next_cursor` is the cursor of the next page; null on the last page."""

    items: list[RunLabel]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """A complete run with its label."""

    label: RunLabel
    run: AgentRun


class LabelScore(BaseModel):
    """How often reports agree with people's labels on one question, such as which step went wrong first.

    `hits` of `n` reports agree. `rate` is hits / n; `low` and `high` are the bounds of its 95 % confidence interval
    (Wilson). `rate`, `low` and `high` are null if `n` is 0.
    """

    question: str
    n: int
    hits: int
    rate: float | None
    low: float | None
    high: float | None


class LabelScores(BaseModel):
    """How often reports agree with people's labels.

    Attributes:
        labelled: the number of labelled runs.
        changed: the number of runs that no longer have the labelled step; they are not scored.
        abstained: the number of reports that name no place of the failure; in questions about it, they count as misses.
        scores: how often reports and labels agree, for each question that both answer, such as which step went wrong
            first.
    """

    labelled: int
    changed: int
    abstained: int
    scores: list[LabelScore]
