"""Taking telemetry in: bytes are read on one thread and committed in groups on another.

Reading costs this process's one interpreter, committing waits for the disk and the
database; with a thread for each, one batch is read while another is being committed, and
neither ever runs twice at once. The answer to a request is given by the commit.
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
from relab.telemetry.models import ExportReceipt, IngestReceipt
from relab.telemetry.otlp.decoding import Origin, ReceivedSpan, Refusals, SpanExport
from relab.telemetry.otlp.facts_cache import FactsCache
from relab.telemetry.records import RunRecord
from relab.telemetry.store import MAX_SPANS_PER_TRACE, BatchOutcome, TraceSpans, write_batch

MAX_BATCH_SPANS = 4_000
"""A batch of this size takes about a tenth of a second, which is what a request waits for at most twice."""
MAX_WAITING_SPANS = 20_000

_log = structlog.get_logger(__name__)

Receipt = IngestReceipt | ExportReceipt


@dataclass(frozen=True)
class PostedRun:
    """A run that came whole."""

    record: RunRecord

    @property
    def weight(self) -> int:
        """How much there is to write, in spans."""
        return 1 + len(self.record.items)


@dataclass(frozen=True)
class PostedSpans:
    """An export of spans."""

    export: SpanExport

    @property
    def weight(self) -> int:
        """How much there is to write, in spans."""
        return 1 + self.export.span_count


Posted = PostedRun | PostedSpans


@dataclass(frozen=True)
class _Threads:
    reader: ThreadPoolExecutor
    writer: GroupWriter[Posted, Receipt]


class TelemetryIntake:
    """The way in for runs and spans. `write` stores at once; `submit` joins a group commit.

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
        """How many spans are read and wait for their commit."""
        return self._threads.writer.waiting if self._threads is not None else 0

    def start(self, on_commit: Callable[[int, float], None] = lambda _weight, _seconds: None) -> None:
        """Begin to take submissions; `on_commit` is told of the weight and the seconds of each group commit."""
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
        """Commit what was submitted, and end."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.reader.shutdown(wait=True)
            threads.writer.stop()

    def submit(self, read: Callable[[], Posted]) -> Future[Any]:
        """Have `read` called in its turn and what it returns committed; the future has the receipt or the error.

        Raises:
            WriterStoppedError: the intake is not started, or stopped.
        """
        threads = self._threads
        if threads is None:
            raise WriterStoppedError("This process takes nothing in right now.", remedy="Send it again.")
        answer: Future[Any] = Future()
        threads.reader.submit(self._read, threads.writer, read, answer)
        return answer

    def write(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        """Store runs and spans; durable when this returns a receipt for each, or the error of a run that conflicts.

        Of two posts of one run in a batch the later one counts, as if they had come one by one.

        Raises:
            DatabaseUnavailableError: the database cannot be used right now.
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
        except Exception as error:  # noqa: BLE001 whoever waits must be answered
            resolve(answer, error)

    def _write_part(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        runs = [posted.record for posted in batch if isinstance(posted, PostedRun)]
        traces = _merge([posted.export for posted in batch if isinstance(posted, PostedSpans)])
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
        """Store an export of which the database refuses something, one trace at a time."""
        assert isinstance(posted, PostedSpans)
        export = posted.export
        stored = SpanExport(refusals=export.refusals)
        outcome = BatchOutcome()
        for trace_id, spans in export.traces.items():
            alone = SpanExport({trace_id: spans}, export.origins)
            try:
                found = self._store([], _merge([alone]))
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 the other traces must be stored
                _log.exception("trace_refused", trace_id=trace_id, spans=len(spans))
                stored.refusals.add(f"trace {trace_id} cannot be stored ({type(error).__name__})", len(spans))
                continue
            stored.traces[trace_id] = spans
            outcome.conflicts |= found.conflicts
            outcome.overfull |= found.overfull
        return _receipt(PostedSpans(stored), outcome)

    def _store(self, runs: Sequence[RunRecord], traces: dict[str, TraceSpans]) -> BatchOutcome:
        if not runs and not traces:
            return BatchOutcome()
        # One batch at a time, also when a command writes beside the server's writer: the cache is not for two.
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
    """Cut a batch where a posted run meets its own id again: a run is written once per transaction."""
    parts = [_Part()]
    for posted in batch:
        runs = {posted.record.run_id} if isinstance(posted, PostedRun) else set()
        traces = set(posted.export.traces) if isinstance(posted, PostedSpans) else set()
        last = parts[-1]
        if runs & (last.runs | last.traces) or traces & last.runs:
            last = _Part()
            parts.append(last)
        last.posted.append(posted)
        last.runs |= runs
        last.traces |= traces
    return [part.posted for part in parts]


def _merge(exports: Sequence[SpanExport]) -> dict[str, TraceSpans]:
    """Bring the spans of several exports together by trace, each span once."""
    origins: dict[int, Origin] = {}
    for export in exports:
        origins |= export.origins
    traces: dict[str, TraceSpans] = {}
    for export in exports:
        for trace_id, spans in export.traces.items():
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
            content_hash=record.content_hash,
            counts=record.counts,
        )
    refusals = Refusals(posted.export.refusals.count, list(posted.export.refusals.reasons))
    taken = 0
    for trace_id, spans in posted.export.traces.items():
        left_out = _left_out(trace_id, spans, outcome, refusals)
        taken += len(spans) - left_out
    return ExportReceipt(accepted=taken, refused=refusals.count, reason=refusals.message())


def _left_out(trace_id: str, spans: Sequence[ReceivedSpan], outcome: BatchOutcome, refusals: Refusals) -> int:
    if trace_id in outcome.conflicts:
        refusals.add(f"{trace_id} is the id of a run that was posted as JSON", len(spans))
        return len(spans)
    overfull = outcome.overfull.get(trace_id)
    if not overfull:
        return 0
    count = sum(received.facts.span.span_id in overfull for received in spans)
    if count:
        refusals.add(f"trace {trace_id} has its {MAX_SPANS_PER_TRACE:,} spans", count)
    return count
