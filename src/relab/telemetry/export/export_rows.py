"""Convert runs, timeline items, raw spans and log records to flat rows, and define the columns and types of these rows.

Times are int microseconds since 1970 (UTC). Fields without a column of their own are in a JSON column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pydantic_core
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from sqlalchemy import Column, Double, Integer

from relab.core.clock import parse_time
from relab.storage.base import table_of
from relab.telemetry.log_models import StoredLog
from relab.telemetry.models import CALL, ITEM_KINDS, MAX_INT64, STEP, RunFields
from relab.telemetry.otlp.spans import clean_text, read_attributes, read_value
from relab.telemetry.prices import PriceTable, estimate_run
from relab.telemetry.tables import AgentRunRow, StoredItem, StoredRun

TEXT: Final = "VARCHAR"
INTEGER: Final = "BIGINT"
NUMBER: Final = "DOUBLE"
TIME: Final = "TIMESTAMP WITH TIME ZONE"

_INTERNAL: Final = frozenset(
    ("version_key", "tool_stats", "token_usage", "content_hash", "mapper_version", "outcome_version", "data")
)
_IN_DATA: Final = ("trace_id", "error_type", "error_message")
_TOKENS: Final = ("tokens_prompt", "tokens_cached", "tokens_cache_write", "tokens_completion", "tokens_reasoning")


def _duckdb_type(column: Column[Any]) -> str:
    if isinstance(column.type, Double):
        return NUMBER
    if column.name.endswith("_at"):
        return TIME
    return INTEGER if isinstance(column.type, Integer) else TEXT


RUN_COLUMNS: Final[Mapping[str, str]] = {
    **{name: _duckdb_type(table_of(AgentRunRow).c[name]) for name in StoredRun._fields if name not in _INTERNAL},
    **dict.fromkeys(_IN_DATA, TEXT),
    **dict.fromkeys(_TOKENS, INTEGER),
    "estimated_cost_usd": NUMBER,
    "prices_as_of": TEXT,
    "data": TEXT,
}
"""The columns of `agent_runs` that describe the run, fields of its JSON, and the JSON without its steps, calls and events."""

ITEM_COLUMNS: Final[Mapping[str, str]] = {
    "run_id": TEXT,
    "kind": TEXT,
    "ref_id": TEXT,
    "at": TIME,
    "step_id": TEXT,
    "call_id": TEXT,
    "parent_step_id": TEXT,
    "name": TEXT,
    "agent_name": TEXT,
    "status": TEXT,
    "started_at": TIME,
    "ended_at": TIME,
    "latency_ms": NUMBER,
    "retries": INTEGER,
    "status_code": INTEGER,
    "error_class": TEXT,
    "error_message": TEXT,
    "data": TEXT,
}
"""`kind` is step, tool_call or guardrail_event; `name` is the name of the step, the tool or the type of the event."""

SPAN_COLUMNS: Final[Mapping[str, str]] = {
    "trace_id": TEXT,
    "span_id": TEXT,
    "parent_span_id": TEXT,
    "name": TEXT,
    "kind": INTEGER,
    "started_at": TIME,
    "ended_at": TIME,
    "start_time_unix_nano": INTEGER,
    "end_time_unix_nano": INTEGER,
    "status_code": INTEGER,
    "status_message": TEXT,
    "attributes": TEXT,
    "events": TEXT,
    "links": TEXT,
    "resource": TEXT,
    "scope": TEXT,
    "schema_url": TEXT,
}
"""`kind` and `status_code` are OTLP's numbers; attributes, events, links, resource and scope are JSON."""

LOG_COLUMNS: Final[Mapping[str, str]] = {
    "trace_id": TEXT,
    "span_id": TEXT,
    "at": TIME,
    "time_unix_nano": INTEGER,
    "severity": INTEGER,
    "severity_text": TEXT,
    "event_name": TEXT,
    "body": TEXT,
    "attributes": TEXT,
    "resource": TEXT,
    "scope": TEXT,
    "schema_url": TEXT,
}
"""`severity` is OpenTelemetry's number; body, attributes, resource and scope are JSON."""

_NS_PER_US = 1_000
_ITEM_DATA: Final = ("parent_step_id", "agent_name", "status", "retries", "status_code", "error_class", "error_message")


