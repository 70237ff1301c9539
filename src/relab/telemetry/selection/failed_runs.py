"""Lists the failed runs that match a filter, page by page, for commands that work on many of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import func, select, tuple_

from relab.telemetry.filtering import filtered
from relab.telemetry.models import RunContent, RunFilter
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.projection.projector import Projector
from relab.telemetry.tables import AgentRunRow

_FAILURES = tuple(outcome.value for outcome in RunOutcome if outcome.is_failure)


class FailedRun(NamedTuple):
    """A failed run.

    Attributes:
        run_id: the id of the run.
        started_at: its start, in microseconds since 1970.
        content: the hash of its current content, and the time when a run with its id was first received.
    """

    run_id: str
    started_at: int
    content: RunContent


class FailedRuns:
    """Lists the runs whose outcome is a failure, including runs that completed with unrecovered errors.

    Args:
        projector: computes runs from their stored spans (projects them) before they are read.
    """

    def __init__(self, projector: Projector) -> None:
        self._projector = projector

    def count(self, run_filter: RunFilter) -> int:
        """Return the number of failed runs that match the filter."""
        statement = select(func.count()).select_from(AgentRunRow).where(AgentRunRow.outcome.in_(_FAILURES))
        with self._projector.reading(from_us=run_filter.started_after_us or 0) as session:
            number: int = session.execute(filtered(statement, run_filter)).scalar_one()
        return number

    def list(self, run_filter: RunFilter, *, after: FailedRun | None = None, limit: int = 50) -> list[FailedRun]:
        """Return at most `limit` failed runs that match the filter, newest first.

        `after` is the last run of the previous page; None for the first page.
        """
        row = AgentRunRow
        columns: tuple[Any, ...] = (row.run_id, row.started_at, row.content_hash, row.received_at)
        statement = filtered(select(*columns).where(row.outcome.in_(_FAILURES)), run_filter)
        if after is not None:
            statement = statement.where(tuple_(row.started_at, row.run_id) < (after.started_at, after.run_id))
        statement = statement.order_by(row.started_at.desc(), row.run_id.desc()).limit(limit)
        with self._projector.reading(from_us=run_filter.started_after_us or 0) as session:
            return [
                FailedRun(
                    found.run_id,
                    found.started_at,
                    RunContent(content_hash=found.content_hash, received_at=found.received_at),
                )
                for found in session.execute(statement)
            ]
