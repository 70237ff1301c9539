"""Queries over the spans of OTLP runs. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from relab.storage.base import table_of
from relab.storage.bulk import chunks, insert_rows
from relab.telemetry.cursor import decode_cursor, encode_cursor
from relab.telemetry.tables import SpanOriginRow, SpanRow, StoredSpan

IDS_PER_STATEMENT = 500
_SPAN_KEY: TypeAdapter[tuple[str]] = TypeAdapter(tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]])

OriginTuple = tuple[str, int, str]
"""`(trace id, origin, JSON)`: a row of `span_origins`."""


def load_spans(session: Session, trace_ids: Iterable[str]) -> list[StoredSpan]:
    """Return every stored span of the traces."""
    columns = (SpanRow.trace_id, SpanRow.span_id, SpanRow.origin, SpanRow.data)
    rows: list[StoredSpan] = []
    for ids in chunks(trace_ids, IDS_PER_STATEMENT):
        found = session.execute(select(*columns).where(SpanRow.trace_id.in_(ids)))
        rows.extend(map(StoredSpan._make, found))
    return rows


def count_spans(session: Session, trace_id: str) -> int:
    """Return the number of stored spans of a trace."""
    return session.execute(select(func.count()).where(SpanRow.trace_id == trace_id)).scalar_one()


def has_some(session: Session, trace_id: str, span_ids: Iterable[str]) -> bool:
    """Return whether at least one of the spans of a trace is stored."""
    for ids in chunks(span_ids, IDS_PER_STATEMENT):
        statement = select(SpanRow.span_id).where(SpanRow.trace_id == trace_id, SpanRow.span_id.in_(ids)).limit(1)
        if session.execute(statement).first() is not None:
            return True
    return False


def load_origins(session: Session, trace_ids: Iterable[str]) -> list[tuple[str, int, dict[str, Any]]]:
    """Return `(trace id, origin, content)` of every stored origin of the traces: the resources and scopes of their spans."""
    columns = (SpanOriginRow.trace_id, SpanOriginRow.origin, SpanOriginRow.data)
    rows: list[tuple[str, int, dict[str, Any]]] = []
    for ids in chunks(trace_ids, IDS_PER_STATEMENT):
        found = session.execute(select(*columns).where(SpanOriginRow.trace_id.in_(ids)))
        rows.extend((row.trace_id, row.origin, row.data) for row in found)
    return rows


def insert_spans(session: Session, rows: Sequence[StoredSpan]) -> None:
    """Insert spans; none of them may be stored already."""
    insert_rows(session, table_of(SpanRow), rows)


def insert_origins(session: Session, rows: Sequence[OriginTuple]) -> None:
    """Insert rows of `span_origins` (the resources and scopes of spans) that do not exist yet."""
    insert_rows(session, table_of(SpanOriginRow), rows)


def rewrite_spans(session: Session, rows: Sequence[StoredSpan]) -> None:
    """Replace the origin and the content of stored spans by those in `rows`."""
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
    session: Session, trace_id: str, *, cursor: str | None, limit: int
) -> tuple[list[tuple[int, bytes]], str | None]:
    """Return a page of a trace's spans, ordered by span id, and the next cursor (None at the end).

    Each span is `(origin, protobuf bytes)`.

    Raises:
        InvalidCursorError: the cursor does not belong to this list.
    """
    statement = select(SpanRow.span_id, SpanRow.origin, SpanRow.data).where(SpanRow.trace_id == trace_id)
    if cursor is not None:
        statement = statement.where(SpanRow.span_id > decode_cursor(cursor, _SPAN_KEY)[0])
    rows = list(session.execute(statement.order_by(SpanRow.span_id).limit(limit + 1)))
    next_cursor = encode_cursor((rows[limit - 1].span_id,)) if len(rows) > limit else None
    return [(row.origin, row.data) for row in rows[:limit]], next_cursor


def delete_spans(session: Session, trace_ids: Iterable[str]) -> None:
    """Delete the spans and origins of the traces."""
    for ids in chunks(trace_ids, IDS_PER_STATEMENT):
        session.execute(delete(table_of(SpanRow)).where(SpanRow.trace_id.in_(ids)))
        session.execute(delete(table_of(SpanOriginRow)).where(SpanOriginRow.trace_id.in_(ids)))
