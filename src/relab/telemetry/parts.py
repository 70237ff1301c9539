"""The parts of the service of telemetry; each is loaded and built at its first use."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.core.composed import composed
from relab.storage import Database
from relab.telemetry.run_remapper import RunRemapper

if TYPE_CHECKING:
    from relab.jobs.queue import JobQueue
    from relab.telemetry.awaiting import AwaitingRuns
    from relab.telemetry.failed_runs import FailedRuns
    from relab.telemetry.intake import TelemetryIntake
    from relab.telemetry.marks import RunMarks
    from relab.telemetry.passing import PassingReader
    from relab.telemetry.prices import PriceBook, PriceTable

ROLLUP_SHARDS = 16


class TelemetryParts(RunRemapper):
    """The parts of the service of telemetry.

    Args:
        remap_job: the name of the job that continues a remapping in the background.
        prices_folder: the folder of this installation's prices of models; None: only the shipped ones.
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
        """The prices of models, for estimates of costs."""
        from relab.telemetry.prices import PriceBook

        return PriceBook(self._prices_folder)

    @composed
    def awaiting(self) -> AwaitingRuns:
        """The runs that await their analysis."""
        from relab.telemetry.awaiting import AwaitingRuns

        return AwaitingRuns(self._database, self._clock, self.projector)

    @composed
    def failed(self) -> FailedRuns:
        """The runs that failed."""
        from relab.telemetry.failed_runs import FailedRuns

        return FailedRuns(self.projector)

    @composed
    def marks(self) -> RunMarks:
        """The results of analyses that are stored beside runs, for lists of runs."""
        from relab.telemetry.marks import RunMarks

        return RunMarks(self._database)

    @composed
    def passing(self) -> PassingReader:
        """Runs that succeeded, to compare failed ones with them."""
        from relab.telemetry.passing import PassingReader

        return PassingReader(self.projector.reading)

    @composed
    def _intake(self) -> TelemetryIntake:
        """Stores runs and spans."""
        from relab.telemetry.intake import TelemetryIntake

        return TelemetryIntake(self._database, self._clock, shard=self._shard)

    def _usable_prices(self) -> PriceTable:
        return self.prices.usable()
