"""Models of the answers about OTLP data: the receipt of an OTLP request, and pages of stored spans and log records."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Encoding = Literal["protobuf", "json"]


class OtlpReceipt(BaseModel):
    """How many spans, log records or data points of an OTLP request were accepted, rejected or ignored."""

    model_config = ConfigDict(frozen=True)

    accepted: int = Field(description="Items that are stored now, repeated ones included.")
    rejected: int = Field(description="Items that cannot be read or stored.")
    ignored: int = Field(0, description="Items that were read and are not stored, because nothing reads them.")
    message: str = Field(description="Why items were rejected or ignored; empty if all were accepted.")


class SpanPage(BaseModel):
    """One page of the spans from which an agent run was computed, ordered by span id.

    `next_cursor` is null on the last page.
    """

    run_id: str
    items: list[dict[str, Any]] = Field(
        description="Spans in OTLP's JSON encoding, each with its `resource` and `scope` (attributes as plain objects)."
    )
    next_cursor: str | None


class LogRecordPage(BaseModel):
    """One page of the log records of a run's trace, oldest first; `next_cursor` is null on the last page."""

    run_id: str
    items: list[dict[str, Any]] = Field(
        description="Log records in OTLP's JSON encoding, each with its `resource` and `scope` (attributes as plain objects)."
    )
    next_cursor: str | None
