"""Ingest telemetry: one thread decodes request bodies, another thread commits them in groups.

Decoding needs the interpreter of this process; committing waits for the disk and the
database. With one thread for each, one batch is decoded while another is committed, and
neither work ever runs twice at the same time. A request is answered after its commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from relab.core.clock import Clock
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.storage.group_commit import GroupWriter, WriterStoppedError, resolve
from relab.telemetry.errors import SourceConflictError
from relab.telemetry.models import IngestReceipt, TracesReceipt
from relab.telemetry.otlp.decoding import Origin, ReceivedSpan, Rejections, SpanBatch
from relab.telemetry.otlp.facts_cache import FactsCache
from relab.telemetry.records import RunRecord
from relab.telemetry.store import MAX_SPANS_PER_TRACE, BatchOutcome, TraceSpans, write_batch

MAX_BATCH_SPANS = 4_000
"""A batch of this size takes about a tenth of a second. A request waits for at most two batches."""
MAX_WAITING_SPANS = 20_000

_log = structlog.get_logger(__name__)

Receipt = IngestReceipt | TracesReceipt


@dataclass(frozen=True)
class PostedRun:
    """A complete run, posted as JSON."""

    record: RunRecord

    @property
    def weight(self) -> int:
        """How much there is to write, in spans."""
        return 1 + len(self.record.items)


@dataclass(frozen=True)
class PostedSpans:
    """The spans of an OTLP request."""

    batch: SpanBatch

    @property
    def weight(self) -> int:
        """How much there is to write, in spans."""
        return 1 + self.batch.span_count


Posted = PostedRun | PostedSpans


@dataclass(frozen=True)
class _Threads:
    reader: ThreadPoolExecutor
    writer: GroupWriter[Posted, Receipt]


class TelemetryIntake:
    """Ingests runs and spans: `write` stores them at once; `submit` adds them to a group commit.

    Args:
        shard: the roll-up shard of this process.
    """

    def __init__(self, database: Database, clock: Clock, *, shard: int) -> None:
        self._database = database
        self._clock = clock
        self._shard = shard
        self._cache = FactsCache()
        self._lock = threading.Lock()
        self._threads: _Threads | None = None

    @property
    def waiting(self) -> int:
        """The number of spans that are decoded but not yet committed."""
        return self._threads.writer.waiting if self._threads is not None else 0

    def start(self, on_commit: Callable[[int, float], None] = lambda _weight, _seconds: None) -> None:
        """Begin to accept submissions; call `on_commit(weight, seconds)` after each group commit."""
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
        """Queue a call of `read` on the reader thread; its result joins the next group commit.

        The future returns the receipt or fails with the error.

        Raises:
            WriterStoppedError: the intake has not been started, or was stopped.
        """
        threads = self._threads
        if threads is None:
            raise WriterStoppedError(
                "This process does not ingest telemetry at the moment.", remedy="Send the request again."
            )
        answer: Future[Any] = Future()
        threads.reader.submit(self._read, threads.writer, read, answer)
        return answer

    def write(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        """Store runs and spans; return a receipt, or the error of a conflicting run, for each item of the batch.

        Everything with a receipt is durable when this returns. If a batch posts the same run twice, the later post
        replaces the earlier one, as if they had arrived one after the other.

        Raises:
            DatabaseUnavailableError: the database cannot be used at the moment.
        """
        receipts: list[Receipt | SourceConflictError] = []
        for part in _apart(batch):
            receipts.extend(self._write_part(part))
        return receipts

    @staticmethod
    def _read(writer: GroupWriter[Posted, Receipt], read: Callable[[], Posted], answer: Future[Any]) -> None:
        try:
            posted = read()
            writer.submit(posted, posted.weight, answer)
        except Exception as error:  # noqa: BLE001 the caller waits for the future
            resolve(answer, error)

    def _write_part(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        runs = [posted.record for posted in batch if isinstance(posted, PostedRun)]
        traces = _merge([posted.batch for posted in batch if isinstance(posted, PostedSpans)])
        try:
            outcome = self._store(runs, traces)
        except DatabaseUnavailableError:
            raise
        except Exception:
            if len(batch) > 1 or len(traces) <= 1:
                raise
            return [self._write_trace_by_trace(batch[0])]
        return [_receipt(posted, outcome) for posted in batch]

    def _write_trace_by_trace(self, posted: Posted) -> Receipt | SourceConflictError:
        """Store spans one trace at a time, after the database rejected a part of them; reject only failing traces."""
        assert isinstance(posted, PostedSpans)
        batch = posted.batch
        stored = SpanBatch(rejections=batch.rejections)
        outcome = BatchOutcome()
        for trace_id, spans in batch.traces.items():
            alone = SpanBatch({trace_id: spans}, batch.origins)
            try:
                found = self._store([], _merge([alone]))
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 the other traces must be stored
                _log.exception("trace_rejected", trace_id=trace_id, spans=len(spans))
                stored.rejections.add(f"trace {trace_id} cannot be stored ({type(error).__name__})", len(spans))
                continue
            stored.traces[trace_id] = spans
            outcome.conflicts |= found.conflicts
            outcome.overfull |= found.overfull
        return _receipt(PostedSpans(stored), outcome)

    def _store(self, runs: Sequence[RunRecord], traces: dict[str, TraceSpans]) -> BatchOutcome:
        if not runs and not traces:
            return BatchOutcome()
        # Only one batch at a time, even if a command writes while the writer thread does: the cache is not thread-safe.
        with self._lock, self._database.write() as unit:
            return write_batch(
                unit.session, runs, traces, now_us=self._clock.now_us(), shard=self._shard, cache=self._cache
            )


@dataclass
class _Part:
    posted: list[Posted] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    traces: set[str] = field(default_factory=set)


def _apart(batch: Sequence[Posted]) -> list[list[Posted]]:
    """Split a batch into parts so that no posted run has the same id as another run or trace of its part.

    A transaction can write a run only once.
    """
    parts = [_Part()]
    for posted in batch:
        runs = {posted.record.run_id} if isinstance(posted, PostedRun) else set()
        traces = set(posted.batch.traces) if isinstance(posted, PostedSpans) else set()
        last = parts[-1]
        if runs & (last.runs | last.traces) or traces & last.runs:
            last = _Part()
            parts.append(last)
        last.posted.append(posted)
        last.runs |= runs
        last.traces |= traces
    return [part.posted for part in parts]


def _merge(batches: Sequence[SpanBatch]) -> dict[str, TraceSpans]:
    """Group the spans of several batches by trace; duplicates of a span are joined."""
    origins: dict[int, Origin] = {}
    for batch in batches:
        origins |= batch.origins
    traces: dict[str, TraceSpans] = {}
    for batch in batches:
        for trace_id, spans in batch.traces.items():
            trace = traces.get(trace_id)
            if trace is None:
                trace = traces[trace_id] = TraceSpans({}, origins)
            for received in spans:
                trace.add(received)
    return traces


def _receipt(posted: Posted, outcome: BatchOutcome) -> Receipt | SourceConflictError:
    if isinstance(posted, PostedRun):
        record = posted.record
        if record.run_id in outcome.conflicts:
            return SourceConflictError(
                f"The run {record.run_id!r} was received as OTLP spans and cannot be replaced by JSON.",
                remedy="Post it under another run_id.",
            )
        return IngestReceipt(
            run_id=record.run_id,
            created=record.run_id in outcome.created,
            content_hash=record.row.content_hash,
            counts=record.row.counts,
        )
    rejections = Rejections(posted.batch.rejections.count, list(posted.batch.rejections.reasons))
    taken = 0
    for trace_id, spans in posted.batch.traces.items():
        left_out = _left_out(trace_id, spans, outcome, rejections)
        taken += len(spans) - left_out
    return TracesReceipt(accepted=taken, rejected=rejections.count, reason=rejections.message())


def _left_out(trace_id: str, spans: Sequence[ReceivedSpan], outcome: BatchOutcome, rejections: Rejections) -> int:
    if trace_id in outcome.conflicts:
        rejections.add(f"{trace_id} is the id of a run that was posted as JSON", len(spans))
        return len(spans)
    overfull = outcome.overfull.get(trace_id)
    if not overfull:
        return 0
    count = sum(received.facts.span.span_id in overfull for received in spans)
    if count:
        rejections.add(f"trace {trace_id} has its {MAX_SPANS_PER_TRACE:,} spans", count)
    return count
