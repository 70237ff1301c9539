"""Store the log records of traces, each record once, in the transaction that also stores the spans of the traces.

The caller must have locked the traces (see `ingest/store.py`), so that no other transaction adds records to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relab.storage.session import DatabaseSession
from relab.telemetry.log_models import StoredLog
from relab.telemetry.models import MAX_ITEMS
from relab.telemetry.otlp.decoding import Origin
from relab.telemetry.otlp.logs import ReceivedLog, read_event
from relab.telemetry.otlp.spans import SpanEvent
from relab.telemetry.received import log_repository, span_repository
from relab.telemetry.received.log_repository import LogKey
from relab.telemetry.received.log_tables import LogOriginRow

MAX_LOGS_PER_TRACE: Final = MAX_ITEMS


@dataclass
class LogsOutcome:
    """The result of storing log records.

    Attributes:
        overfull: `{trace id: keys (trace id, time, record id) of rejected log records}`. They were rejected because the
            trace has reached its maximum number of log records.
        with_events: the traces with a new record that relab reads as an event of a span. Their runs must be
            recomputed.
    """

    overfull: dict[str, set[LogKey]] = field(default_factory=dict)
    with_events: set[str] = field(default_factory=set)


def write_logs(
    session: DatabaseSession,
    logs: Mapping[str, Collection[ReceivedLog]],
    origins: Mapping[int, Origin],
    *,
    now_us: int,
) -> LogsOutcome:
    """Insert log records that are not stored yet, with their origins (resources and scopes).

    A trace keeps at most 100,000 records; beyond this number, the new records with the latest times are rejected.

    Args:
        session: the session of the transaction.
        logs: `{trace id: log records}`.
        origins: `{key: origin}` of the records.
        now_us: the time of receipt, in microseconds since 1970.
    """
    outcome = LogsOutcome()
    if not logs:
        return outcome
    times = [log.time_ns for records in logs.values() for log in records]
    known = log_repository.load_keys(session, logs, min(times), max(times))
    counts = log_repository.count_logs(session, logs)
    rows: list[StoredLog] = []
    for trace_id, records in logs.items():
        fresh = {key_of(trace_id, log): log for log in records}
        keys = sorted(fresh.keys() - known)
        room = max(MAX_LOGS_PER_TRACE - counts.get(trace_id, 0), 0)
        if len(keys) > room:
            outcome.overfull[trace_id] = set(keys[room:])
        for key in keys[:room]:
            log = fresh[key]
            rows.append(
                StoredLog(
                    *key, log.span_id, log.severity, log.event_name, log.is_span_event, log.origin, log.raw, now_us
                )
            )
    outcome.with_events = {row.trace_id for row in rows if row.is_span_event}
    stored = span_repository.load_origin_keys(session, LogOriginRow, {row.trace_id for row in rows})
    wanted = {(row.trace_id, row.origin) for row in rows} - stored
    missing = [(trace_id, key, origins[key].data) for trace_id, key in wanted]
    span_repository.insert_origins(session, LogOriginRow, missing)
    log_repository.insert_logs(session, rows)
    return outcome


def load_events(session: DatabaseSession, trace_ids: Iterable[str]) -> dict[str, dict[str, list[SpanEvent]]]:
    """Return the log records that relab reads as events of spans, as `{trace id: {span id: events}}`, oldest first."""
    found: dict[str, dict[str, list[SpanEvent]]] = {}
    for trace_id, span_id, data in log_repository.load_events(session, trace_ids):
        found.setdefault(trace_id, {}).setdefault(span_id, []).append(read_event(data))
    return found


def key_of(trace_id: str, log: ReceivedLog) -> LogKey:
    """Return the primary key of the record `log` of a trace: trace id, time in nanoseconds, record id."""
    return trace_id, log.time_ns, log.record_id
