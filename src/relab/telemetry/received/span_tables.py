"""The tables of the spans that were received over OTLP. The runs in `tables.py` are computed from them."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import JSON, BigInteger, ColumnClause, LargeBinary, String

from relab.storage.base import Base, column


class SpanRow(Base):
    """One span of a trace. If a span was received several times, the row has the joined content (`otlp/joining.py`)."""

    __tablename__ = "spans"

    trace_id: ColumnClause[str] = column(String(32), primary_key=True)
    span_id: ColumnClause[str] = column(String(16), primary_key=True)
    origin: ColumnClause[int] = column(BigInteger)
    """`span_origins.origin` of the same trace."""
    data: ColumnClause[bytes] = column(LargeBinary)
    """OTLP's `Span` message."""


class StoredSpan(NamedTuple):
    """One row of `spans`; `data` is the span as protobuf bytes, `origin` the key of its resource and scope."""

    trace_id: str
    span_id: str
    origin: int
    data: bytes


class SpanOriginRow(Base):
    """A resource and scope of spans as a JSON object (`data`), stored once per trace instead of once per span."""

    __tablename__ = "span_origins"

    trace_id: ColumnClause[str] = column(String(32), primary_key=True)
    origin: ColumnClause[int] = column(BigInteger, primary_key=True, autoincrement=False)
    """A digest of the content."""
    data: ColumnClause[dict[str, Any]] = column(JSON)
