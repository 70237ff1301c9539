"""Queries over unprojected runs: runs that are not computed from their newest spans yet, or were never computed.

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import func, select, update

from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.session import DatabaseSession
from relab.telemetry.tables import UNPROJECTED, UNPROJECTED_RUN, AgentRunRow

_unindexed_start: Final = AgentRunRow.started_at + 0
"""The start of a run as an expression: SQLite then reads the small index of the unprojected runs, and not that of all starts."""


def list_due(session: DatabaseSession, now_us: int, *, limit: int) -> list[tuple[str, int]]:
    """Return at most `limit` unprojected runs that a worker should compute now, as `(run id, size of the spans)`.

    A run is unprojected if it is not computed from its newest spans yet. The size is about 1 for each span, plus 1 for
    each full 4,096 bytes of it. The runs that are overdue for the longest time come first. `now_us` is the current time in
    microseconds since 1970.
    """
    row = AgentRunRow
    statement = select(row.run_id, row.waiting_size).where(UNPROJECTED_RUN, row.project_at <= now_us)
    return [
        (found, size) for found, size in session.execute(statement.order_by(row.project_at, row.run_id).limit(limit))
    ]


def list_unprojected_starts(
    session: DatabaseSession, from_us: int, run_id: str | None = None
) -> list[tuple[str, int, int]]:
    """Return `(run id, size of the spans, start)` of the unprojected runs, newest first.

    A run is unprojected if it is not computed from its newest spans yet. The size is about 1 for each span, plus 1 for
    each full 4,096 bytes of it. The start is in microseconds since 1970.

    Args:
        session: the session of the transaction.
        from_us: only runs that started at or after this time, in microseconds since 1970.
        run_id: the only run to return; None for all.
    """
    row = AgentRunRow
    statement = select(row.run_id, row.waiting_size, row.started_at).where(UNPROJECTED_RUN, _unindexed_start >= from_us)
    if run_id is not None:
        statement = statement.where(row.run_id == run_id)
    # The computation of a run can only make its start earlier.
    rows = session.execute(statement.order_by(_unindexed_start.desc(), row.run_id.desc()))
    return [(found, size, started_at) for found, size, started_at in rows]


def waiting_size(session: DatabaseSession) -> int:
    """Return the total size of the spans of all unprojected runs.

    A run is unprojected if it is not computed from its newest spans yet. The size is about 1 for each span, plus 1 for
    each full 4,096 bytes of it.
    """
    statement = select(func.coalesce(func.sum(AgentRunRow.waiting_size), 0)).where(UNPROJECTED_RUN)
    return int(session.execute(statement).scalar_one())


def count_unprojected(session: DatabaseSession, from_us: int = 0) -> int:
    """Return the number of unprojected runs.

    A run is unprojected if it is not computed from its newest spans yet. Only runs that started at or after `from_us`,
    in microseconds since 1970, are counted.
    """
    statement = select(func.count()).select_from(AgentRunRow).where(UNPROJECTED_RUN, _unindexed_start >= from_us)
    return session.execute(statement).scalar_one()


class Waiting(NamedTuple):
    """A run to mark as unprojected, because it is not computed from its newest spans yet.

    Attributes:
        run_id: the id of the run.
        project_at: when a worker should compute the run, in microseconds since 1970.
        size: the size of the run's trace: about 1 for each span, plus 1 for each full 4,096 bytes of it.
        updated_at: when spans or log records of the trace were last received, in microseconds since 1970.
        started_at: the start of the run, in microseconds since 1970; if the run was never computed, the earliest start
            of a span.
    """

    run_id: str
    project_at: int
    size: int
    updated_at: int
    started_at: int


def mark_unprojected(session: DatabaseSession, runs: Sequence[Waiting]) -> None:
    """Mark stored runs as unprojected, because they are not computed from their newest spans yet."""
    if not runs:
        return
    driver = session.connection()
    mark = "?" if driver.dialect.name == "sqlite" else "%s"
    driver.exec_driver_sql(
        f"UPDATE agent_runs SET mapper_version = {UNPROJECTED}, project_at = {mark}, waiting_size = {mark}, "  # noqa: S608
        f"updated_at = {mark}, started_at = {mark} WHERE run_id = {mark}",
        [(run.project_at, run.size, run.updated_at, run.started_at, run.run_id) for run in runs],
    )


def mark_projected(session: DatabaseSession, run_ids: Iterable[str], version: int | None) -> None:
    """Mark runs as projected, so that no worker computes them from their present spans again.

    `version` is the `MAPPER_VERSION` of the code that computed the runs from spans; None if the computation failed.
    """
    values = {"mapper_version": version, "project_at": None, "waiting_size": 0}
    for ids in chunks(run_ids):
        session.execute(update(table_of(AgentRunRow)).where(AgentRunRow.run_id.in_(ids)).values(values))
