"""Build the outlines of OTLP's messages: protobuf classes that decode one level of a message and no deeper one.

The parts of the message stay bytes, so an OTLP request is decoded one level at a time. This has three advantages: spans
are counted before memory is allocated for them; a span that cannot be decoded does not affect others; and spans are
stored as the received bytes.

Requests of traces, logs and metrics have the same field numbers at these levels, so one outline reads all three. The
numbers are those of OTLP 1.x (opentelemetry-proto: `trace.proto`, `logs.proto`, `metrics.proto` and their services).
They never change.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "relab.otlp.outline"
_Field = descriptor_pb2.FieldDescriptorProto


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="relab/otlp_outline.proto", package=_PACKAGE, syntax="proto3")
    _message(file, "Export", packed_parts={"groups": 1})
    _message(file, "Group", packed={"resource": 1}, packed_parts={"scopes": 2}, text={"schema_url": 3})
    _message(file, "Scope", packed={"scope": 1}, packed_parts={"items": 2}, text={"schema_url": 3})
    kinds_of_data = {"gauge": 5, "sum": 7, "histogram": 9, "exponential_histogram": 10, "summary": 11}
    _message(file, "Metric", packed=kinds_of_data)
    _message(file, "MetricData", packed_parts={"data_points": 1})
    _message(
        file,
        "Span",
        packed={"trace_id": 1, "span_id": 2, "parent_span_id": 4, "status": 15},
        packed_parts={"attributes": 9, "events": 11},
        text={"name": 5},
        fixed64={"start_time_unix_nano": 7, "end_time_unix_nano": 8},
        fixed32={"flags": 16},
    )
    spans = file.message_type.add(name="Spans")
    spans.field.add(
        name="items", number=2, type=_Field.TYPE_MESSAGE, type_name=f".{_PACKAGE}.Span", label=_Field.LABEL_REPEATED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}"))
        for message in file.message_type
    }


def _message(file: Any, name: str, **fields: dict[str, int]) -> None:
    kinds = {
        "packed": (_Field.TYPE_BYTES, _Field.LABEL_OPTIONAL),
        "packed_parts": (_Field.TYPE_BYTES, _Field.LABEL_REPEATED),
        "text": (_Field.TYPE_STRING, _Field.LABEL_OPTIONAL),
        "fixed64": (_Field.TYPE_FIXED64, _Field.LABEL_OPTIONAL),
        "fixed32": (_Field.TYPE_FIXED32, _Field.LABEL_OPTIONAL),
    }
    message = file.message_type.add(name=name)
    for kind, numbers in fields.items():
        field_type, label = kinds[kind]
        for field_name, number in numbers.items():
            message.field.add(name=field_name, number=number, type=field_type, label=label)


_CLASSES = _build()

ExportOutline: Final[Any] = _CLASSES["Export"]
"""`groups`: the bytes of each `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`."""

GroupOutline: Final[Any] = _CLASSES["Group"]
"""`resource`: the bytes of a `Resource`; `scopes`: those of each `ScopeSpans`, `ScopeLogs` or `ScopeMetrics`; `schema_url`."""

ScopeOutline: Final[Any] = _CLASSES["Scope"]
"""`scope`: the bytes of an `InstrumentationScope`; `items`: those of each span, log record or metric; `schema_url`."""

MetricOutline: Final[Any] = _CLASSES["Metric"]
"""`gauge`, `sum`, `histogram`, `exponential_histogram`, `summary`: the bytes of the metric's data; one of them is set."""

MetricDataOutline: Final[Any] = _CLASSES["MetricData"]
"""`data_points`: the bytes of each data point."""

SpanOutline: Final[Any] = _CLASSES["Span"]
"""The fields of a span that a run needs; `attributes`, `events` and `status` are protobuf bytes."""

SpansOutline: Final[Any] = _CLASSES["Spans"]
"""`items`: the outlines of all spans of one scope, decoded at once, which is three times as fast as one by one."""
