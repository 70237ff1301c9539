"""The models of a note (a report arranged for people) and of its parts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp


class _NoteModel(BaseModel):
    model_config = ConfigDict(frozen=True)


class NoteQuote(_NoteModel):
    """A quotation from the report's evidence, with its time in the run.

    `at` is the time itself, and `after_ms` the milliseconds since the start of the run; both are null if not known.
    `is_key` is true if the evidence is cited by a main claim of the report: the attribution (place of the failure), the
    first hypothesis, the first action or the first candidate.
    """

    evidence_id: str
    ref_id: str
    at: Timestamp | None
    after_ms: float | None
    title: str
    field: str
    snippet: str
    is_key: bool


class NoteChange(_NoteModel):
    """A recommended change: its title, its description and its priority (high, medium or low)."""

    priority: Literal["high", "medium", "low"]
    title: str
    description: str


class WaterfallRow(_NoteModel):
    """One step, tool call or guardrail event of the run, as a bar of a waterfall chart.

    The bar extends from `begin_ms` to `end_ms`, in ms since the start of the run. If all times of the run are equal,
    the bar with index i extends from i to i + 1 instead.
    """

    ref_id: str
    kind: Literal["step", "tool call", "guardrail event"]
    label: str
    depth: int
    begin_ms: float
    end_ms: float
    state: Literal["cause", "candidate", "failed", "other"]
    status: str | None


class RunNote(_NoteModel):
    """A report arranged for people: what happened, where, the evidence in order of time, and what to change.

    If the run has changed since the analysis or was deleted (`is_stale`), `rows` (the steps and calls in the chart) is
    empty, and `quotes` have no times.
    """

    run_id: str
    rca_run_id: str
    headline: str = Field(description="The cause in a few words, with its confidence.")
    context: str | None = Field(description="A sentence on the run: agent, version, start, duration and question.")
    what: str = Field(description="What happened, in one to three sentences.")
    recurrence: str | None = Field(description="How many runs failed the same way; null for the first one.")
    where: str | None = Field(description="The call, the step and the agent, with their ids; null if none is known.")
    where_ref: str | None = Field(description="The id of the call, else of the step, that `where` names.")
    candidates: tuple[str, ...] = Field(description="Steps that may have gone wrong first, each with the reasons.")
    passing: tuple[str, ...] = Field((), description="What runs that succeeded did in another way, in sentences.")
    judge: str | None = Field(None, description="The opinion of a language model in words; null if none was asked for.")
    doubts: tuple[str, ...] = Field(
        (),
        description="Steps that a ranking suspects of a problem although no error shows it, each with the kind of problem.",
    )
    behaviours: tuple[str, ...] = Field(description="What the behaviours are that rules found, in words.")
    not_judged: tuple[str, ...] = Field(
        (), description="The behaviours of a sentence that no model judged, and why, in words."
    )
    quotes: tuple[NoteQuote, ...]
    changes: tuple[NoteChange, ...]
    rows: tuple[WaterfallRow, ...]
    rows_left_out: int
    is_timed: bool = Field(description="Whether `rows` have times, and not positions in their order.")
    is_stale: bool
