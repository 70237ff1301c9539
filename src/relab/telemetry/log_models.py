"""Models of a trace's log records: the stored row (`StoredLog`), and a warning or error for analyses (`LogLine`)."""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

SEVERITY_WARN: Final = 13
SEVERITY_ERROR: Final = 17
"""OpenTelemetry's lowest severity numbers of a warning and of an error."""


class LogLine(BaseModel):
    """A log record of a trace that reports a warning or an error.

    Records that relab reads as events of a span are not log lines.
    """

    model_config = ConfigDict(frozen=True)

    record_id: str
    span_id: str | None = Field(description="The span in which the line was written; null if it names none.")
    at: int = Field(description="Microseconds since the epoch; 0 if unknown.")
    severity: int = Field(description="OpenTelemetry's severity number.")
    severity_text: str | None = Field(description="The severity as the program names it.")
    message: str

    @property
    def is_error(self) -> bool:
        """Whether the line reports an error, and not only a warning."""
        return self.severity >= SEVERITY_ERROR


class StoredLog(NamedTuple):
    """One row of `log_records`, whose columns `LogRecordRow` describes; `data` is the record as protobuf bytes."""

    trace_id: str
    time_ns: int
    record_id: str
    span_id: str
    severity: int
    event_name: str
    is_span_event: bool
    origin: int
    data: bytes
    received_at: int
