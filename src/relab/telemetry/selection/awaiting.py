"""List, count and clear the runs that wait for a root cause analysis.

A run waits from the transaction that writes it until its analysis is requested.
"""

from __future__ import annotations

from collections.abc import Mapping

from relab.core.clock import Clock
from relab.storage import Database, UnitOfWork
from relab.telemetry.filtering import recent_times
from relab.telemetry.models import RunContent
from relab.telemetry.projection.projector import Projector
from relab.telemetry.selection import awaiting_repository
from relab.telemetry.selection.searches import RunSearches


class AwaitingRuns:
    """Lists, counts and clears the runs that wait for a root cause analysis.

    A run waits if it failed, completed with unrecovered errors, or is incomplete with errors (`RunRecord.is_suspect`).
    A run that no longer fails waits too, if an analysis has found a failure in it. A run waits from the transaction that
    writes it until its analysis is requested.

    Attributes:
        searches: the list of runs to search for behaviours (patterns). Only ended runs without a need for an analysis
            are in it.
    """

    def __init__(self, database: Database, clock: Clock, projector: Projector) -> None:
        self._database = database
        self._clock = clock
        self._projector = projector
        self.searches = RunSearches(database, clock, projector)

    def list(self, quiet_s: float, limit: int) -> dict[str, RunContent]:
        """Return up to `limit` runs that wait for their analysis, last changed first, as `{run id: content}`.

        Runs that changed within the last `quiet_s` seconds are left out.
        """
        with self._projector.reading() as session:
            return awaiting_repository.list_awaiting(
                session, recent_times(self._clock.now_us(), int(quiet_s * 1_000_000)), limit
            )

    def count(self) -> int:
        """Return the number of runs that wait for their analysis.

        A run that was never computed from its spans is not counted.
        """
        with self._database.read() as session:
            return awaiting_repository.count_awaiting(session)

    def clear(self, unit: UnitOfWork, contents: Mapping[str, RunContent]) -> None:
        """Mark runs as no longer waiting for their analysis.

        Args:
            unit: the transaction in which the marks are written.
            contents: `{run id: the run's content when its analysis was requested}`. A run whose stored content differs
                by now keeps waiting.
        """
        awaiting_repository.clear_awaiting(unit.session, contents)
