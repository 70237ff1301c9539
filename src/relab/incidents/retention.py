"""Delete incidents that ended long ago, with their timelines and checkpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from relab.incidents.storage.log import IncidentLog
from relab.storage import Database

DEFAULT_BATCH = 100


class Retention:
    """Deletes old incidents; it may be used while servers are running.

    Open incidents, and incidents that wait for a person, are kept at any age. Knowledge from past incidents is kept;
    `lab knowledge delete` deletes it.

    Args:
        database: the database that stores the incidents.
        log: finds and deletes the incidents in this database.
        home: the folder with the checkpoints of the incidents' workflows if the database is SQLite.
    """

    def __init__(self, database: Database, log: IncidentLog, home: Path) -> None:
        self._database = database
        self._log = log
        self._home = home

    def count(self, before_us: int) -> int:
        """Return how many incidents `prune` would delete: those that ended before `before_us` (microseconds since 1970)."""
        return self._log.count_ended(before_us)

    def prune(self, before_us: int, *, batch: int = DEFAULT_BATCH) -> Iterator[int]:
        """Delete the incidents that ended before a time, oldest first, and yield the number in each batch.

        After the last batch, the alerts that were last seen before this time are deleted as well. The caller may stop
        after any batch; the next call then deletes the rest.

        Args:
            before_us: the time, in microseconds since 1970.
            batch: the maximum number of incidents in a batch.

        Raises:
            UnavailableError: the database, or the file of checkpoints, cannot be used right now.
        """
        while ids := self._log.ended_before(before_us, limit=batch):
            began_s = time.monotonic()
            # Delete checkpoints first: after an interruption the incidents are found again, but orphaned checkpoints are not.
            self._delete_checkpoints(ids)
            self._log.forget(ids)
            yield len(ids)
            if self._database.is_sqlite:
                # SQLite's only write lock has no fair queue, so leave other processes as much time to acquire it.
                time.sleep(time.monotonic() - began_s)
        self._log.forget_alerts(before_us)

    def _delete_checkpoints(self, incident_ids: Sequence[str]) -> None:
        from relab.incidents.checkpoints import delete_threads  # noqa: PLC0415 loads slowly, and few prune

        asyncio.run(delete_threads(self._database, self._home, incident_ids))
