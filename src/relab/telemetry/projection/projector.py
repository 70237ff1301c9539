"""Project runs whose newest spans are stored but not projected yet: before the runs are read, or when they are due.

To project a run is to compute it from its spans. This takes much longer than to write the result. So the run is
computed without a database lock, from the spans that are stored at that time. If more spans of the run arrive meanwhile
(`FormerRun.version`), the result is not written. A reader then projects the run again, in a write transaction that
locks the run; a worker leaves it for a later call. If the process stops, even by `kill -9`, the runs stay
marked as unprojected, and the next reader or worker projects them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.storage.session import DatabaseSession
from relab.telemetry.batches import fitting
from relab.telemetry.projection import projection_repository
from relab.telemetry.tables import StoredRun

FIRST_STEP = 100
"""The number of runs that `read_page` projects in its first step: more than a page has by default. Each further step projects twice as many."""
RUNS_PER_CALL = 200
"""The maximum number of runs that one call of `project_due` projects; a worker can stop between two calls."""
MAX_SUM_SIZE = 5_000
"""About the maximum number of spans from which `reading_sums` computes runs: a quarter of a second on an idle core."""
MAX_PROJECTED_SIZE = 2_000
"""Spans (`postponing.size_of`) per transaction of projected runs: the write holds SQLite's lock for about 30 ms."""

ReadPage = Callable[[DatabaseSession], tuple[list[StoredRun], str | None]]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProjectionBacklog:
    """The number and the size of the unprojected runs.

    A run is unprojected if it is not computed from its newest spans yet.

    Attributes:
        runs: the number of these runs.
        size: the total size of their traces: about 1 for each span, plus 1 for each full 4,096 bytes of it.
    """

    runs: int
    size: int


