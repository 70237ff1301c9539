"""The tables of the runs that are to be searched for behaviours."""

from __future__ import annotations

from sqlalchemy import ColumnClause, Index, String

from relab.storage.base import Base, IdText, Micros, column


class RunSearchRow(Base):
    """A run that is still to be searched for behaviours (patterns that rules describe).

    `written_at` is the time at which the run was last written. The table has rows only while searches are switched on.
    """

    __tablename__ = "run_searches"
    __table_args__ = (Index("ix_run_searches_written_at", "written_at"),)

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    written_at: ColumnClause[int] = column(Micros)


class RunSearchSwitchRow(Base):
    """The switch of the search for behaviours (patterns) in runs: it is on if a row with the name `on` exists."""

    __tablename__ = "run_search_switch"

    name: ColumnClause[str] = column(String(8), primary_key=True)
