"""Queries over the spans of OTLP runs, and the origins (resources and scopes) of spans and of log records.

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter
from pydantic_core import from_json
from sqlalchemy import bindparam, delete, func, select, update

from relab.core.cursor import decode_cursor, encode_cursor
from relab.storage.base import table_of
from relab.storage.bulk import aggregates, chunks, insert_rows
from relab.storage.session import DatabaseSession
from relab.telemetry.received.log_tables import LogOriginRow
from relab.telemetry.received.span_tables import SpanOriginRow, SpanRow, StoredSpan

_SPAN_KEY: TypeAdapter[tuple[str]] = TypeAdapter(tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]])

OriginTuple = tuple[str, int, str]
"""`(trace id, origin, JSON)`: a row of `span_origins` or `log_origins`."""
OriginTable: TypeAlias = type[SpanOriginRow] | type[LogOriginRow]


def load_spans(session: DatabaseSession, trace_ids: Iterable[str]) -> list[StoredSpan]:
    """Return every stored span of the traces."""
    rows: list[StoredSpan] = []
    driver = session.connection()
    mark = "?" if driver.dialect.name == "sqlite" else "%s"
    for ids in chunks(trace_ids):
        # Not with SQLAlchemy, which would double the time by its rows.
        found = driver.exec_driver_sql(
            f"SELECT trace_id, span_id, origin, data FROM spans WHERE trace_id IN ({', '.join(mark for _ in ids)})",  # noqa: S608
            tuple(ids),
        )
        rows.extend(map(StoredSpan._make, found.cursor.fetchall()))
    return rows


def count_spans(session: DatabaseSession, trace_ids: Iterable[str]) -> dict[str, int]:
    """Return `{trace id: number of stored spans}`; traces without spans are left out."""
    return aggregates(session, SpanRow.trace_id, func.count(), trace_ids)


def load_some(session: DatabaseSession, trace_id: str, span_ids: Iterable[str]) -> dict[str, tuple[int, bytes]]:
    """Return those spans of a trace that are in `span_ids`, as `{span id: (key of the origin, protobuf bytes)}`."""
    found: dict[str, tuple[int, bytes]] = {}
    columns = (SpanRow.span_id, SpanRow.origin, SpanRow.data)
    for ids in chunks(span_ids):
        statement = select(*columns).where(SpanRow.trace_id == trace_id, SpanRow.span_id.in_(ids))
        found |= {span_id: (origin, data) for span_id, origin, data in session.execute(statement)}
    return found


def load_origin_keys(session: DatabaseSession, table: OriginTable, trace_ids: Iterable[str]) -> set[tuple[str, int]]:
    """Return `(trace id, key)` of the stored origins (resources and scopes) of the traces.

    `table` is `SpanOriginRow` for the origins of spans, or `LogOriginRow` for the origins of log records.
    """
    found: set[tuple[str, int]] = set()
    for ids in chunks(trace_ids):
        rows = session.execute(select(table.trace_id, table.origin).where(table.trace_id.in_(ids)))
        found.update((row.trace_id, row.origin) for row in rows)
    return found


def load_origins(session: DatabaseSession, table: OriginTable, trace_ids: Iterable[str]) -> dict[int, dict[str, Any]]:
    """Return `{key: content as JSON}` of the stored origins (resources and scopes) of the traces.

    `table` is `SpanOriginRow` for the origins of spans, or `LogOriginRow` for the origins of log records.
    """
    found: dict[int, dict[str, Any]] = {}
    for ids in chunks(trace_ids):
        rows = session.execute(select(table.origin, table.data).where(table.trace_id.in_(ids)))
        found |= {row.origin: row.data for row in rows}
    return found


def load_resources(session: DatabaseSession, trace_ids: Iterable[str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the attributes of the processes that created the spans of the traces.

    The result is `{(trace id, key of the span's origin): attributes}`. An origin is a process and a library. Do not
    change the attributes, because all traces with the same origin share one dictionary.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    parsed: dict[int, dict[str, Any]] = {}
    driver = session.connection()
    mark, text = ("?", "data") if driver.dialect.name == "sqlite" else ("%s", "data::text")
    for ids in chunks(trace_ids):
        marks = ", ".join(mark for _ in ids)
        rows = driver.exec_driver_sql(
            f"SELECT trace_id, origin, {text} FROM span_origins WHERE trace_id IN ({marks})",  # noqa: S608
            tuple(ids),
        )
        for trace_id, origin, data in rows.cursor.fetchall():
            if origin not in parsed:
                parsed[origin] = from_json(data)["resource"]
            found[trace_id, origin] = parsed[origin]
    return found


def insert_spans(session: DatabaseSession, rows: Sequence[StoredSpan]) -> None:
    """Insert spans; none of them may be stored already."""
    insert_rows(session, table_of(SpanRow), rows)


def insert_origins(session: DatabaseSession, table: OriginTable, rows: Sequence[OriginTuple]) -> None:
    """Insert origins (the resources and scopes that created spans or log records); none of them may be stored already.

    `table` is `SpanOriginRow` for the origins of spans, or `LogOriginRow` for the origins of log records.
    """
    insert_rows(session, table_of(table), rows)


def rewrite_spans(session: DatabaseSession, rows: Sequence[StoredSpan]) -> None:
    """Replace the origin (resource and scope) and the content of stored spans by those in `rows`.

    The trace id and the span id in a row select the stored span.
    """
    if not rows:
        return
    table = table_of(SpanRow)
    statement = (
        update(table)
        .where(table.c.trace_id == bindparam("trace"), table.c.span_id == bindparam("span"))
        .values(origin=bindparam("new_origin"), data=bindparam("new_data"))
    )
    session.execute(
        statement,
        [
            {"trace": trace_id, "span": span_id, "new_origin": origin, "new_data": data}
            for trace_id, span_id, origin, data in rows
        ],
    )


def list_spans(
    session: DatabaseSession, trace_id: str, *, cursor: str | None, limit: int
) -> tuple[list[tuple[int, bytes]], str | None]:
    """Return a page of a trace's spans, ordered by span id, and the cursor of the next page (None after the last one).

    Each span is `(key of its origin, protobuf bytes)`; the origin is the resource and the scope that created the span.

    Raises:
        InvalidCursorError: the cursor does not have the form of a cursor of this list.
    """
    statement = select(SpanRow.span_id, SpanRow.origin, SpanRow.data).where(SpanRow.trace_id == trace_id)
    if cursor is not None:
        statement = statement.where(SpanRow.span_id > decode_cursor(cursor, _SPAN_KEY)[0])
    rows = list(session.execute(statement.order_by(SpanRow.span_id).limit(limit + 1)))
    next_cursor = encode_cursor((rows[limit - 1].span_id,)) if len(rows) > limit else None
    return [(row.origin, row.data) for row in rows[:limit]], next_cursor


def delete_spans(session: DatabaseSession, trace_ids: Iterable[str]) -> None:
    """Delete the spans of the traces, and the origins (resources and scopes) of these spans."""
    for ids in chunks(trace_ids):
        session.execute(delete(table_of(SpanRow)).where(SpanRow.trace_id.in_(ids)))
        session.execute(delete(table_of(SpanOriginRow)).where(SpanOriginRow.trace_id.in_(ids)))
