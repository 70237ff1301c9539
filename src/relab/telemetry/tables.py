"""The tables of agent runs.

`agent_runs` has one row per run, with the columns that lists filter by. `timeline_items` has the steps, tool calls and
guardrail events in one table, because they are mostly read as a timeline: a page is one range scan of the primary key.
The column `data` has the JSON object as it was sent.

Other tables have modules of their own: the spans and log records received over OTLP (`span_tables.py`,
`log_tables.py`), the sums for the overview (`rollup_tables.py`), and the runs to search for behaviours
(`search_tables.py`). A command that only lists runs does not import these modules, so that it starts faster.

`StoredRun` and `StoredItem` are the rows as Python reads and writes them, with the columns in the order of the tables.
Their JSON columns are text, so that JSON is neither parsed nor formatted when rows are copied.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnClause,
    Double,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    false,
    text,
)

from relab.storage.base import Base, IdText, Micros, ShortText, column
from relab.telemetry.models import RunCounts
from relab.telemetry.outcome_models import OutcomeRule, RunOutcome

OPEN_TRACE: Final = text("source = 'otlp' AND status = 'running'")
"""The condition for runs whose trace has no end yet, and of their index. It has no parameters, so that SQLite uses the index."""
AWAITING_ANALYSIS: Final = text("awaits_analysis")
"""The condition for runs that wait for their analysis, and of their index."""

UNPROJECTED: Final = 0
"""The mapper version of runs that are not computed from their newest spans yet; see `postponing.py`."""
NEVER_PROJECTED: Final = ""
"""The content hash of a run that was never projected: only its id, its source and the start of its spans are known. No reader shows
it, and the roll-ups do not count it."""
UNPROJECTED_RUN: Final = text(f"mapper_version = {UNPROJECTED}")
"""The condition for unprojected runs, and of their index."""


class AgentRunRow(Base):
    """One agent run without its timeline; `source` is `json` for a posted run, `otlp` for a run computed from spans."""

    __tablename__ = "agent_runs"
    __table_args__ = (
        Index("ix_agent_runs_started_at_run_id", "started_at", "run_id"),
        Index("ix_agent_runs_agent_name_started_at", "agent_name", "started_at"),
        Index("ix_agent_runs_version_key_started_at", "version_key", "started_at"),
        Index("ix_agent_runs_conversation_id_started_at", "conversation_id", "started_at"),
        # Only of rows that match `OPEN_TRACE`. The migration says so; here it would load the dialect of PostgreSQL everywhere.
        Index("ix_agent_runs_open_updated_at", "updated_at"),
        # Only of rows that match `AWAITING_ANALYSIS`.
        Index("ix_agent_runs_awaiting_updated_at", "updated_at"),
        # Only of rows that match `UNPROJECTED_RUN`.
        Index("ix_agent_runs_unprojected", "run_id"),
    )

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    source: ColumnClause[str] = column(String(8))
    agent_name: ColumnClause[str] = column(String(500))
    agent_version: ColumnClause[str | None] = column(ShortText)
    model: ColumnClause[str | None] = column(ShortText)
    environment: ColumnClause[str | None] = column(ShortText)
    conversation_id: ColumnClause[str | None] = column(String(500))
    started_at: ColumnClause[int] = column(Micros)
    ended_at: ColumnClause[int | None] = column(Micros)
    status: ColumnClause[str] = column(String(16))
    outcome: ColumnClause[str] = column(String(24), server_default=RunOutcome.UNKNOWN)
    outcome_rule: ColumnClause[str | None] = column(String(32))
    """The rule that decided the outcome. None if an older version decided by the status alone and the run was not remapped yet."""
    outcome_evidence: ColumnClause[list[dict[str, Any]] | None] = column(JSON)
    agent_outcomes: ColumnClause[list[dict[str, Any]] | None] = column(JSON)
    """The outcome of each agent (`AgentOutcome`) of a run of several agents."""
    outcome_version: ColumnClause[int | None] = column(SmallInteger)
    """`OUTCOME_VERSION` of the rules that decided."""
    task_id: ColumnClause[str | None] = column(ShortText)
    prompt_hash: ColumnClause[str | None] = column(ShortText)
    version_key: ColumnClause[str] = column(String(80))
    """A digest of agent, environment, version and prompt; comparisons of versions group by it."""
    total_cost_usd: ColumnClause[float | None] = column(Double)
    token_usage: ColumnClause[dict[str, Any] | None] = column(JSON)
    """The tokens as the roll-ups add them up (`records.token_usage`); None until the run is remapped."""
    category: ColumnClause[str | None] = column(String(32))
    category_confidence: ColumnClause[str | None] = column(String(16))
    awaits_analysis: ColumnClause[bool] = column(Boolean, server_default=false())
    """True from the write of a run that is worth an analysis (`RunRecord.columns`) until its analysis is requested."""
    step_count: ColumnClause[int] = column(Integer)
    tool_call_count: ColumnClause[int] = column(Integer)
    guardrail_event_count: ColumnClause[int] = column(Integer)
    tool_stats: ColumnClause[dict[str, Any]] = column(JSON)
    """`{tool: [calls, failures]}`, for the overview and comparisons of versions."""
    search_text: ColumnClause[str] = column(Text)
    """Lower-cased names, ids and error messages; the `text` filter searches them."""
    content_hash: ColumnClause[str] = column(String(80))
    mapper_version: ColumnClause[int | None] = column(SmallInteger)
    """The version of the mapper that made this run from its spans; None for a run posted as JSON or if the computation failed."""
    data: ColumnClause[dict[str, Any]] = column(JSON)
    """The run as it was sent, without its lists of steps, calls and events."""
    received_at: ColumnClause[int] = column(Micros)
    updated_at: ColumnClause[int] = column(Micros)
    project_at: ColumnClause[int | None] = column(Micros)
    """When a worker projects an unprojected run (`postponing.due_us`); None for other runs."""
    waiting_size: ColumnClause[int] = column(Integer, server_default=text("0"))
    """The size of an unprojected run's trace (1 per span, plus 1 per full 4,096 bytes of it); 0 for other runs."""


