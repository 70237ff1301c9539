"""Batches of runs: the runs that one transaction prunes or remaps, oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, select, tuple_

from relab.storage.session import DatabaseSession
from relab.telemetry.tables import AgentRunRow

MAX_BATCH_ITEMS: Final = 5_000
"""Timeline items per transaction; a larger run is remapped in a separate transaction."""

StartKey: TypeAlias = tuple[int, str]
"""`(start in microseconds, run id)`: the position of a run in the order of pruning and remapping."""


class SizedRun(NamedTuple):
    """A run's id, its start in microseconds since 1970, and its number of timeline items."""

    run_id: str
    started_at: int
    items: int


def list_oldest(
    session: DatabaseSession, *conditions: ColumnElement[bool], after: StartKey | None, limit: int
) -> list[SizedRun]:
    """Return at most `limit` runs that meet all conditions, oldest first.

    `after` is the `(start, id)` of the last run of the previous batch; None to begin with the oldest run.
    """
    row = AgentRunRow
    items = row.step_count + row.tool_call_count + row.guardrail_event_count
    statement = select(row.run_id, row.started_at, items).where(*conditions)
    if after is not None:
        statement = statement.where(tuple_(row.started_at, row.run_id) > tuple_(*after))
    statement = statement.order_by(row.started_at, row.run_id).limit(limit)
    return [SizedRun(*found) for found in session.execute(statement)]


def fitting(sizes: Iterable[tuple[str, int]], most: int) -> list[str]:
    """Return the ids of the first runs whose sizes add up to at most `most`; the first run is always included.

    `sizes` has `(run id, size)`. If it is empty, so is the result.
    """
    taken: list[str] = []
    total = 0
    for run_id, size in sizes:
        total += size
        if taken and total > most:
            break
        taken.append(run_id)
    return taken
