"""Ingest telemetry: one thread decodes request bodies, another thread commits them in groups.

Decoding needs the Python interpreter; committing waits for the disk and the database. With one thread for each, one
batch is decoded while another one is committed, and no two threads decode or commit at the same time. A request is
answered after its commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.storage import Database
from relab.storage.group_commit import GroupWriter, WriterStoppedError, resolve
from relab.telemetry.errors import SourceConflictError
from relab.telemetry.ingest.posted import Posted, Receipt

if TYPE_CHECKING:
    from relab.telemetry.ingest.batch_writer import BatchWriter

MAX_BATCH_SPANS = 4_000
"""A batch of this size takes about a tenth of a second."""
MAX_WAITING_SPANS = 20_000


@dataclass(frozen=True)
class _Threads:
    reader: ThreadPoolExecutor
    writer: GroupWriter[Posted, Receipt]


class TelemetryIntake:
    """Ingests runs, spans and log records: `write` stores them immediately, `submit` with the next group commit.

    Args:
        database: the database to write to.
        clock: provides the time of receipt.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
    """

    def __init__(self, database: Database, clock: Clock, *, shard: int) -> None:
        self._database = database
        self._clock = clock
        self._shard = shard
        self._lock = threading.Lock()
        self._writer: BatchWriter | None = None
        self._threads: _Threads | None = None

    @property
    def waiting(self) -> int:
        """The number of decoded rows that wait for the next commits, such as spans, log records and timeline items.

        Rows of the commit in progress are not counted.
        """
        return self._threads.writer.waiting if self._threads is not None else 0

    def start(self, on_commit: Callable[[int, float], None] = lambda _weight, _seconds: None) -> None:
        """Start the threads and accept submissions.

        `on_commit` is called after each group commit, successful or not, with the number of rows (`Posted.weight`) and
        the duration in seconds.
        """
        writer: GroupWriter[Posted, Receipt] = GroupWriter(
            self.write,
            max_batch=MAX_BATCH_SPANS,
            max_waiting=MAX_WAITING_SPANS,
            on_commit=on_commit,
            name="telemetry-writer",
        )
        writer.start()
        self._threads = _Threads(ThreadPoolExecutor(1, thread_name_prefix="telemetry-reader"), writer)

    def stop(self) -> None:
        """Commit all submissions and stop the threads."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.reader.shutdown(wait=True)
            threads.writer.stop()

    def submit(self, read: Callable[[], Posted]) -> Future[Any]:
        """Call `read` on the reader thread, and store the posted data that it returns with the next group commit.

        The future returns the receipt, or fails with the error of `read` or of the commit.

        Raises:
            WriterStoppedError: the intake has not been started, or was stopped.
        """
        threads = self._running()
        answer: Future[Any] = Future()
        _submit_to(threads.reader, _Reading(threads.writer, read, answer))
        return answer

    def read(self, read: Callable[[], Any]) -> Future[Any]:
        """Call `read` on the reader thread without storing anything; the returned future has the result of `read`.

        Use it for requests that relab decodes but does not store, such as metrics.

        Raises:
            WriterStoppedError: the intake has not been started, or was stopped.
        """
        return _submit_to(self._running().reader, read)

    def write(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        """Store a batch immediately; return a receipt or an error for each of its items, in order.

        When this returns, all that the receipts count as accepted is durable.

        Raises:
            DatabaseUnavailableError: the database cannot be used now.
            Exception: an item cannot be stored. A part of the batch may be stored already.
        """
        # Only one batch at a time, even if a command calls this while the writer thread writes.
        with self._lock:
            if self._writer is None:
                # Only here: a process that ingests nothing does not need the code that reads spans (5 MB of memory).
                from relab.telemetry.ingest.batch_writer import BatchWriter

                self._writer = BatchWriter(self._database, self._clock, shard=self._shard)
            return self._writer.write(batch)

    def _running(self) -> _Threads:
        if self._threads is None:
            raise _stopped()
        return self._threads


class _Reading:
    """A task of the reader thread: call `read`, and queue the posted data that it returns for the next group commit.

    The task drops its references to `read` and to the future `answer` before it ends, to avoid a reference cycle of the
    future, its error and the error's traceback. Such a cycle would keep the request's body in memory until the next
    garbage collection; garbage collections are rare.
    """

    def __init__(self, writer: GroupWriter[Posted, Receipt], read: Callable[[], Posted], answer: Future[Any]) -> None:
        self._arguments = [(writer, read, answer)]

    def __call__(self) -> None:
        writer, read, answer = self._arguments.pop()
        try:
            posted = read()
            writer.submit(posted, posted.weight, answer)
        except Exception as error:  # noqa: BLE001 the caller waits for the future
            resolve(answer, error)
        finally:
            del read, answer


def _submit_to(reader: ThreadPoolExecutor, function: Callable[[], Any]) -> Future[Any]:
    """Call `function` on the reader thread, which decodes received bodies; return the future of the result.

    Raises:
        WriterStoppedError: the reader thread no longer accepts calls, because the intake was stopped.
    """
    try:
        return reader.submit(function)
    except RuntimeError as error:
        raise _stopped() from error


def _stopped() -> WriterStoppedError:
    return WriterStoppedError("This process does not ingest telemetry now.", remedy="Send the request again.")
