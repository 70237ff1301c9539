"""Recompute (remap) stored runs that an older version of relab computed: all at once, or some in each background job.

The module also marks running traces as incomplete if they have received nothing for some time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.telemetry import repository
from relab.telemetry.batches import MAX_BATCH_ITEMS, fitting
from relab.telemetry.filtering import recent_times
from relab.telemetry.projection.projector import Projector

if TYPE_CHECKING:
    from relab.jobs.queue import JobQueue
    from relab.telemetry.batches import StartKey
    from relab.telemetry.projection.remapping import RemappedBatch

REMAP_BATCH = 100
"""Runs per transaction."""
REMAP_BATCHES_PER_JOB = 20
"""The number of transactions of one job: few, so that a worker is soon free for other jobs."""
END_BATCH = 100
"""Incomplete traces per transaction."""
END_BATCHES = 5
"""Transactions of one call of `end_incomplete`, which a worker makes every few seconds beside other housekeeping."""

_log = get_logger(__name__)


class RunRemapper:
    """Recomputes runs that an older version of relab computed (remaps them), oldest first.

    Args:
        database: the database of the runs.
        clock: provides the current time.
        queue: the job queue.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
        job: the name of the background job that continues where a call of `remap_in_background` ended.

    Attributes:
        projector: computes runs from their stored spans (projects them).
    """

    def __init__(self, database: Database, clock: Clock, queue: JobQueue, *, shard: int, job: str) -> None:
        self._database = database
        self._clock = clock
        self._queue = queue
        self._shard = shard
        self._job = job
        self.projector = Projector(database, clock, shard=shard)

    def remap(
        self, since_us: int = 0, *, batch: int = REMAP_BATCH, after: StartKey | None = None
    ) -> Iterator[RemappedBatch]:
        """Recompute the outdated runs, oldest first; each step of the iterator is one transaction.

        A run is outdated if an older version of relab computed it. A run that cannot be computed is logged and stays
        outdated. The iteration may stop at any time; the next call continues.

        Args:
            since_us: runs that started before this time, in microseconds since 1970, are left unchanged.
            batch: the maximum number of runs in one transaction.
            after: only runs after the run with this `(start, id)` are computed; None to begin with the oldest run.

        Yields:
            The result of each transaction: the numbers of runs, and the `(start, id)` of the last run.
        """
        self.projector.project()
        limit = batch
        while True:
            began = time.monotonic()
            done = self._remap_some(since_us, after, limit)
            if done is None:
                limit //= 2
                continue
            after = done.reached
            if after is None:
                break
            yield done
            # Runs that cannot be computed often follow each other, so the batches become large again step by step.
            limit = 1 if done.counts.skipped else min(2 * limit, batch)
            if self._database.is_sqlite:
                # As in `prune`: other writers acquire the lock meanwhile.
                time.sleep(time.monotonic() - began)

    def _remap_some(self, since_us: int, after: StartKey | None, limit: int) -> RemappedBatch | None:
        """Recompute up to `limit` outdated runs (computed by an older version of relab), in one transaction.

        If a run cannot be computed, the transaction changes nothing, and the result is None. The caller then tries
        again with a lower limit. If `limit` is 1 already, the result counts the run as skipped instead, and the caller
        continues with the next run.
        """
        # Only here, because it loads the readers of spans.
        from relab.telemetry.projection import remapping

        try:
            with self._database.write() as unit:
                return remapping.remap_oldest(
                    unit.session, since_us, after=after, limit=limit, now_us=self._clock.now_us(), shard=self._shard
                )
        except DatabaseUnavailableError:
            raise
        except Exception:  # noqa: BLE001 whatever it is, the other runs must be computed
            if limit > 1:
                return None
            with self._database.read() as session:
                found = remapping.list_outdated(session, since_us, after, 1)
            reached = (found[0].started_at, found[0].run_id) if found else None
            _log.exception("run_not_remapped", run_id=found[0].run_id if found else None)
            return remapping.RemappedBatch(remapping.RemapCounts(skipped=len(found)), reached)

    def remap_in_background(self, after: StartKey | None = None) -> None:
        """Recompute runs that an older version of relab computed, oldest first, in at most 20 transactions.

        A transaction recomputes at most 100 runs. After the 20th transaction, enqueue a job that continues.

        Args:
            after: only runs after the run with this `(start, id)` are recomputed; None to begin with the oldest run.
        """
        for number, done in enumerate(self.remap(after=after), start=1):
            if number == REMAP_BATCHES_PER_JOB:
                with self._database.write() as unit:
                    self._queue.enqueue(unit, self._job, {"after": done.reached})
                return

    def end_incomplete(self, quiet_s: float) -> int:
        """Mark running traces that have received nothing for `quiet_s` seconds as incomplete; return their number.

        One call marks at most 500 traces. The traces without data for the longest time come first. If a span of a
        marked trace arrives later, its run is no longer incomplete.

        Raises:
            DatabaseUnavailableError: the database is unavailable. The next call continues.
        """
        # A run that is not projected yet has no known end, even if its root has arrived.
        self.projector.project()
        recent = recent_times(self._clock.now_us(), int(quiet_s * 1_000_000))
        ended = 0
        for _ in range(END_BATCHES):
            with self._database.read() as session:
                found = repository.list_quiet_traces(session, recent, END_BATCH)
            if not found:
                break
            began = time.monotonic()
            ended += self._end(fitting(found, MAX_BATCH_ITEMS), recent)
            if self._database.is_sqlite:
                # As in `prune`: other writers acquire the lock meanwhile.
                time.sleep(time.monotonic() - began)
        return ended

    def _end(self, run_ids: list[str], recent: range) -> int:
        from relab.telemetry.projection import remapping

        now_us = self._clock.now_us()
        try:
            with self._database.write() as unit:
                return remapping.end_traces(unit.session, run_ids, recent, now_us=now_us, shard=self._shard)
        except DatabaseUnavailableError:
            raise
        except Exception:  # noqa: BLE001 whatever it is, the other traces must end
            if len(run_ids) > 1:
                return sum(self._end([run_id], recent) for run_id in run_ids)
            # Try this trace again after another quiet time, so that it neither stops the worker nor delays other
            # traces.
            _log.exception("trace_not_ended", trace_id=run_ids[0])
            with self._database.write() as unit:
                repository.set_updated_at(unit.session, dict.fromkeys(run_ids, now_us))
            return 0

    def count_outdated(self, since_us: int = 0) -> int:
        """Return the number of outdated runs (computed by an older version of relab).

        Only runs that started at or after `since_us`, in microseconds since 1970, are counted.
        """
        from relab.telemetry.projection import remapping

        with self.projector.reading() as session:
            return remapping.count_outdated(session, since_us)
