"""The tables of the log records that were received over OTLP."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ColumnClause, LargeBinary, SmallInteger, String

from relab.storage.base import Base, Micros, ShortText, column


class LogRecordRow(Base):
    """One log record of a trace as it was received; the run of the trace may not exist yet."""

    __tablename__ = "log_records"

    # The primary key has the order in which records are read.
    trace_id: ColumnClause[str] = column(String(32), primary_key=True)
    time_ns: ColumnClause[int] = column(BigInteger, primary_key=True, autoincrement=False)
    """Nanoseconds since the epoch, UTC, because messages of one model call are microseconds apart; 0 if unknown."""
    record_id: ColumnClause[str] = column(String(16), primary_key=True)
    """A digest of the record and its origin."""
    span_id: ColumnClause[str] = column(String(16))
    """Empty for a record that names no span."""
    severity: ColumnClause[int] = column(SmallInteger)
    """OpenTelemetry's severity number; 0 if unknown."""
    event_name: ColumnClause[str] = column(ShortText)
    """Empty for a log line, which is not an event."""
    is_span_event: ColumnClause[bool] = column(Boolean)
    """Whether the projection reads the record as an event of its span."""
    origin: ColumnClause[int] = column(BigInteger)
    """`log_origins.origin` of the same trace."""
    data: ColumnClause[bytes] = column(LargeBinary)
    """OTLP's `LogRecord` message."""
    received_at: ColumnClause[int] = column(Micros)


class LogOriginRow(Base):
    """A resource and scope of log records as JSON (`data`), stored once per trace instead of once per record."""

    __tablename__ = "log_origins"

    trace_id: ColumnClause[str] = column(String(32), primary_key=True)
    origin: ColumnClause[int] = column(BigInteger, primary_key=True, autoincrement=False)
    """A digest of the content."""
    data: ColumnClause[dict[str, Any]] = column(JSON)
