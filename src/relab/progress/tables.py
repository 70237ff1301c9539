"""The table of progress events."""

from __future__ import annotations

from sqlalchemy import ColumnClause, Integer, String, Text

from relab.storage.base import Base, Micros, OwnId, column


class ProgressEventRow(Base):
    """One progress event; its topic is the id of the analysis, training or rollout whose progress it reports."""

    __tablename__ = "progress_events"

    topic: ColumnClause[str] = column(OwnId, primary_key=True)
    seq: ColumnClause[int] = column(Integer, primary_key=True)
    status: ColumnClause[str] = column(String(16))
    step: ColumnClause[str] = column(String(200))
    pct: ColumnClause[int] = column(Integer)
    message: ColumnClause[str] = column(Text)
    updated_at: ColumnClause[int] = column(Micros)
