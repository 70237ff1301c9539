"""Write a batch of runs and traces in one transaction.

Complete runs (JSON) and traces that arrive in parts (OTLP) are stored in the same tables. Spans are stored as they were
received, and their runs are marked as unprojected: `projector.py` computes the runs from the spans before they are
read. If too many runs are unprojected, this transaction computes the runs of the batch itself.

Log records may arrive before the spans of their trace, so before the trace has a run. The transaction that stores such
records inserts a row for the run and deletes it again. Other transactions never see the row. But one that creates this
run at the same time waits until this transaction ends; therefore its run includes the log records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relab.storage.planner import prefer_indexes
from relab.storage.session import DatabaseSession
from relab.telemetry import repository
from relab.telemetry.ingest.postponing import Backlog, due_us, size_of
from relab.telemetry.models import MAX_ITEMS, RunFields
from relab.telemetry.otlp.decoding import Origin, ReceivedSpan
from relab.telemetry.otlp.joining import join_spans
from relab.telemetry.otlp.logs import ReceivedLog
from relab.telemetry.overview import rollup_repository
from relab.telemetry.overview.rollups import Changes, Contribution
from relab.telemetry.projection import projection_repository, remapping
from relab.telemetry.projection.projection_repository import Waiting
from relab.telemetry.received import span_repository
from relab.telemetry.received.log_repository import LogKey
from relab.telemetry.received.log_store import write_logs
from relab.telemetry.received.span_tables import SpanOriginRow, StoredSpan
from relab.telemetry.records import RunRecord, run_record, step_latencies_ms
from relab.telemetry.search_repository import collect
from relab.telemetry.tables import NEVER_PROJECTED, UNPROJECTED, FormerRun, ItemKey, StoredItem

MAX_SPANS_PER_TRACE = MAX_ITEMS
"""A span becomes at most one step, one call and one event, so that runs computed from spans have the same limits as posted runs."""


@dataclass
class TraceSpans:
    """The spans and log records of one trace that arrived together; each span occurs once.

    Attributes:
        spans: `{span id: span}`; empty if only log records arrived.
        origins: `{key: origin}` (resource and scope) of these spans and log records. It may also have origins of other
            traces that arrived in the same batch.
        logs: the log records.
    """

    spans: dict[str, ReceivedSpan]
    origins: Mapping[int, Origin]
    logs: list[ReceivedLog] = field(default_factory=list)

    def add(self, received: ReceivedSpan) -> None:
        """Add a span that was received; join it with an earlier report of the same span."""
        span_id = received.span_id
        known = self.spans.get(span_id)
        if known is None:
            self.spans[span_id] = received
        elif known.raw != received.raw or known.origin != received.origin:
            self.spans[span_id] = ReceivedSpan(
                span_id,
                max(known.origin, received.origin),
                join_spans(known.raw, received.raw),
                min(known.start_us, received.start_us),
                known.is_root and received.is_root,
            )


@dataclass
class BatchOutcome:
    """The result of writing a batch.

    Attributes:
        created: ids of the new runs.
        conflicts: ids of runs already ingested from the other source (OTLP or JSON). The posted run or the spans were
            not written; log records were.
        overfull: `{trace id: ids of rejected spans}`, because the trace has reached its maximum number of spans.
        overfull_logs: `{trace id: keys of rejected log records}`, because the trace has reached its maximum number of
            log records.
    """

    created: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)
    overfull: dict[str, set[str]] = field(default_factory=dict)
    overfull_logs: dict[str, set[LogKey]] = field(default_factory=dict)


def write_batch(
    session: DatabaseSession,
    runs: Sequence[RunRecord],
    traces: Mapping[str, TraceSpans],
    *,
    now_us: int,
    shard: int,
    backlog: Backlog,
) -> BatchOutcome:
    """Store complete runs, and spans and log records of traces, in one transaction.

    Args:
        session: the session of the transaction.
        runs: the records of complete runs. No run id may occur twice in `runs` and `traces` together.
        traces: `{trace id: spans and log records}`.
        now_us: the current time in microseconds since 1970.
        shard: the shard (0 to 15) of the overview's sums to change. Each sum has one row per shard, so that parallel
            writers rarely wait for each other.
        backlog: decides whether the runs of the traces are computed later, or in this transaction.
    """
    return _Batch(session, now_us, shard).write(runs, traces, backlog)


class _Batch:
    """Collects the rows of runs, timelines, spans and log records that one transaction writes, and writes them."""

    def __init__(self, session: DatabaseSession, now_us: int, shard: int) -> None:
        self._session = session
        self._now_us = now_us
        self._shard = shard
        self._changes = Changes()
        self._outcome = BatchOutcome()
        self._new_items: list[StoredItem] = []
        self._gone_items: list[ItemKey] = []
        self._replaced: list[dict[str, Any]] = []
        self._written: list[RunRecord] = []
        self._new_spans: list[StoredSpan] = []
        self._rewritten_spans: list[StoredSpan] = []
        self._new_origins: list[span_repository.OriginTuple] = []
        self._new_traces: dict[str, int] = {}
        self._growing: list[Waiting] = []
        self._grown = 0

    def write(self, runs: Sequence[RunRecord], traces: Mapping[str, TraceSpans], backlog: Backlog) -> BatchOutcome:
        records = {record.run_id: record for record in runs}
        rows = [record.columns(self._now_us) for record in runs]
        only_logs = {trace_id for trace_id, trace in traces.items() if not trace.spans}
        for trace_id, trace in traces.items():
            if trace.spans:
                self._make_room(trace_id, trace, 0)
                rows.append(self._unprojected_row(trace_id, trace))
        rows += [{**_EMPTY_COLUMNS, "run_id": trace_id} for trace_id in only_logs]
        present = repository.insert_or_lock(self._session, rows)
        repository.delete_run_rows(self._session, only_logs - present)
        with_events = self._write_logs(traces)
        for run_id, record in records.items():
            if run_id not in present:
                self._outcome.created.add(run_id)
                self._new_items.extend(record.items)
                self._written.append(record)
                self._count(record)
        for trace_id, trace in traces.items():
            if trace_id not in present and trace.spans:
                self._outcome.created.add(trace_id)
                self._add_spans(trace_id, trace, trace.spans)
                self._add_origins(trace_id, trace, ())
        if present:
            self._change(present, records, traces, with_events)
        self._flush()
        self._project_if_full(backlog)
        return self._outcome

    def _unprojected_row(self, trace_id: str, trace: TraceSpans) -> dict[str, Any]:
        """Return the row of `agent_runs` (`{column: value}`) of a new trace; `projector.py` completes it later."""
        spans = trace.spans.values()
        size = sum([size_of(received.raw) for received in spans])
        self._new_traces[trace_id] = size
        return {
            **_EMPTY_COLUMNS,
            "received_at": self._now_us,
            "updated_at": self._now_us,
            "run_id": trace_id,
            "started_at": min([received.start_us for received in spans]),
            "content_hash": NEVER_PROJECTED,
            "mapper_version": UNPROJECTED,
            "project_at": due_us(None, size, has_root=False, now_us=self._now_us),
            "waiting_size": size,
        }

    def _write_logs(self, traces: Mapping[str, TraceSpans]) -> set[str]:
        """Store log records of traces; return the ids of the traces whose spans got new events from these records."""
        logs = {trace_id: trace.logs for trace_id, trace in traces.items() if trace.logs}
        origins: dict[int, Origin] = {}
        for trace_id in logs:
            origins |= traces[trace_id].origins
        done = write_logs(self._session, logs, origins, now_us=self._now_us)
        self._outcome.overfull_logs = done.overfull
        return done.with_events

    def _add_spans(self, trace_id: str, trace: TraceSpans, span_ids: Iterable[str]) -> None:
        spans = trace.spans
        for span_id in span_ids:
            received = spans[span_id]
            self._new_spans.append(StoredSpan(trace_id, span_id, received.origin, received.raw))

    def _change(
        self,
        present: set[str],
        records: Mapping[str, RunRecord],
        traces: Mapping[str, TraceSpans],
        with_events: set[str],
    ) -> None:
        stored = repository.load_former_runs(self._session, present)
        changed: dict[str, RunRecord] = {}
        growing: dict[str, TraceSpans] = {}
        for run_id, row in stored.items():
            self._new_traces.pop(run_id, None)
            record, trace = records.get(run_id), traces.get(run_id)
            if record is not None and row.source != "json":
                self._outcome.conflicts.add(run_id)
            elif record is not None and record.row.content_hash != row.content_hash:
                changed[run_id] = record
            elif trace is not None and row.source == "otlp":
                growing[run_id] = trace
            elif trace is not None and trace.spans:
                # A run that was posted as JSON may have log records, but no spans.
                self._outcome.conflicts.add(run_id)
        self._grow(stored, growing, with_events)
        if not changed:
            return
        former = repository.load_items(self._session, changed)
        for run_id, record in changed.items():
            items = former.get(run_id, {})
            self._changes.subtract(stored[run_id], step_latencies_ms(items.values()))
            self._count(record)
            self._replaced.append(record.columns(self._now_us, stored[run_id]))
            self._written.append(record)
            self._replace_items(items, record.items)

    def _grow(self, stored: Mapping[str, FormerRun], traces: Mapping[str, TraceSpans], with_events: set[str]) -> None:
        """Collect the new and changed spans of stored traces, and the marks that the runs must be computed again.

        Args:
            stored: `{trace id: stored run}`.
            traces: `{trace id: received spans and log records}`.
            with_events: the ids of the traces with a new log record that relab reads as an event of a span.
        """
        with_spans = [trace_id for trace_id, trace in traces.items() if trace.spans]
        if with_spans:
            prefer_indexes(self._session)
        counts = span_repository.count_spans(self._session, with_spans)
        known_origins = span_repository.load_origin_keys(self._session, SpanOriginRow, with_spans)
        for trace_id, trace in traces.items():
            added = len(trace.logs) if trace_id in with_events else 0
            has_root = False
            if trace.spans:
                fresh, rewritten = self._merge(trace_id, trace, counts.get(trace_id, 0))
                self._add_origins(trace_id, trace, [key for owner, key in known_origins if owner == trace_id])
                added += sum(size_of(trace.spans[span_id].raw) for span_id in (*fresh, *rewritten))
                has_root = any(trace.spans[span_id].is_root for span_id in (*fresh, *rewritten))
            if not added:
                continue
            self._grown += added
            former = stored[trace_id]
            size = (former.waiting_size if former.is_unprojected else former.items) + added
            due = due_us(former, size, has_root=has_root, now_us=self._now_us)
            started_at = former.started_at
            if not former.is_counted:
                started_at = min([started_at, *(received.start_us for received in trace.spans.values())])
            self._growing.append(Waiting(trace_id, due, size, self._now_us, started_at))

    def _merge(self, trace_id: str, trace: TraceSpans, stored: int) -> tuple[set[str], list[str]]:
        """Determine which received spans are new, and which ones change a stored span; collect them for the write.

        Return `(ids of new spans, ids of changed spans)`.

        Args:
            trace_id: the id of the trace.
            trace: the received spans.
            stored: how many spans of the trace are stored already. New spans beyond the trace's limit are rejected.
        """
        repeated = span_repository.load_some(self._session, trace_id, trace.spans)
        fresh = trace.spans.keys() - repeated
        self._make_room(trace_id, trace, stored, among=fresh)
        self._add_spans(trace_id, trace, fresh)
        rewritten = []
        for span_id, (origin, raw) in repeated.items():
            received = trace.spans[span_id]
            joined = max(origin, received.origin), join_spans(raw, received.raw)
            if joined != (origin, raw):
                self._rewritten_spans.append(StoredSpan(trace_id, span_id, *joined))
                rewritten.append(span_id)
        return fresh, rewritten

    def _make_room(self, trace_id: str, trace: TraceSpans, stored: int, *, among: set[str] | None = None) -> None:
        """Remove the new spans of `trace` that exceed the maximum number of spans, and count them as rejected.

        The spans with the greatest ids are removed.

        Args:
            trace_id: the id of the trace.
            trace: the received spans of the trace, from which spans are removed.
            stored: how many spans of the trace are stored already.
            among: the ids of the spans in `trace` that are not stored yet; the ids of removed spans are also removed
                from this set. None if no span in `trace` is stored yet.
        """
        candidates = trace.spans.keys() if among is None else among
        room = max(MAX_SPANS_PER_TRACE - stored, 0)
        if len(candidates) <= room:
            return
        # By id, so that a repeated export rejects the same spans.
        rejected = set(sorted(candidates)[room:])
        self._outcome.overfull[trace_id] = self._outcome.overfull.get(trace_id, set()) | rejected
        for span_id in rejected:
            del trace.spans[span_id]
            if among is not None:
                among.discard(span_id)

    def _add_origins(self, trace_id: str, trace: TraceSpans, known: Iterable[int]) -> None:
        used = {received.origin for received in trace.spans.values()} - set(known)
        self._new_origins.extend([(trace_id, key, trace.origins[key].data) for key in used])

    def _replace_items(self, former: Mapping[ItemKey, StoredItem], items: Iterable[StoredItem]) -> None:
        wanted = {item.key: item for item in items}
        self._gone_items.extend([key for key, item in former.items() if wanted.get(key) != item])
        self._new_items.extend([item for key, item in wanted.items() if former.get(key) != item])

    def _count(self, record: RunRecord) -> None:
        self._changes.count(Contribution.of(record.row, step_latencies_ms(record.items)), 1)

    def _flush(self) -> None:
        session = self._session
        repository.replace_runs(session, self._replaced)
        projection_repository.mark_unprojected(session, self._growing)
        repository.delete_items(session, self._gone_items)
        repository.insert_items(session, self._new_items)
        collect(session, [(record, self._now_us) for record in self._written])
        span_repository.insert_origins(session, SpanOriginRow, self._new_origins)
        span_repository.rewrite_spans(session, self._rewritten_spans)
        span_repository.insert_spans(session, self._new_spans)
        rollup_repository.apply(session, self._changes, self._shard)

    def _project_if_full(self, backlog: Backlog) -> None:
        """If too many runs are unprojected (not computed from their spans yet), compute the runs of this batch now."""
        unprojected = [*self._new_traces, *(run.run_id for run in self._growing)]
        if unprojected and not backlog.has_room(self._session, sum(self._new_traces.values()) + self._grown):
            remapping.remap_runs(self._session, unprojected, now_us=self._now_us, shard=self._shard)


_EMPTY_COLUMNS: Final = run_record(
    RunFields.model_validate(
        {"run_id": "unknown", "agent_name": "unknown", "started_at": "1970-01-01T00:00:00Z", "status": "running"}
    ),
    [],
    (),
    source="otlp",
    data="{}",
    content_hash=NEVER_PROJECTED,
    calls=(),
    search_parts=(),
).columns(0)
"""The columns that are inserted for a trace that is not projected yet, and to lock a trace that has no run."""