def run_row(run: StoredRun, prices: PriceTable) -> dict[str, Any]:
    """Return the row of a run as `{column: value}`.

    If no cost was reported, the cost is estimated from the run's tokens and `prices`.
    """
    data = pydantic_core.from_json(run.data)
    cost = data.get("cost") or {}
    estimated = estimate_run(RunFields.model_validate(data), prices)
    return {
        **{name: value for name, value in run._asdict().items() if name in RUN_COLUMNS},
        **{name: data.get(name) for name in _IN_DATA},
        **{name: cost.get(name) for name in _TOKENS},
        "estimated_cost_usd": estimated and estimated.total_cost_usd,
        "prices_as_of": estimated and estimated.prices_as_of,
    }


def item_row(item: StoredItem) -> dict[str, Any]:
    """Return the row of a timeline item as `{column: value}`; the columns are those of `ITEM_COLUMNS`."""
    data = pydantic_core.from_json(item.data)
    kind = ITEM_KINDS[item.kind]
    return {
        "run_id": item.run_id,
        "kind": kind.name.value,
        "ref_id": item.ref_id,
        "at": item.at,
        "step_id": item.ref_id if item.kind == STEP else data.get("step_id"),
        "call_id": item.ref_id if item.kind == CALL else _fitting(data.get("call_id"), TEXT),
        "name": data[kind.title_field],
        "started_at": _time(data.get("started_at")),
        "ended_at": _time(data.get("ended_at")),
        "latency_ms": item.latency_ms,
        "data": item.data,
        **{name: _fitting(data.get(name), ITEM_COLUMNS[name]) for name in _ITEM_DATA},
    }


def span_row(raw: bytes, resource: str, scope: str, schema_url: str) -> dict[str, Any]:
    """Return the row of a span as `{column: value}`; the columns are those of `SPAN_COLUMNS`.

    Args:
        raw: the protobuf bytes of the span.
        resource: the attributes of the process that made the span, as JSON.
        scope: the library that made the span, as JSON.
        schema_url: the version of the conventions for attribute names; empty if it is not known.
    """
    span = SpanMessage.FromString(raw)
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "name": clean_text(span.name),
        "kind": span.kind,
        "started_at": start // _NS_PER_US,
        "ended_at": end // _NS_PER_US if end else None,
        "start_time_unix_nano": start,
        "end_time_unix_nano": end or None,
        "status_code": span.status.code,
        "status_message": clean_text(span.status.message) or None,
        "attributes": json_text(read_attributes(span.attributes)),
        "events": json_text([_event(event) for event in span.events]),
        "links": json_text([_link(link) for link in span.links]),
        "resource": resource,
        "scope": scope,
        "schema_url": schema_url or None,
    }


def log_row(log: StoredLog, resource: str, scope: str, schema_url: str) -> dict[str, Any]:
    """Return the row of a log record as `{column: value}`; the columns are those of `LOG_COLUMNS`.

    Args:
        log: the log record.
        resource: the attributes of the process that made the record, as JSON.
        scope: the library that made the record, as JSON.
        schema_url: the version of the conventions for attribute names; empty if it is not known.
    """
    record = LogRecord.FromString(log.data)
    return {
        "trace_id": log.trace_id,
        "span_id": log.span_id or None,
        "at": log.time_ns // _NS_PER_US if log.time_ns else None,
        "time_unix_nano": log.time_ns or None,
        "severity": log.severity or None,
        "severity_text": clean_text(record.severity_text) or None,
        "event_name": log.event_name or None,
        "body": json_text(read_value(record.body)) if record.HasField("body") else None,
        "attributes": json_text(read_attributes(record.attributes)),
        "resource": resource,
        "scope": scope,
        "schema_url": schema_url or None,
    }


def _event(event: Any) -> dict[str, Any]:
    return {
        "name": clean_text(event.name),
        "time_unix_nano": event.time_unix_nano,
        "attributes": read_attributes(event.attributes),
    }


def _link(link: Any) -> dict[str, Any]:
    return {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "attributes": read_attributes(link.attributes),
    }


def json_text(value: Any) -> str:
    """Return a value as compact JSON text."""
    return pydantic_core.to_json(value).decode()


def _fitting(value: Any, column: str) -> Any:
    """Return `value` if a column of this type can hold it, else None: additional fields of items have any type."""
    if column == INTEGER:
        return value if type(value) is int and abs(value) <= MAX_INT64 else None
    return value if isinstance(value, str) else None


def _time(text: Any) -> int | None:
    """Return a time in microseconds since 1970; None if `text` is not a time, as in an additional field."""
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ValueError:
        return None
