"""Project the runs whose newest spans are stored and not projected yet: before they are read, or when they are due.

A projection takes much longer than its write, so it is computed without a lock, from a snapshot. The write is skipped if the trace received
something since then (`FormerRun.version`). A reader projects such a run once more, under the lock.
A stop at any time, even by `kill -9`, leaves the runs marked, and the next reader or worker projects them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from sqlalchemy.orm import Session

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.telemetry import projection_repository
from relab.telemetry.tables import StoredRun

FIRST_STEP = 100
"""Runs that `read_page` projects in its first step, and twice as many in each further one: more than a page has by default."""
RUNS_PER_CALL = 200
"""The most runs of one call of `project_due`, after which a worker can stop."""
MAX_SUM_SIZE = 5_000
"""The size (`postponing.size_of`) of the traces that `reading_sums` projects at most, which takes about a quarter of a second on an idle core."""

ReadPage = Callable[[Session], tuple[list[StoredRun], str | None]]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProjectionBacklog:
    """The unprojected runs: their number, and the size (`postponing.size_of`) of their traces, about the number of spans."""

    runs: int
    size: int


class Projector:
    """Projects runs after their spans were stored.

    Args:
        shard: which of the rows of a roll-up this process changes, so that processes need not wait for each other.
    """

    def __init__(self, database: Database, clock: Clock, *, shard: int) -> None:
        self._database = database
        self._clock = clock
        self._shard = shard
        self._lock = threading.Lock()

    def backlog(self) -> ProjectionBacklog:
        """Return how much waits to be projected.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            return ProjectionBacklog(
                projection_repository.count_unprojected(session), projection_repository.waiting_size(session)
            )

    @contextmanager
    def reading(self, run_id: str | None = None, *, from_us: int = 0) -> Iterator[Session]:
        """Open a read transaction that sees each acknowledged span in its run: in the run `run_id`, or in all that start at or after `from_us`.

        `from_us` is in microseconds since 1970.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        self.project(run_id, from_us=from_us)
        with self._database.read() as session:
            yield session

    @contextmanager
    def reading_sums(self, from_us: int) -> Iterator[tuple[Session, int]]:
        """Open a read transaction for sums over the runs that start at or after `from_us`, in microseconds since 1970.

        Traces of a size of `MAX_SUM_SIZE` are projected before, so that a reader need not wait for all after a burst.

        Yields:
            The session, and how many runs it sees without their newest spans; runs that were never projected are in no sum.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        self.project(from_us=from_us, max_size=MAX_SUM_SIZE)
        with self._database.read() as session:
            yield session, projection_repository.count_unprojected(session, from_us)

    def project(self, run_id: str | None = None, *, from_us: int = 0, max_size: int | None = None) -> None:
        """Project the run `run_id` if it is unprojected, or all unprojected runs that can start at or after `from_us`, newest first.

        A run that cannot be projected stays as of its last projection; the error is logged.

        Args:
            run_id: the only run to project.
            from_us: in microseconds since 1970; runs that start earlier are left.
            max_size: the size (`postponing.size_of`) of all traces that may be projected; larger ones are left. None for all.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            # Not those first that are due first: a worker of another process begins with them.
            waiting = projection_repository.list_unprojected_starts(session, from_us, run_id)
        sizes = [(found, size) for found, size, _ in waiting]
        if max_size is not None:
            sizes = _within(sizes, max_size)
        for run_ids in _parts(sizes):
            self._project(run_ids, again=True)

    def read_page(self, read: ReadPage, from_us: int) -> tuple[list[StoredRun], str | None]:
        """Return a page of runs, newest first, that sees each acknowledged span; project only what can be on it.

        Args:
            read: reads the page and the cursor of the next one (None at the end) as they are stored.
            from_us: runs that start before this time, in microseconds since 1970, are on no page.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            waiting = projection_repository.list_unprojected_starts(session, from_us)
        most = FIRST_STEP
        while True:
            with self._database.read() as session:
                runs, next_cursor = read(session)
            # A projection makes a start earlier or leaves it: a run that starts before the last one of a full page cannot be on it.
            first_us = runs[-1].started_at if next_cursor else from_us
            wanted = [(run_id, size) for run_id, size, start in waiting[:most] if start >= first_us]
            if not wanted:
                return runs, next_cursor
            del waiting[: len(wanted)]
            most *= 2
            for run_ids in _parts(wanted):
                self._project(run_ids, again=True)

    def has_due(self) -> bool:
        """Return whether at least one run is due to be projected now.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        with self._database.read() as session:
            return bool(projection_repository.list_due(session, self._clock.now_us(), limit=1))

    def project_due(self) -> int:
        """Project the runs that are due now, those first that are due for the longest time; return their number.

        A call projects at most 200 runs.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the next call continues.
        """
        now_us = self._clock.now_us()
        with self._database.read() as session:
            due = projection_repository.list_due(session, now_us, limit=RUNS_PER_CALL)
        for run_ids in _parts(due):
            self._project(run_ids, again=False)
        return len(due)

    def _project(self, run_ids: Sequence[str], *, again: bool) -> None:
        """Project runs; `again` says whether to project those under the database's lock that received something meanwhile."""
        # Several requests share the work: each leaves out what another one has projected while it waited for the lock.
        with self._lock if len(run_ids) > 1 else nullcontext():
            self._project_now(run_ids, again=again)

    def _project_now(self, run_ids: Sequence[str], *, again: bool) -> None:
        # Only here, because it loads the readers of spans.
        from relab.telemetry import remapping

        try:
            with self._database.read() as session:
                traces = remapping.read_unprojected(session, run_ids)
            records = remapping.project_traces(traces)
            # Not durable: what a power failure takes of it is still marked as unprojected.
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
    """Return those of the runs `(run id, size)` that together have at most a size; leave out each that does not fit any more."""
    taken = []
    for run_id, size in sizes:
        if size <= max_size:
            taken.append((run_id, size))
            max_size -= size
    return taken


def _parts(waiting: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Yield the ids of runs in parts, so small that their writes hardly delay others; each run is given with its size."""
    if not waiting:
        return
    from relab.telemetry import remapping

    rest = list(waiting)
    while rest:
        part = remapping.fitting(rest, remapping.MAX_PROJECTED_SIZE)
        del rest[: len(part)]
        yield part
