"""Queries over the runs that wait for a root cause analysis."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select, update

from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.telemetry.filtering import newest_quiet
from relab.telemetry.models import RunContent
from relab.telemetry.tables import AWAITING_ANALYSIS, AgentRunRow


def list_awaiting(session: DatabaseSession, recent: range, limit: int) -> dict[str, RunContent]:
    """Return up to `limit` runs that wait for their analysis, last written first, as `{run id: content}`.

    Runs whose last write is in `recent`, a range of microseconds since 1970, are left out.
    """
    row = AgentRunRow
    statement = select(row.run_id, row.content_hash, row.received_at).where(AWAITING_ANALYSIS)
    return {
        run_id: RunContent(content_hash=content_hash, received_at=received_at)
        for run_id, content_hash, received_at in newest_quiet(session, statement, row.updated_at, recent, limit)
    }


def count_awaiting(session: DatabaseSession) -> int:
    """Return the number of runs that wait for their analysis."""
    return session.execute(select(func.count()).select_from(AgentRunRow).where(AWAITING_ANALYSIS)).scalar_one()


def clear_awaiting(session: DatabaseSession, contents: Mapping[str, RunContent]) -> None:
    """Mark runs as not waiting for analysis, if they still have the content in `contents` (`{run id: content}`)."""
    table = table_of(AgentRunRow)
    # Sorted, because all writers lock runs in this order.
    for run_id, content in sorted(contents.items(), key=lambda item: item[0]):
        here = (table.c.run_id == run_id, table.c.content_hash == content.content_hash)
        session.execute(update(table).where(*here).values(awaits_analysis=False))
