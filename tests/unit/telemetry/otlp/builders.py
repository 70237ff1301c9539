"""Builders of OTLP spans as an exporter sends them, and of the run that the service reads from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.telemetry.ingest.store import TraceSpans
from relab.telemetry.models import ITEM_KINDS, AgentRun, GuardrailEvent, Step, ToolCall
from relab.telemetry.otlp.decoding import ReceivedSpan, SpanBatch, decode_protobuf
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.spans import read_span
from relab.telemetry.records import RunRecord

TRACE = b"one-trace-of-16b"
START_NS = 1_705_314_600_000_000_000
"""2024-01-15T10:30:00Z."""

Attributes = Mapping[str, Any]

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop-agent"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-x"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "order_lookup"}


def id_of(name: str) -> str:
    """Return the span id, in hex, for a span name of at most 8 letters."""
    return name.encode().ljust(8, b"_").hex()


def at(offset_ms: float) -> int:
    """Return the time this many milliseconds after the start of the traces, in nanoseconds since 1970."""
    return START_NS + round(offset_ms * 1_000_000)


def any_value(value: object) -> AnyValue:
    """Encode a Python value as OTLP does: None as an unset value, an int beyond 64 bits as a text."""
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    encoded = AnyValue()
    if isinstance(value, Mapping):
        encoded.kvlist_value.SetInParent()
        encoded.kvlist_value.values.extend(pairs(value))
        return encoded
    assert isinstance(value, Sequence)
    encoded.array_value.SetInParent()
    encoded.array_value.values.extend(any_value(item) for item in value)
    return encoded


def pairs(attributes: Attributes) -> list[KeyValue]:
    """Encode attributes as the key-value pairs of OTLP."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def span(
    name: str,
    parent: str | None = None,
    attributes: Attributes | None = None,
    *,
    start: float = 0.0,
    end: float | None = 1.0,
    title: str | None = None,
    status: int = 0,
    message: str = "",
    events: Sequence[tuple[str, Attributes]] = (),
    flags: int = 0,
) -> SpanMessage:
    """Return a span whose id is its name; times are in ms after the traces' start, no `end` for an unfinished span.

    `flags` is OTLP's field: 0x100 means that the parent belongs to the same process, 0x300 that it does not.
    """
    made = SpanMessage(
        trace_id=TRACE,
        span_id=bytes.fromhex(id_of(name)),
        parent_span_id=bytes.fromhex(id_of(parent)) if parent is not None else b"",
        name=name if title is None else title,
        start_time_unix_nano=at(start),
        end_time_unix_nano=0 if end is None else at(end),
        attributes=pairs(attributes or {}),
        flags=flags,
    )
    if status or message:
        made.status.code = status  # type: ignore[assignment]
        made.status.message = message
    for number, (event_name, event_attributes) in enumerate(events):
        event = made.events.add(name=event_name, time_unix_nano=at(start + number))
        event.attributes.extend(pairs(event_attributes))
    return made


def exception(error_type: object = "ValueError", message: object = "it broke") -> tuple[str, Attributes]:
    """Return the span event of a recorded exception."""
    return "exception", {"exception.type": error_type, "exception.message": message}


def body_of(spans: Sequence[SpanMessage | bytes], resource: Attributes | None = None) -> bytes:
    """Return the binary export of the spans of one process; spans given as bytes are included unchanged."""
    export = ExportTraceServiceRequest()
    scope_spans = export.resource_spans.add().scope_spans.add()
    export.resource_spans[0].resource.attributes.extend(pairs(resource or {}))
    scope_spans.scope.name = "tests"
    for item in spans:
        scope_spans.spans.append(SpanMessage.FromString(item) if isinstance(item, bytes) else item)
    return export.SerializeToString()


def decode(*spans: SpanMessage | bytes, resource: Attributes | None = None) -> SpanBatch:
    """Encode spans as a binary export, and return the decoded batch."""
    return decode_protobuf(body_of(spans, resource))


