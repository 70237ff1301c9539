"""Convert runs, timeline items and raw spans to flat rows; define the columns of each and their types.

Times are int microseconds (UTC). Fields without a column are in a JSON column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pydantic_core
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.core.clock import parse_time
from relab.telemetry.otlp.spans import clean_text, read_attributes
from relab.telemetry.timeline import KINDS

TEXT: Final = "VARCHAR"
INTEGER: Final = "BIGINT"
NUMBER: Final = "DOUBLE"
TIME: Final = "TIMESTAMP WITH TIME ZONE"

RUN_COLUMNS: Final[Mapping[str, str]] = {
    "run_id": TEXT,
    "source": TEXT,
    "agent_name": TEXT,
    "agent_version": TEXT,
    "model": TEXT,
    "environment": TEXT,
    "conversation_id": TEXT,
    "task_id": TEXT,
    "prompt_hash": TEXT,
    "trace_id": TEXT,
    "started_at": TIME,
    "ended_at": TIME,
    "status": TEXT,
    "error_type": TEXT,
    "error_message": TEXT,
    "category": TEXT,
    "tokens_prompt": INTEGER,
    "tokens_completion": INTEGER,
    "total_cost_usd": NUMBER,
    "step_count": INTEGER,
    "tool_call_count": INTEGER,
    "guardrail_event_count": INTEGER,
    "received_at": TIME,
    "updated_at": TIME,
    "data": TEXT,
}
"""`data` is the run's JSON without its steps, calls and events."""

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

_NAME_FIELDS = ("name", "tool_name", "type")
_NS_PER_US = 1_000


def run_row(row: Any) -> dict[str, Any]:
    """Return the columns of a stored run; `row.text` is its JSON."""
    data = pydantic_core.from_json(row.text)
    cost = data.get("cost") or {}
    known = {name: getattr(row, name) for name in RUN_COLUMNS if hasattr(row, name)}
    return {
        **known,
        "trace_id": data.get("trace_id"),
        "error_type": data.get("error_type"),
        "error_message": data.get("error_message"),
        "tokens_prompt": cost.get("tokens_prompt"),
        "tokens_completion": cost.get("tokens_completion"),
        "data": row.text,
    }


def item_row(row: Any) -> dict[str, Any]:
    """Return the columns of a stored item; `row.text` is its JSON."""
    data = pydantic_core.from_json(row.text)
    return {
        "run_id": row.run_id,
        "kind": KINDS[row.kind],
        "ref_id": row.ref_id,
        "at": row.at,
        "step_id": row.ref_id if row.kind == 0 else data.get("step_id"),
        "call_id": row.ref_id if row.kind == 1 else data.get("call_id"),
        "parent_step_id": data.get("parent_step_id"),
        "name": data[_NAME_FIELDS[row.kind]],
        "agent_name": data.get("agent_name"),
        "status": data.get("status"),
        "started_at": _time(data.get("started_at")),
        "ended_at": _time(data.get("ended_at")),
        "latency_ms": row.latency_ms,
        "retries": data.get("retries"),
        "status_code": data.get("status_code"),
        "error_class": data.get("error_class"),
        "error_message": data.get("error_message"),
        "data": row.text,
    }


def span_row(raw: bytes, resource: str, scope: str, schema_url: str) -> dict[str, Any]:
    """Return the columns of a packed span; `resource` and `scope` are JSON."""
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
        "attributes": _json(read_attributes(span.attributes)),
        "events": _json([_event(event) for event in span.events]),
        "links": _json([_link(link) for link in span.links]),
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


def _json(value: Any) -> str:
    return pydantic_core.to_json(value).decode()


def _time(text: Any) -> int | None:
    return parse_time(text) if isinstance(text, str) else None
