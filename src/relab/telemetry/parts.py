"""The components of `TelemetryService`; all but the projector are imported and built at their first use."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.core.composed import composed
from relab.storage import Database
from relab.telemetry.projection.run_remapper import RunRemapper

if TYPE_CHECKING:
    from relab.jobs.queue import JobQueue
    from relab.telemetry.ingest.intake import TelemetryIntake
    from relab.telemetry.marks import RunMarks
    from relab.telemetry.prices import PriceBook, PriceTable
    from relab.telemetry.selection.awaiting import AwaitingRuns
    from relab.telemetry.selection.failed_runs import FailedRuns
    from relab.telemetry.selection.no_agent_activity import NoAgentActivity
    from relab.telemetry.selection.passing import PassingReader
    from relab.telemetry.selection.stored import StoredRuns

ROLLUP_SHARDS = 16


class TelemetryParts(RunRemapper):
    """The components of `TelemetryService`; all but the projector are imported and built when they are first used.

    Args:
        remap_job: the name of the background job that recomputes the runs that an older version of relab computed.
        prices_folder: the folder with this installation's prices of models; None if only the shipped prices are used.
    """

    def __init__(
        self, database: Database, clock: Clock, queue: JobQueue, *, remap_job: str, prices_folder: Path | None
    ) -> None:
        # Each process that shares a database adds to separate sums, so that processes seldom wait for each other.
        shard = 0 if database.is_sqlite else secrets.randbelow(ROLLUP_SHARDS)
        super().__init__(database, clock, queue, shard=shard, job=remap_job)
        self._prices_folder = prices_folder

    @composed
    def prices(self) -> PriceBook:
        """The prices of models, which are used to estimate costs."""
        from relab.telemetry.prices import PriceBook

        return PriceBook(self._prices_folder)

    @composed
    def awaiting(self) -> AwaitingRuns:
        """The object that lists the runs whose analysis was not requested yet, and marks runs when it is requested."""
        from relab.telemetry.selection.awaiting import AwaitingRuns

        return AwaitingRuns(self._database, self._clock, self.projector)

    @composed
    def failed(self) -> FailedRuns:
        """The object that lists the runs that failed or completed with unrecovered errors."""
        from relab.telemetry.selection.failed_runs import FailedRuns

        return FailedRuns(self.projector)

    @composed
    def no_agent_activity(self) -> NoAgentActivity:
        """The counter of traces without agent activity; lists of runs leave them out by default."""
        from relab.telemetry.selection.no_agent_activity import NoAgentActivity

        return NoAgentActivity(self.projector)

    @composed
    def marks(self) -> RunMarks:
        """The object that stores and counts the results of analyses: failure categories and behaviours of runs."""
        from relab.telemetry.marks import RunMarks

        return RunMarks(self._database)

    @composed
    def passing(self) -> PassingReader:
        """The object that finds runs that succeeded, to compare failed runs with them."""
        from relab.telemetry.selection.passing import PassingReader

        return PassingReader(self.projector.reading)

    @composed
    def stored(self) -> StoredRuns:
        """The object that reads which runs are stored, and which runs of trials a person has deleted."""
        from relab.telemetry.selection.stored import StoredRuns

        return StoredRuns(self._database)

    @composed
    def _intake(self) -> TelemetryIntake:
        """The object that ingests runs, spans and log records, at once or in group commits."""
        from relab.telemetry.ingest.intake import TelemetryIntake

        return TelemetryIntake(self._database, self._clock, shard=self._shard)

    def _usable_prices(self) -> PriceTable:
        return self.prices.usable()