def received(*spans: SpanMessage | bytes, resource: Attributes | None = None) -> list[ReceivedSpan]:
    """Encode and decode spans of the one trace, and return them; none may be rejected."""
    export = decode(*spans, resource=resource)
    assert export.rejections.count == 0, export.rejections.message()
    return export.traces[TRACE.hex()]


def facts_in(spans: Iterable[ReceivedSpan], resource: Attributes | None = None) -> list[SpanFacts]:
    """Return the facts of received spans of a process with these attributes."""
    return [facts_of(read_span(item.raw), resource or {}) for item in spans]


def record_of_spans(*spans: SpanMessage | bytes, resource: Attributes | None = None) -> RunRecord:
    """Return the record that is stored for a trace; several reports of one span are joined."""
    export = decode(*spans, resource=resource)
    assert export.rejections.count == 0, export.rejections.message()
    trace = TraceSpans({}, export.origins)
    for item in export.traces[TRACE.hex()]:
        trace.add(item)
    [origin] = export.origins.values()
    return project(TRACE.hex(), facts_in(trace.spans.values(), json.loads(origin.data)["resource"]))


def load(record: RunRecord) -> AgentRun:
    """Read a record back as `TelemetryService.load` reads the rows made of it."""
    items = sorted(record.items, key=lambda item: (item.kind, item.position, item.at, item.ref_id))
    lists = {
        kind.list_name: [json.loads(item.data) for item in items if item.kind == index]
        for index, kind in enumerate(ITEM_KINDS)
    }
    return AgentRun.model_validate({**json.loads(record.row.data), **lists})


def run_of(*spans: SpanMessage | bytes, resource: Attributes | None = None) -> AgentRun:
    """Return the run made from these spans."""
    return load(record_of_spans(*spans, resource=resource))


def runs_of_exports(bodies: Iterable[bytes]) -> list[AgentRun]:
    """Return the runs in the binary exports of one process, one for each trace."""
    traces: dict[str, TraceSpans] = {}
    resources: dict[str, Any] = {}
    for batch in map(decode_protobuf, bodies):
        for trace_id, items in batch.traces.items():
            trace = traces.setdefault(trace_id, TraceSpans({}, batch.origins))
            for item in items:
                trace.add(item)
            resources[trace_id] = json.loads(next(iter(batch.origins.values())).data)["resource"]
    return [
        load(project(trace_id, facts_in(trace.spans.values(), resources[trace_id])))
        for trace_id, trace in traces.items()
    ]


def step_of(attributes: Attributes, **fields: Any) -> Step:
    """Return the step made from a span with these attributes below an agent; its messages may request tool calls."""
    run = run_of(span("root", None, AGENT), span("it", "root", attributes, **fields))
    assert len(run.steps) == 1
    assert {call.step_id for call in run.tool_calls} <= {run.steps[0].step_id}
    assert run.guardrail_events == []
    return run.steps[0]


def call_of(attributes: Attributes, **fields: Any) -> ToolCall:
    """Return the tool call made from a span with these attributes below an agent."""
    run = run_of(span("root", None, AGENT), span("it", "root", attributes, **fields))
    assert [run.steps, len(run.tool_calls), run.guardrail_events] == [[], 1, []]
    return run.tool_calls[0]


def event_of(attributes: Attributes, **fields: Any) -> GuardrailEvent:
    """Return the guardrail event made from a span with these attributes below an agent."""
    run = run_of(span("root", None, AGENT), span("it", "root", attributes, **fields))
    assert [run.steps, run.tool_calls, len(run.guardrail_events)] == [[], [], 1]
    return run.guardrail_events[0]


def extra(item: Step | ToolCall | GuardrailEvent, field: str) -> Any:
    """Return a field that the schema does not name, or None if it is missing."""
    return (item.model_extra or {}).get(field)


def is_plain(value: object) -> bool:
    """Return whether a value contains only what a database and JSON can store: no NUL, NaN or infinity."""
    if isinstance(value, str):
        return "\x00" not in value
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return True