class RunBehaviourRow(Base):
    """A behaviour (pattern) that was found in a run; `content_hash` is the digest of the run's content at that time."""

    __tablename__ = "run_behaviours"
    __table_args__ = (Index("ix_run_behaviours_behaviour_run_id", "behaviour", "run_id"),)

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    behaviour: ColumnClause[str] = column(String(64), primary_key=True)
    content_hash: ColumnClause[str] = column(String(80))


class DeletedTrialRunRow(Base):
    """The agent run of a trial that a person deleted, and its start; a continued experiment does not send it again."""

    __tablename__ = "deleted_trial_runs"

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    started_at: ColumnClause[int] = column(Micros)


class StoredRun(NamedTuple):
    """One row of the table `agent_runs`, without the search text and the columns that mark runs for later work.

    JSON columns are text; times are in microseconds since 1970.
    """

    run_id: str
    source: str
    agent_name: str
    agent_version: str | None
    model: str | None
    environment: str | None
    conversation_id: str | None
    started_at: int
    ended_at: int | None
    status: str
    outcome: str
    outcome_rule: str | None
    outcome_evidence: str | None
    agent_outcomes: str | None
    outcome_version: int | None
    task_id: str | None
    prompt_hash: str | None
    version_key: str
    total_cost_usd: float | None
    token_usage: str | None
    category: str | None
    category_confidence: str | None
    step_count: int
    tool_call_count: int
    guardrail_event_count: int
    tool_stats: str
    content_hash: str
    mapper_version: int | None
    data: str
    received_at: int = 0
    """0 until the row is written; so is `updated_at`."""
    updated_at: int = 0

    @property
    def counts(self) -> RunCounts:
        """The numbers of steps, tool calls and guardrail events."""
        return RunCounts(
            steps=self.step_count, tool_calls=self.tool_call_count, guardrail_events=self.guardrail_event_count
        )


class FormerRun(NamedTuple):
    """The values that are stored for a run before a write changes it; it has only the columns that writers need."""

    run_id: str
    source: str
    started_at: int
    status: str
    outcome: str
    outcome_rule: str | None
    total_cost_usd: float | None
    token_usage: str | None
    tool_stats: str
    content_hash: str
    mapper_version: int | None
    updated_at: int
    step_count: int
    tool_call_count: int
    guardrail_event_count: int
    category: str | None
    awaits_analysis: bool
    project_at: int | None
    waiting_size: int

    @property
    def was_found_failed(self) -> bool:
        """Whether the newest analysis of the run found a failure, and so put the run into a cluster of failures.

        False if the run failed, but its analysis is not done yet.
        """
        # A run without a failure awaits an analysis only because of an analysis of its earlier content.
        is_suspect = RunOutcome(self.outcome).is_failure or self.outcome_rule == OutcomeRule.INCOMPLETE
        return self.category is not None or (self.awaits_analysis and not is_suspect)

    @property
    def items(self) -> int:
        """The number of the run's timeline items when the run was last computed."""
        return self.step_count + self.tool_call_count + self.guardrail_event_count

    @property
    def is_counted(self) -> bool:
        """Whether the sums of the overview include the run; false if the run was never computed from its spans."""
        return self.content_hash != NEVER_PROJECTED

    @property
    def version(self) -> tuple[str, int, int]:
        """The state of the stored run: `(content hash, size of the trace, time of the last write)`.

        If the value differs between two reads, another transaction has written the run between them.
        """
        return self.content_hash, self.waiting_size, self.updated_at

    @property
    def is_unprojected(self) -> bool:
        """Whether the run must still be computed (projected) from its newest stored spans."""
        return self.mapper_version == UNPROJECTED


class TimelineItemRow(Base):
    """One step, tool call or guardrail event of a run. The code that deletes a run also deletes its items."""

    __tablename__ = "timeline_items"

    # The primary key has the order of the timeline, so that a page is a range of the only index.
    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    at: ColumnClause[int] = column(Micros, primary_key=True, autoincrement=False)
    kind: ColumnClause[int] = column(SmallInteger, primary_key=True, autoincrement=False)
    """An index of `models.ITEM_KINDS`; items of the same time are sorted by it."""
    position: ColumnClause[int] = column(Integer, primary_key=True, autoincrement=False)
    """The index in the list that was sent; 0 for items made from spans, which are sorted by `ref_id` if they tie."""
    ref_id: ColumnClause[str] = column(IdText, primary_key=True)
    latency_ms: ColumnClause[float | None] = column(Double)
    data: ColumnClause[dict[str, Any]] = column(JSON)


ItemKey = tuple[str, int, int, int, str]
"""`(run id, time, kind, position, item id)`: the primary key of a timeline item, in timeline order."""


class StoredItem(NamedTuple):
    """One row of `timeline_items` (see `TimelineItemRow`); `data` is the JSON of the step, call or event."""

    run_id: str
    at: int
    kind: int
    position: int
    ref_id: str
    latency_ms: float | None
    data: str

    @property
    def key(self) -> ItemKey:
        """The primary key."""
        return self[:5]
