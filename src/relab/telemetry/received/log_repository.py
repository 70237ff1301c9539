"""Queries over log records. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter
from sqlalchemy import Select, delete, func, select, true, tuple_

from relab.core.cursor import decode_cursor, encode_cursor
from relab.storage.base import table_of
from relab.storage.bulk import aggregates, chunks, insert_rows
from relab.storage.session import DatabaseSession
from relab.telemetry.log_models import SEVERITY_WARN, StoredLog
from relab.telemetry.models import MAX_INT64
from relab.telemetry.received.log_tables import LogOriginRow, LogRecordRow
from relab.telemetry.tables import AgentRunRow

MAX_LINES = 500
"""The greatest number of warnings and errors of a log that an analysis reads."""
_LOG_KEY: TypeAdapter[tuple[int, str]] = TypeAdapter(
    tuple[Annotated[int, Field(ge=0, le=MAX_INT64)], Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]]
)

LogKey = tuple[str, int, str]
"""`(trace id, time, record id)`: the primary key of a log record."""


def insert_logs(session: DatabaseSession, rows: Sequence[StoredLog]) -> None:
    """Insert log records that are not stored yet.

    Raises:
        sqlalchemy.exc.IntegrityError: a record with the same key is stored. Roll the transaction back, because some
            records may be inserted.
    """
    insert_rows(session, table_of(LogRecordRow), rows)


def load_keys(session: DatabaseSession, trace_ids: Iterable[str], first_ns: int, last_ns: int) -> set[LogKey]:
    """Return the keys of the stored log records of the traces, for records from `first_ns` to `last_ns`.

    Both times are in nanoseconds since 1970; records with exactly these times are included.
    """
    row = LogRecordRow
    found: set[LogKey] = set()
    for ids in chunks(trace_ids):
        statement = select(row.trace_id, row.time_ns, row.record_id).where(
            row.trace_id.in_(ids), row.time_ns >= first_ns, row.time_ns <= last_ns
        )
        found.update((key.trace_id, key.time_ns, key.record_id) for key in session.execute(statement))
    return found


def count_logs(session: DatabaseSession, trace_ids: Iterable[str]) -> dict[str, int]:
    """Return `{trace id: number of stored log records}`; traces without records are left out."""
    return aggregates(session, LogRecordRow.trace_id, func.count(), trace_ids)


def newest_received(session: DatabaseSession, trace_ids: Iterable[str]) -> dict[str, int]:
    """Return when the newest log record of each trace was received, as `{trace id: time}`.

    A time is in microseconds since 1970. Traces without log records are left out.
    """
    return aggregates(session, LogRecordRow.trace_id, func.max(LogRecordRow.received_at), trace_ids)


def load_events(session: DatabaseSession, trace_ids: Iterable[str]) -> list[tuple[str, str, bytes]]:
    """Return the log records that relab reads as events of spans, as `(trace id, span id, protobuf bytes)`.

    The records of each trace are sorted by time, oldest first.
    """
    row = LogRecordRow
    found: list[tuple[str, str, bytes]] = []
    for ids in chunks(trace_ids):
        statement = (
            select(row.trace_id, row.span_id, row.data)
            .where(row.trace_id.in_(ids), row.is_span_event)
            .order_by(row.trace_id, row.time_ns, row.record_id)
        )
        found.extend((trace_id, span_id, data) for trace_id, span_id, data in session.execute(statement))
    return found


def list_logs(
    session: DatabaseSession, trace_id: str, *, cursor: str | None, limit: int
) -> tuple[list[tuple[int, bytes]], str | None]:
    """Return a page of a trace's log records, oldest first, and the cursor of the next page (None after the last one).

    A record is returned as `(key of its origin, protobuf bytes)`.

    Raises:
        InvalidCursorError: the cursor does not have the form of a cursor of a list of log records.
    """
    row = LogRecordRow
    statement = select(row.time_ns, row.record_id, row.origin, row.data).where(row.trace_id == trace_id)
    if cursor is not None:
        statement = statement.where(tuple_(row.time_ns, row.record_id) > tuple_(*decode_cursor(cursor, _LOG_KEY)))
    rows = list(session.execute(statement.order_by(row.time_ns, row.record_id).limit(limit + 1)))
    last = rows[limit - 1] if len(rows) > limit else None
    next_cursor = encode_cursor((last.time_ns, last.record_id)) if last is not None else None
    return [(found.origin, found.data) for found in rows[:limit]], next_cursor


def list_lines(session: DatabaseSession, trace_id: str) -> list[StoredLog]:
    """Return the warnings and errors in the log of a trace, oldest first, at most `MAX_LINES`.

    Log records that relab reads as events of a span, such as the messages of a model call, are left out.
    """
    columns = [table_of(LogRecordRow).c[name] for name in StoredLog._fields]
    statement = (
        select(*columns)
        .where(
            LogRecordRow.trace_id == trace_id,
            LogRecordRow.severity >= SEVERITY_WARN,
            LogRecordRow.is_span_event.is_(False),
        )
        .order_by(LogRecordRow.time_ns, LogRecordRow.record_id)
        .limit(MAX_LINES)
    )
    return [StoredLog._make(row) for row in session.execute(statement)]


def delete_logs(session: DatabaseSession, trace_ids: Iterable[str]) -> None:
    """Delete the log records of the traces, and the origins (resources and scopes) of these records."""
    for ids in chunks(trace_ids):
        session.execute(delete(table_of(LogRecordRow)).where(LogRecordRow.trace_id.in_(ids)))
        session.execute(delete(table_of(LogOriginRow)).where(LogOriginRow.trace_id.in_(ids)))


def list_waiting(
    session: DatabaseSession, before_us: int, *, after: str = "", limit: int, among: Sequence[str] | None = None
) -> list[tuple[str, int]]:
    """Return `(trace id, number of log records)` of traces that have log records but no run, ordered by trace id.

    Args:
        session: the session of the transaction.
        before_us: only traces whose newest record was received before this time, in microseconds since 1970.
        after: only traces with an id greater than this one.
        limit: the maximum number of traces.
        among: only these traces; None for all traces, which reads every log record.
    """
    row = LogRecordRow
    statement = _waiting(before_us).where(
        row.trace_id > after, row.trace_id.in_(among) if among is not None else true()
    )
    rows = session.execute(statement.order_by(row.trace_id).limit(limit))
    return [(trace_id, count) for trace_id, count in rows]


def count_waiting(session: DatabaseSession, before_us: int) -> int:
    """Return the number of log records in traces that have no run; the query reads every log record.

    A trace is considered if its newest record was received before `before_us`, in microseconds since 1970.
    """
    waiting = _waiting(before_us).subquery()
    return int(session.execute(select(func.coalesce(func.sum(waiting.c.records), 0))).scalar_one())


def _waiting(before_us: int) -> Select[str, int]:
    row = LogRecordRow
    has_run = select(AgentRunRow.run_id).where(AgentRunRow.run_id == row.trace_id).exists()
    return (
        select(row.trace_id, func.count().label("records"))
        .where(~has_run)
        .group_by(row.trace_id)
        .having(func.max(row.received_at) < before_us)
    )
