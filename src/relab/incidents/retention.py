"""Deleting what ended long ago: incidents, all that is told of them, and how far their graphs were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from relab.incidents.storage.log import IncidentLog
from relab.storage import Database

DEFAULT_BATCH = 100


class Retention:
    """Deletes old incidents, beside servers that go on meanwhile.

    What past incidents have taught stays: it is bounded by itself, and `lab knowledge forget` takes it back. An incident that
    is open, or waits for a person, stays however old it is.

    Args:
        home: where checkpoints are if the database is SQLite.
    """

    def __init__(self, database: Database, log: IncidentLog, home: Path) -> None:
        self._database = database
        self._log = log
        self._home = home

    def count(self, before_us: int) -> int:
        """Return how many incidents `prune` would delete."""
        return self._log.count_ended(before_us)

    def prune(self, before_us: int, *, batch: int = DEFAULT_BATCH) -> Iterator[int]:
        """Delete the incidents that ended before a time, those that ended first first; yield how many each step deleted.

        To stop between two steps, or in the middle of one, loses nothing: the next pruning goes on.

        Raises:
            UnavailableError: the database, or the file of checkpoints, cannot be used right now.
        """
        while ids := self._log.ended_before(before_us, limit=batch):
            began_s = time.monotonic()
            # First these: an incident that is there still is found again, a checkpoint of none is not.
            self._forget_checkpoints(ids)
            self._log.forget(ids)
            yield len(ids)
            if self._database.is_sqlite:
                # Its one write lock goes to whoever looks at the right moment: others get as long to look.
                time.sleep(time.monotonic() - began_s)
        self._log.forget_alerts(before_us)

    def _forget_checkpoints(self, incident_ids: Sequence[str]) -> None:
        from relab.incidents.checkpoints import forget_threads  # noqa: PLC0415 loads slowly, and few prune

        asyncio.run(forget_threads(self._database, self._home, incident_ids))
