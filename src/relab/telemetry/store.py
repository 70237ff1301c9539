"""Write a batch of runs and traces in one transaction.

Complete runs (JSON) and traces that arrive in parts (OTLP) are stored in the same
tables. Nearly all runs are new: they are projected from the batch alone and
inserted. A run that already exists is locked, and its trace is projected again from all of
its spans; only the changed rows are written. Log records that are events of spans are part of the projection.

Log records of a trace without a run wait for its spans. Their transaction inserts the row of the run and deletes it again:
the row is never visible, but until the end of the transaction no other one can insert it. So a transaction that
makes the run waits, and then reads these records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from relab.storage.planner import prefer_indexes
from relab.telemetry import repository, rollup_repository, span_repository
from relab.telemetry.log_repository import LogKey
from relab.telemetry.log_store import load_events, write_logs
from relab.telemetry.models import MAX_ITEMS, RunFields, RunStatus
from relab.telemetry.otlp.decoding import Origin, ReceivedSpan
from relab.telemetry.otlp.facts import facts_of
from relab.telemetry.otlp.facts_cache import FactsCache
from relab.telemetry.otlp.joining import join_spans
from relab.telemetry.otlp.logs import LogEvents, ReceivedLog, with_events
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.roles import MAPPER_VERSION
from relab.telemetry.otlp.spans import read_span
from relab.telemetry.postponing import MAX_WAITING_ITEMS, ProjectedSizes, may_end_run
from relab.telemetry.records import RunRecord, run_record, step_latencies_ms
from relab.telemetry.rollups import Changes, Contribution
from relab.telemetry.tables import UNPROJECTED, FormerRun, ItemKey, StoredItem, StoredSpan

MAX_SPANS_PER_TRACE = MAX_ITEMS
"""Each span is at most one step, call and event of the run, so that a run made from spans keeps the limit of posted runs."""


@dataclass
class TraceSpans:
    """The spans and log records of one trace, without duplicate spans, and the origins that they refer to.

    Attributes:
        spans: `{span id: span}`; empty if only log records arrived.
        origins: `{key: origin}`; may also contain origins of other traces.
        logs: the log records.
    """

    spans: dict[str, ReceivedSpan]
    origins: Mapping[int, Origin]
    logs: list[ReceivedLog] = field(default_factory=list)

    def add(self, received: ReceivedSpan) -> None:
        """Add a span that was received; join it with an earlier report of the same span."""
        span_id = received.facts.span.span_id
        known = self.spans.get(span_id)
        if known is None:
            self.spans[span_id] = received
        elif known.raw != received.raw or known.origin != received.origin:
            self.spans[span_id] = self._join(known, received)

    def _join(self, known: ReceivedSpan, received: ReceivedSpan) -> ReceivedSpan:
        raw = join_spans(known.raw, received.raw)
        origin = max(known.origin, received.origin)
        return ReceivedSpan(facts_of(read_span(raw), self.origins[origin].resource), origin, raw)


@dataclass
class BatchOutcome:
    """The result of writing a batch.

    Attributes:
        created: ids of the new runs.
        conflicts: ids of the runs already ingested from another source (OTLP / JSON); their data was not written.
        overfull: `{trace id: ids of rejected spans}` of the traces that are full.
        overfull_logs: `{trace id: keys of rejected log records}` of the traces that are full.
    """

    created: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)
    overfull: dict[str, set[str]] = field(default_factory=dict)
    overfull_logs: dict[str, set[LogKey]] = field(default_factory=dict)


def write_batch(
    session: Session,
    runs: Sequence[RunRecord],
    traces: Mapping[str, TraceSpans],
    *,
    now_us: int,
    shard: int,
    cache: FactsCache,
    sizes: ProjectedSizes,
) -> BatchOutcome:
    """Store complete runs, and spans and log records of traces.

    Args:
        session: the session of the transaction.
        runs: the records of complete runs. No run id may occur twice in `runs` and `traces` together.
        traces: `{trace id: spans and log records}`.
        now_us: the current time in microseconds since the epoch.
        shard: which of the rows of a roll-up this process changes, so that processes need not wait for each other.
        cache: the cache of the facts of spans.
        sizes: the sizes of large traces at their last projection; a trace that has hardly grown is projected later.
    """
    return _Batch(session, now_us, shard, cache, sizes).write(runs, traces)


class _Batch:
    """Collect and write the rows of one transaction."""

    def __init__(self, session: Session, now_us: int, shard: int, cache: FactsCache, sizes: ProjectedSizes) -> None:
        self._cache = cache
        self._sizes = sizes
        self._session = session
        self._now_us = now_us
        self._shard = shard
        self._changes = Changes()
        self._outcome = BatchOutcome()
        self._new_items: list[StoredItem] = []
        self._gone_items: list[ItemKey] = []
        self._replaced: list[dict[str, Any]] = []
        self._new_spans: list[StoredSpan] = []
        self._rewritten_spans: list[StoredSpan] = []
        self._unprojected: list[str] = []
        self._new_origins: list[span_repository.OriginTuple] = []
        self._with_new_events: set[str] = set()

    def write(self, runs: Sequence[RunRecord], traces: Mapping[str, TraceSpans]) -> BatchOutcome:
        records = {record.run_id: record for record in runs}
        only_logs = set()
        for trace_id, trace in traces.items():
            if trace.spans:
                self._make_room(trace_id, trace, 0)
                records[trace_id] = project(trace_id, [received.facts for received in trace.spans.values()])
            else:
                only_logs.add(trace_id)
        rows = [record.columns(self._now_us) for record in records.values()]
        locks = [_LOCK.columns(self._now_us) | {"run_id": trace_id} for trace_id in only_logs]
        present = repository.insert_or_lock(self._session, rows + locks)
        repository.delete_run_rows(self._session, only_logs - present)
        events = self._write_logs(traces)
        for run_id, record in records.items():
            if run_id not in present:
                self._add_new(record, traces.get(run_id), events.get(run_id))
        if present:
            self._change(present, records, traces, events)
        self._flush()
        return self._outcome

    def _write_logs(self, traces: Mapping[str, TraceSpans]) -> dict[str, LogEvents]:
        """Store the log records; return the events of the spans of each trace that may have to be projected."""
        logs = {trace_id: trace.logs for trace_id, trace in traces.items() if trace.logs}
        origins: dict[int, Origin] = {}
        for trace_id in logs:
            origins |= traces[trace_id].origins
        done = write_logs(self._session, logs, origins, now_us=self._now_us)
        self._outcome.overfull_logs = done.overfull
        self._with_new_events = done.with_events
        wanted = [trace_id for trace_id, trace in traces.items() if trace.spans or trace_id in done.with_events]
        return dict(load_events(self._session, wanted)) if wanted else {}

    def _add_new(self, record: RunRecord, trace: TraceSpans | None, events: LogEvents | None) -> None:
        run_id = record.run_id
        if trace is not None and events:
            # The row was inserted from the spans alone, because only its lock makes the log records complete.
            spans = [(received.facts, received.raw) for received in trace.spans.values()]
            record = project(run_id, with_events(spans, events))
            self._replaced.append(record.columns(self._now_us))
        self._outcome.created.add(run_id)
        self._new_items.extend(record.items)
        self._count(record)
        if trace is not None:
            self._add_spans(run_id, trace)
            self._add_origins(run_id, trace, ())
            self._sizes.note(run_id, len(trace.spans))

    def _add_spans(self, trace_id: str, trace: TraceSpans) -> None:
        self._new_spans.extend(
            [StoredSpan(trace_id, span_id, received.origin, received.raw) for span_id, received in trace.spans.items()]
        )

    def _change(
        self,
        present: set[str],
        records: Mapping[str, RunRecord],
        traces: Mapping[str, TraceSpans],
        events: Mapping[str, LogEvents],
    ) -> None:
        stored = repository.load_former_runs(self._session, present)
        for run_id, row in stored.items():
            # A run that was posted as JSON may have log records, but no spans.
            if run_id in records and row.source != records[run_id].row.source:
                self._outcome.conflicts.add(run_id)
        changed = {
            run_id: record
            for run_id in present - self._outcome.conflicts - traces.keys()
            if (record := records[run_id]).row.content_hash != stored[run_id].content_hash
        }
        growing = {
            run_id: traces[run_id]
            for run_id in (present - self._outcome.conflicts) & traces.keys()
            if stored[run_id].source == "otlp" and (run_id in records or run_id in self._with_new_events)
        }
        changed |= self._merge(
            stored,
            {run_id: trace for run_id, trace in growing.items() if not self._postpone(stored[run_id], trace)},
            events,
        )
        if not changed:
            return
        former = repository.load_items(self._session, changed)
        for run_id, record in changed.items():
            items = former.get(run_id, {})
            self._changes.count(Contribution.of(stored[run_id], step_latencies_ms(items.values())), -1)
            self._count(record)
            self._replaced.append(record.columns(self._now_us))
            self._replace_items(items, record.items)

    def _postpone(self, run: FormerRun, trace: TraceSpans) -> bool:
        """Collect the new spans of a large trace without projecting it; return False if it must be projected now."""
        run_id, room = run.run_id, self._sizes.room(run.run_id)
        if not room or run.status != RunStatus.RUNNING or run.mapper_version not in (MAPPER_VERSION, UNPROJECTED):
            return False
        if not trace.spans or run_id in self._with_new_events or may_end_run(trace.spans.values()):
            return False
        count = span_repository.count_spans(self._session, run_id) + len(trace.spans)
        if count > min(room, MAX_SPANS_PER_TRACE):
            return False
        waiting = repository.list_unprojected(self._session)
        if sum(items for other, items in waiting if other != run_id) + count > MAX_WAITING_ITEMS:
            return False
        if span_repository.has_some(self._session, run_id, trace.spans):
            # A repeated report may change what the stored one says.
            return False
        self._add_spans(run_id, trace)
        known = span_repository.load_origins(self._session, [run_id])
        self._add_origins(run_id, trace, [key for _, key, _ in known])
        for received in trace.spans.values():
            self._cache.keep(received.raw, received.origin, received.facts)
        self._unprojected.append(run_id)
        return True

    def _merge(
        self, stored: Mapping[str, FormerRun], traces: Mapping[str, TraceSpans], events: Mapping[str, LogEvents]
    ) -> dict[str, RunRecord]:
        """Merge spans and events into stored traces; return the records of the runs that this changes."""
        if not traces:
            return {}
        prefer_indexes(self._session)
        former: dict[str, dict[str, tuple[int, bytes]]] = {trace_id: {} for trace_id in traces}
        for trace_id, span_id, origin, raw in span_repository.load_spans(self._session, traces):
            former[trace_id][span_id] = (origin, raw)
        origins: dict[str, dict[int, Any]] = {trace_id: {} for trace_id in traces}
        for trace_id, key, content in span_repository.load_origins(self._session, traces):
            origins[trace_id][key] = content["resource"]
        changed = {}
        for trace_id, trace in traces.items():
            record = self._merge_one(trace_id, trace, former[trace_id], origins[trace_id], events.get(trace_id, {}))
            known = stored[trace_id]
            if record is not None and (
                record.row.content_hash != known.content_hash or known.mapper_version != MAPPER_VERSION
            ):
                changed[trace_id] = record
        return changed

    def _merge_one(
        self,
        trace_id: str,
        trace: TraceSpans,
        former: dict[str, tuple[int, bytes]],
        origins: dict[int, Any],
        events: LogEvents,
    ) -> RunRecord | None:
        """Collect the new and changed spans of a trace; return the projected run, or None if no span or event changed."""
        fresh = {span_id for span_id in trace.spans if span_id not in former}
        self._make_room(trace_id, trace, len(former), among=fresh)
        facts = {}
        is_changed = trace_id in self._with_new_events
        resources = origins | {key: origin.resource for key, origin in trace.origins.items()}
        for span_id, received in trace.spans.items():
            if span_id in fresh:
                self._new_spans.append(StoredSpan(trace_id, span_id, received.origin, received.raw))
                facts[span_id] = received.facts
                self._cache.keep(received.raw, received.origin, received.facts)
                is_changed = True
                continue
            origin, raw = former[span_id]
            joined = join_spans(raw, received.raw), max(origin, received.origin)
            if joined != (raw, origin):
                former[span_id] = (joined[1], joined[0])
                self._rewritten_spans.append(StoredSpan(trace_id, span_id, joined[1], joined[0]))
                is_changed = True
        if not is_changed:
            return None
        self._add_origins(trace_id, trace, origins)
        for span_id, (origin, raw) in former.items():
            facts[span_id] = self._cache.get(raw, origin, resources[origin])
        self._sizes.note(trace_id, len(facts))
        raws = {span_id: received.raw for span_id, received in trace.spans.items() if span_id in fresh}
        raws |= {span_id: raw for span_id, (_, raw) in former.items()}
        return project(trace_id, with_events([(facts[span_id], raws[span_id]) for span_id in facts], events))

    def _make_room(self, trace_id: str, trace: TraceSpans, stored: int, *, among: set[str] | None = None) -> None:
        """Reject the spans of a trace that exceed its limit.

        The spans with the greatest ids are rejected, so that a repeated export rejects the same spans.
        """
        candidates = trace.spans.keys() if among is None else among
        room = max(MAX_SPANS_PER_TRACE - stored, 0)
        if len(candidates) <= room:
            return
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
        repository.set_mapper_version(session, self._unprojected, UNPROJECTED, self._now_us)
        repository.delete_items(session, self._gone_items)
        repository.insert_items(session, self._new_items)
        span_repository.insert_origins(session, self._new_origins)
        span_repository.rewrite_spans(session, self._rewritten_spans)
        span_repository.insert_spans(session, self._new_spans)
        rollup_repository.apply(session, self._changes, self._shard)


_LOCK: Final = run_record(
    RunFields.model_validate(
        {"run_id": "lock", "agent_name": "lock", "started_at": "1970-01-01T00:00:00Z", "status": "running"}
    ),
    [],
    (),
    source="otlp",
    data="{}",
    content_hash="",
    calls=(),
    search_parts=(),
)
"""The record whose columns are inserted to lock a trace that has no run."""
