"""TRAIL's traces as their agents exported them: OTLP, which relab's own mapper makes a run of.

`trail.py` makes the body of a posted run from the same trace. An analysis of both should find the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from evals.datasets.source import Record
from evals.datasets.trail import duration_of
from relab.telemetry.models import ITEM_KINDS, AgentRun
from relab.telemetry.otlp.decoding import decode_protobuf
from relab.telemetry.otlp.facts import facts_of
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.spans import read_span

_STATUS = {"Unset": Status.STATUS_CODE_UNSET, "Ok": Status.STATUS_CODE_OK, "Error": Status.STATUS_CODE_ERROR}


def export_of_trace(trace: Record) -> bytes:
    """Return one trace (one root in `spans`, nested `child_spans`) as the binary body of an OTLP request."""
    (root,) = trace["spans"]
    export = ExportTraceServiceRequest()
    spans = export.resource_spans.add()
    spans.resource.attributes.extend(_pairs(root.get("resource_attributes", {})))
    spans.scope_spans.add().spans.extend(_span(record) for record in _walk(root))
    return export.SerializeToString()


def run_of_export(body: bytes) -> AgentRun:
    """Return the run that relab's mapper makes of the one trace in a request."""
    batch = decode_protobuf(body)
    ((trace_id, spans),) = batch.traces.items()
    (origin,) = batch.origins.values()
    resource = json.loads(origin.data)["resource"]
    record = project(trace_id, (facts_of(read_span(span.raw), resource) for span in spans))
    lists = {
        kind.list_name: [json.loads(item.data) for item in record.items if item.kind == number]
        for number, kind in enumerate(ITEM_KINDS)
    }
    return AgentRun.model_validate({**json.loads(record.row.data), **lists})


def _walk(span: Record) -> Iterator[Record]:
    yield span
    for child in span["child_spans"]:
        yield from _walk(child)


def _span(record: Record) -> Span:
    start = datetime.fromisoformat(record["timestamp"])
    span = Span(
        trace_id=bytes.fromhex(record["trace_id"]),
        span_id=bytes.fromhex(record["span_id"]),
        parent_span_id=bytes.fromhex(record["parent_span_id"] or ""),
        name=record["span_name"],
        start_time_unix_nano=_nanoseconds(start),
        end_time_unix_nano=_nanoseconds(start + duration_of(record["duration"])),
        attributes=_pairs(record["span_attributes"]),
        status=Status(code=_STATUS[record["status_code"]], message=record["status_message"]),
    )
    for event in record["events"]:
        time_ns = _nanoseconds(datetime.fromisoformat(event["Timestamp"]))
        span.events.add(name=event["Name"], time_unix_nano=time_ns, attributes=_pairs(event["Attributes"]))
    return span


def _pairs(attributes: Record) -> list[KeyValue]:
    """Return attributes as OTLP's pairs; all values of these traces are texts."""
    return [KeyValue(key=key, value=AnyValue(string_value=str(value))) for key, value in attributes.items()]


def _nanoseconds(time: datetime) -> int:
    # Times of events have no zone; they are in UTC, as those of spans.
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return (time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1_000
