"""How agent runs are stored.

`agent_runs` holds one row per run with what lists filter by; `timeline_items` holds its
steps, tool calls and guardrail events in one table, because their one hot reader is the
timeline: a page is one range scan of one index. `data` keeps each object as it was sent.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Index, Integer, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, IdText, Micros, ShortText


class AgentRunRow(Base):
    """One agent run without its timeline."""

    __tablename__ = "agent_runs"
    __table_args__ = (
        Index("ix_agent_runs_started_at_run_id", "started_at", "run_id"),
        Index("ix_agent_runs_agent_name_started_at", "agent_name", "started_at"),
        Index("ix_agent_runs_version_key_started_at", "version_key", "started_at"),
    )

    run_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    source: Mapped[str] = mapped_column(String(8))
    agent_name: Mapped[str] = mapped_column(String(500))
    agent_version: Mapped[str | None] = mapped_column(ShortText)
    model: Mapped[str | None] = mapped_column(ShortText)
    environment: Mapped[str | None] = mapped_column(ShortText)
    started_at: Mapped[int] = mapped_column(Micros)
    ended_at: Mapped[int | None] = mapped_column(Micros)
    status: Mapped[str] = mapped_column(String(16))
    task_id: Mapped[str | None] = mapped_column(ShortText)
    prompt_hash: Mapped[str | None] = mapped_column(ShortText)
    version_key: Mapped[str] = mapped_column(String(80))
    """Agent, environment, version and prompt as one digest: what comparisons group by."""
    total_cost_usd: Mapped[float | None] = mapped_column(Double)
    category: Mapped[str | None] = mapped_column(String(32))
    step_count: Mapped[int] = mapped_column(Integer)
    tool_call_count: Mapped[int] = mapped_column(Integer)
    guardrail_event_count: Mapped[int] = mapped_column(Integer)
    tool_stats: Mapped[dict[str, Any]] = mapped_column(JSON)
    """`{tool: [calls, failures]}`: what overviews and comparisons of versions need."""
    search_text: Mapped[str] = mapped_column(Text)
    """Lower-cased names, ids and error messages; what the `text` filter looks in."""
    content_hash: Mapped[str] = mapped_column(String(80))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The run as it was sent, without its lists of steps, calls and events."""
    received_at: Mapped[int] = mapped_column(Micros)
    updated_at: Mapped[int] = mapped_column(Micros)


class TimelineItemRow(Base):
    """One step, tool call or guardrail event of a run."""

    __tablename__ = "timeline_items"
    __table_args__ = (Index("ix_timeline_items_order", "run_id", "at", "kind", "position"),)

    run_id: Mapped[str] = mapped_column(IdText, ForeignKey("agent_runs.run_id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    """0 step, 1 tool call, 2 guardrail event: also the order of items at the same time."""
    ref_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    at: Mapped[int] = mapped_column(Micros)
    position: Mapped[int] = mapped_column(Integer)
    """The index in the list that was sent: the order of equals."""
    latency_ms: Mapped[float | None] = mapped_column(Double)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
