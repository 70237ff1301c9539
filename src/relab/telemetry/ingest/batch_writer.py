"""Store batches of posted runs, spans and log records, and return a receipt for each post."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.telemetry.errors import SourceConflictError
from relab.telemetry.ingest.otlp_requests import group_by_trace, receipt_of, with_batch
from relab.telemetry.ingest.posted import Posted, PostedRun, Receipt
from relab.telemetry.ingest.postponing import Backlog
from relab.telemetry.ingest.store import BatchOutcome, TraceSpans, write_batch
from relab.telemetry.models import IngestReceipt
from relab.telemetry.otlp.decoding import TraceBatch
from relab.telemetry.records import RunRecord

_log = get_logger(__name__)


class BatchWriter:
    """Stores batches of runs, spans and log records. It is not thread-safe.

    Args:
        database: the database to write to.
        clock: provides the time of receipt.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other. Always 0 with SQLite.
    """

    def __init__(self, database: Database, clock: Clock, *, shard: int) -> None:
        self._database = database
        self._clock = clock
        self._shard = shard
        self._backlog = Backlog()

    def write(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        """Store runs, spans and log records; return a receipt or an error for each item of the batch, in order.

        When this returns, all that the receipts count as accepted is durable. If a posted run occurs twice in a batch,
        the later one is kept.

        Returns:
            A receipt, or `SourceConflictError` (not raised) for a posted run that was already ingested as spans.

        Raises:
            DatabaseUnavailableError: the database cannot be used now.
            Exception: an item cannot be stored. A part of the batch may be stored already.
        """
        receipts: list[Receipt | SourceConflictError] = []
        for part in _apart(batch):
            receipts.extend(self._write_part(part))
        return receipts

    def _write_part(self, batch: Sequence[Posted]) -> list[Receipt | SourceConflictError]:
        runs = [posted.record for posted in batch if isinstance(posted, PostedRun)]
        traces = group_by_trace([posted for posted in batch if not isinstance(posted, PostedRun)])
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
        """Store each trace of an OTLP request in its own transaction, because the whole request could not be stored.

        Return the receipt of the request. It counts the traces whose own transaction fails as rejected.
        """
        assert not isinstance(posted, PostedRun)
        batch = posted.batch
        stored: Any = TraceBatch(rejections=batch.rejections, ignored=batch.ignored)
        outcome = BatchOutcome()
        for trace_id, items in batch.traces.items():
            alone = with_batch(posted, TraceBatch({trace_id: items}, batch.origins))
            try:
                found = self._store([], group_by_trace([alone]))
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 the other traces must be stored
                _log.exception("trace_rejected", trace_id=trace_id, items=len(items))
                stored.rejections.add(f"trace {trace_id} cannot be stored ({type(error).__name__})", len(items))
                continue
            stored.traces[trace_id] = items
            outcome.conflicts |= found.conflicts
            outcome.overfull |= found.overfull
            outcome.overfull_logs |= found.overfull_logs
        return _receipt(with_batch(posted, stored), outcome)

    def _store(self, runs: Sequence[RunRecord], traces: dict[str, TraceSpans]) -> BatchOutcome:
        if not runs and not traces:
            return BatchOutcome()
        with self._database.write() as unit:
            return write_batch(
                unit.session,
                runs,
                traces,
                now_us=self._clock.now_us(),
                shard=self._shard,
                backlog=self._backlog,
            )


@dataclass
class _Part:
    posted: list[Posted] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    traces: set[str] = field(default_factory=set)


def _apart(batch: Sequence[Posted]) -> list[list[Posted]]:
    """Split a batch into parts that can be stored in one transaction each; the order of the batch is kept.

    No run is written twice within a part: the id of a posted run differs from the ids of all other posted runs and of
    all traces in the part. Several requests in a part may have spans or log records of the same trace.
    """
    parts = [_Part()]
    for posted in batch:
        runs = {posted.record.run_id} if isinstance(posted, PostedRun) else set()
        traces = set() if isinstance(posted, PostedRun) else set(posted.batch.traces)
        last = parts[-1]
        # One transaction writes one part. It can write a run only once, whether the run was posted or is computed from
        # a trace.
        if runs & (last.runs | last.traces) or traces & last.runs:
            last = _Part()
            parts.append(last)
        last.posted.append(posted)
        last.runs |= runs
        last.traces |= traces
    return [part.posted for part in parts]


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
    return receipt_of(posted, outcome)