class Projector:
    """Computes runs from their stored spans (projects them): before a reader needs them, or later in the background.

    Args:
        database: the database of the runs.
        clock: provides the current time.
        shard: the number of the row to change, 0 to 15. Each sum of the overview is stored as up to 16 rows, so that
            parallel writers rarely wait for each other.
    """

    def __init__(self, database: Database, clock: Clock, *, shard: int) -> None:
        self._database = database
        self._clock = clock
        self._shard = shard
        self._lock = threading.Lock()

    def backlog(self) -> ProjectionBacklog:
        """Return the number and the total size of the unprojected runs.

        A run is unprojected if it is not computed from its newest spans yet.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            return ProjectionBacklog(
                projection_repository.count_unprojected(session), projection_repository.waiting_size(session)
            )

    @contextmanager
    def reading(self, run_id: str | None = None, *, from_us: int = 0) -> Iterator[DatabaseSession]:
        """Project the runs that have new spans, and open a read transaction.

        To project a run is to compute it from its stored spans. In the transaction, each of these runs contains all
        spans that relab had acknowledged (answered with success) before the call. Exception: a run whose computation
        failed keeps its older content.

        Args:
            run_id: the only run to project; None for all.
            from_us: runs that started before this time, in microseconds since 1970, are not projected.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        self.project(run_id, from_us=from_us)
        with self._database.read() as session:
            yield session

    @contextmanager
    def reading_sums(self, from_us: int) -> Iterator[tuple[DatabaseSession, int]]:
        """Open a read transaction for sums over the runs that started at or after `from_us`.

        A run is unprojected if it is not computed from its newest spans yet. Before the transaction, unprojected runs
        are computed from their spans, at most about `MAX_SUM_SIZE` spans in total (0.25 s of work). `from_us` is in
        microseconds since 1970.

        Yields:
            `(session, number of runs that are still unprojected)`.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        # Only up to this size, so that a reader does not wait for all runs after a burst of spans.
        self.project(from_us=from_us, max_size=MAX_SUM_SIZE)
        with self._database.read() as session:
            yield session, projection_repository.count_unprojected(session, from_us)

    def project(self, run_id: str | None = None, *, from_us: int = 0, max_size: int | None = None) -> None:
        """Compute the unprojected runs from their spans, the newest run first.

        A run is unprojected if it is not computed from its newest spans yet. If the computation of a run fails, the
        error is logged, and the run no longer counts as unprojected. It is tried again when its trace receives more data,
        or when outdated runs are recomputed.

        Args:
            run_id: the only run to compute; None for all.
            from_us: runs that started before this time, in microseconds since 1970, are skipped.
            max_size: the maximum total size of the traces (about 1 for each span, plus 1 for each full 4,096 bytes of
                it); a trace that would exceed it is skipped. None means no limit.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            # Not in the order in which they are due: a worker of another process begins with the first of those.
            waiting = projection_repository.list_unprojected_starts(session, from_us, run_id)
        sizes = [(found, size) for found, size, _ in waiting]
        if max_size is not None:
            sizes = _within(sizes, max_size)
        for run_ids in _parts(sizes):
            self._project(run_ids, again=True)

    def read_page(self, read: ReadPage, from_us: int) -> tuple[list[StoredRun], str | None]:
        """Return a page of up-to-date runs, newest first, and the cursor of the next page (None after the last one).

        A run is unprojected if it is not computed from its newest spans yet. Unprojected runs whose start may be
        in the range of the page are computed before the page is returned.

        Args:
            read: reads the stored runs of the page and the cursor of the next page (None after the last one).
            from_us: the earliest start that the filter of the list allows, in microseconds since 1970.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            waiting = projection_repository.list_unprojected_starts(session, from_us)
        most = FIRST_STEP
        while True:
            with self._database.read() as session:
                runs, next_cursor = read(session)
            # A projection never makes the start of a run later. So a run that starts before the last run of a full page
            # cannot be on this page.
            first_us = runs[-1].started_at if next_cursor else from_us
            wanted = [(run_id, size) for run_id, size, start in waiting[:most] if start >= first_us]
            if not wanted:
                return runs, next_cursor
            del waiting[: len(wanted)]
            most *= 2
            for run_ids in _parts(wanted):
                self._project(run_ids, again=True)

    def has_due(self) -> bool:
        """Return whether a worker should now compute at least one run from its spans.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            return bool(projection_repository.list_due(session, self._clock.now_us(), limit=1))

    def project_due(self) -> int:
        """Project up to 200 of the runs that are due, the longest overdue first; return how many were tried.

        To project a run is to compute it from its stored spans. A run that receives more spans meanwhile stays
        unprojected.

        Raises:
            DatabaseUnavailableError: the database is unavailable. The next call continues.
        """
        now_us = self._clock.now_us()
        with self._database.read() as session:
            due = projection_repository.list_due(session, now_us, limit=RUNS_PER_CALL)
        for run_ids in _parts(due):
            self._project(run_ids, again=False)
        return len(due)

    def _project(self, run_ids: Sequence[str], *, again: bool) -> None:
        """Compute runs from their stored spans, and store the result.

        If a run receives more spans meanwhile, the result is out of date and not stored. The run is then computed a
        second time if `again` is true. If `again` is false, it stays unprojected.
        """
        # Several requests share the work: while a request waits for the lock, another one projects runs, which the
        # first one then leaves out.
        with self._lock if len(run_ids) > 1 else nullcontext():
            self._project_now(run_ids, again=again)

    def _project_now(self, run_ids: Sequence[str], *, again: bool) -> None:
        # Only here, because it loads the readers of spans.
        from relab.telemetry.projection import remapping, stored_traces

        try:
            with self._database.read() as session:
                traces = stored_traces.read_unprojected(session, run_ids)
            records = stored_traces.project_traces(traces)
            # Need not be durable: runs that a power failure loses are still marked as unprojected.
            with self._database.write(durable=False) as unit:
                left = remapping.write_projected(unit.session, traces, records, shard=self._shard)
            if left and again:
                with self._database.write(durable=False) as unit:
                    remapping.remap_runs(unit.session, left, now_us=self._clock.now_us(), shard=self._shard)
        except DatabaseUnavailableError:
            raise
        except Exception:  # noqa: BLE001 whatever it is, the other runs must be readable
            if len(run_ids) > 1:
                for run_id in run_ids:
                    self._project_now([run_id], again=again)
                return
            _log.exception("trace_not_projected", trace_id=run_ids[0])
            with self._database.write() as unit:
                remapping.leave_unprojected(unit.session, run_ids[0], shard=self._shard)


def _within(sizes: Sequence[tuple[str, int]], max_size: int) -> list[tuple[str, int]]:
    """Return those of the `(run id, size)` pairs that together have a size of at most `max_size`.

    The pairs are tried in order; a run that would exceed the size is skipped.
    """
    taken = []
    for run_id, size in sizes:
        if size <= max_size:
            taken.append((run_id, size))
            max_size -= size
    return taken


def _parts(waiting: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Split `(run id, size)` pairs into lists of run ids, each small enough for one transaction."""
    # Small lists, so that a transaction hardly delays other writers.
    rest = list(waiting)
    while rest:
        part = fitting(rest, MAX_PROJECTED_SIZE)
        del rest[: len(part)]
        yield part
