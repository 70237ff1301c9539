"""Write what was posted in batches, and return a receipt for each post."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.telemetry.errors import SourceConflictError
from relab.telemetry.models import IngestReceipt, TracesReceipt
from relab.telemetry.otlp.decoding import Origin, ReceivedSpan, Rejections, SpanBatch
from relab.telemetry.otlp.facts_cache import FactsCache
from relab.telemetry.posted import Posted, PostedRun, PostedSpans, Receipt
from relab.telemetry.records import RunRecord
from relab.telemetry.store import MAX_SPANS_PER_TRACE, BatchOutcome, TraceSpans, write_batch

_log = get_logger(__name__)


class BatchWriter:
    """Stores batches of runs and spans. It is not thread-safe, because it has a cache of the facts of spans.

    Args:
        shard: the roll-up shard of this process.
    """

    def __init__(self, database: Database, clock: Clock, *, shard: int) -> None:
        self._database = database
        self._clock = clock
        self._shard = shard
        self._cache = FactsCache()

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
        with self._database.write() as unit:
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
