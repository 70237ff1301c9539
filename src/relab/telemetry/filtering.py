"""Add conditions to SQL queries: select the runs that match a filter, or rows that were not written recently."""

from __future__ import annotations

from typing import Any, Final, TypeVarTuple

from sqlalchemy import ColumnClause, Row, Select, and_, select

from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.telemetry.models import RunFilter
from relab.telemetry.outcome_models import OutcomeRule
from relab.telemetry.tables import NEVER_PROJECTED, AgentRunRow, RunBehaviourRow, StoredRun

Columns = TypeVarTuple("Columns")

_EQUAL: Final = tuple(name for name in RunFilter.model_fields if name in StoredRun._fields)
"""The fields of a filter that are compared with the column of the same name."""

SHOWN: Final = AgentRunRow.content_hash != NEVER_PROJECTED
"""The condition for runs that were computed at least once. Lists leave out the others; these arrived after the list's read had begun."""

IS_AGENT_RUN: Final = AgentRunRow.outcome_rule.is_distinct_from(OutcomeRule.NO_AGENT_ACTIVITY.value)
"""The condition that leaves out the runs of traces without agent activity."""
SHOWN_AGENT_RUN: Final = and_(SHOWN, IS_AGENT_RUN)
"""The condition for the runs that analyses compare with each other."""


def filtered(statement: Select[Any], run_filter: RunFilter) -> Select[Any]:
    """Add the conditions of a filter to a query of runs, and return the query.

    The query leaves out runs that were never computed from their spans. It also leaves out traces without agent
    activity, unless the filter's `all_traces` is true.
    """
    statement = statement.where(SHOWN)
    if not run_filter.all_traces:
        statement = statement.where(IS_AGENT_RUN)
    for name in _EQUAL:
        wanted = getattr(run_filter, name)
        if wanted is not None:
            statement = statement.where(table_of(AgentRunRow).c[name] == wanted)
    if run_filter.started_after_us is not None:
        statement = statement.where(AgentRunRow.started_at >= run_filter.started_after_us)
    if run_filter.started_before_us is not None:
        statement = statement.where(AgentRunRow.started_at < run_filter.started_before_us)
    if run_filter.behaviour is not None:
        mark = RunBehaviourRow
        # A behaviour counts only if it was found in the current content of the run.
        shown = select(mark.content_hash).where(
            mark.run_id == AgentRunRow.run_id, mark.behaviour == run_filter.behaviour
        )
        statement = statement.where(AgentRunRow.content_hash == shown.scalar_subquery())
    if run_filter.text is not None:
        statement = statement.where(AgentRunRow.search_text.contains(run_filter.text.lower(), autoescape=True))
    return statement


def recent_times(now_us: int, quiet_us: int) -> range:
    """Return the range of write times, in microseconds since 1970, of rows that count as recently written.

    A time is in the range if it is less than `quiet_us` before `now_us`, or at most `quiet_us` after it. A time further
    in the future means that the system clock was set back. It does not count as recent: otherwise the row would stay
    recent until the clock reaches this time.
    """
    return range(now_us - quiet_us + 1, now_us + quiet_us + 1)


def newest_quiet(
    session: DatabaseSession, statement: Select[*Columns], written_at: ColumnClause[int], recent: range, limit: int
) -> list[Row[*Columns]]:
    """Return the rows of a query that were not written recently, newest first.

    Args:
        session: the session of the transaction.
        statement: the query.
        written_at: the column with the time of writing.
        recent: the times, in microseconds since 1970, that count as recent (`recent_times`).
        limit: the maximum number of rows.
    """
    found: list[Row[*Columns]] = []
    # With OR in place of two queries, databases read the index entries of all recent rows.
    for quiet in (written_at >= recent.stop, written_at < recent.start):
        quiet_ones = statement.where(quiet).order_by(written_at.desc()).limit(limit - len(found))
        found += session.execute(quiet_ones)
    return found
