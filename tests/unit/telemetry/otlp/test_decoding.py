"""Decoding of OTLP exports: invalid spans and bodies are rejected, and accepted spans can be shown and joined."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.core.errors import MalformedBodyError, TooLargeError
from relab.telemetry.otlp.decoding import SpanBatch, decode_json, decode_protobuf
from relab.telemetry.otlp.joining import join_spans
from relab.telemetry.otlp.json_encoding import iter_json_groups, span_to_json
from relab.telemetry.otlp.spans import MAX_PARTS, MAX_SPAN_BYTES
from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import AGENT, CHAT, TRACE, at, body_of, decode, facts_in, id_of, pairs, span
from unit.telemetry.otlp.strategies import attribute_lists, traces

YEAR_NS = 31_557_600 * 10**9
START = "start_time_unix_nano"


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of protobuf."""
    assert number < 16
    length, size = b"", len(content)
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def packed_body(*spans: bytes) -> bytes:
    """Return a binary export of these bytes as its spans; the bytes need not be valid spans."""
    return field(1, field(2, b"".join(field(2, packed) for packed in spans)))


def json_body(body: bytes) -> dict[str, Any]:
    """Return a binary export in the JSON form of OTLP, made without the code under test."""
    export: dict[str, Any] = json_format.MessageToDict(ExportTraceServiceRequest.FromString(body))
    for resource_spans in export.get("resourceSpans", ()):
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for made in scope_spans.get("spans", ()):
                for holder in (made, *made.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId"):
                        if name in holder:
                            holder[name] = base64.b64decode(holder[name]).hex()
    return export


def taken(export: SpanBatch) -> list[str]:
    return [item.span_id for items in export.traces.values() for item in items]


REFUSED: dict[str, tuple[Callable[[SpanMessage], object], str]] = {
    "no trace id": (lambda span: span.ClearField("trace_id"), "trace_id"),
    "a trace id of zeros": (lambda span: setattr(span, "trace_id", bytes(16)), "trace_id"),
    "a short trace id": (lambda span: setattr(span, "trace_id", b"short"), "trace_id"),
    "a long trace id": (lambda span: setattr(span, "trace_id", b"x" * 10_000), "trace_id"),
    "no span id": (lambda span: span.ClearField("span_id"), "span_id"),
    "a span id of zeros": (lambda span: setattr(span, "span_id", bytes(8)), "span_id"),
    "a span id as long as a trace id": (lambda span: setattr(span, "span_id", b"x" * 16), "span_id"),
    "a short parent": (lambda span: setattr(span, "parent_span_id", b"x"), "parent_span_id"),
    "no start": (lambda span: span.ClearField(START), f"{START} is missing"),
    "a start in the year 2300": (lambda span: setattr(span, START, 330 * YEAR_NS), "1970 and 2199"),
    "a start in seconds": (lambda span: setattr(span, START, 999), START),
    "the last start there is": (lambda span: setattr(span, START, 2**64 - 1), "1970 and 2199"),
    "too many attributes": (
        lambda span: span.attributes.extend(pairs({str(n): n for n in range(MAX_PARTS + 1)})),
        "10,003 attributes",
    ),
    "too many events": (lambda span: [span.events.add() for _ in range(MAX_PARTS + 1)], "10,001 events"),
    "too many values in lists": (
        lambda span: span.attributes.extend(pairs({"x": [[None] * 60_000], "y": {"z": [None] * 60_000}})),
        "100,000 values",
    ),
    "too many values in events": (
        lambda span: [span.events.add(attributes=pairs({"x": [None] * 60_000})) for _ in range(2)],
        "100,000 values",
    ),
    "too many bytes": (lambda span: span.attributes.extend(pairs({"x": "x" * MAX_SPAN_BYTES})), "larger than"),
}


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize(("spoil", "reason"), REFUSED.values(), ids=REFUSED)
def test_span_that_cannot_be_stored_is_rejected_alone(
    spoil: Callable[[SpanMessage], object], reason: str, encoding: str
) -> None:
    bad = span("bad", "root", CHAT)
    spoil(bad)
    body = body_of([span("root", None, AGENT), bad, span("chat", "root", CHAT)])
    export = decode_protobuf(body) if encoding == "protobuf" else decode_json(json.dumps(json_body(body)).encode())
    assert taken(export) == [id_of("root"), id_of("chat")]
    assert export.rejections.count == 1
    assert reason in export.rejections.message()
    assert len(export.rejections.message()) < 400


PACKED = span("bad", "root", CHAT).SerializeToString()
SPOILED: dict[str, bytes] = {
    "no span at all": b"\xff\xff",
    "cut off": PACKED[:-3],
    "an attribute that is none": PACKED + field(9, b"\xff"),
    "an attribute whose key is no UTF-8": PACKED + field(9, field(1, b"\xff") + field(2, b"")),
    "a name that is no UTF-8": PACKED + field(5, b"\xff"),
    "an event that is none": PACKED + field(11, b"\xff"),
    "a status that is none": PACKED + field(15, b"\xff"),
    "a link that is none": PACKED + field(13, b"\xff"),
    "a trace state that is no UTF-8": PACKED + field(3, b"\xff"),
}


@pytest.mark.parametrize("packed", SPOILED.values(), ids=SPOILED)
def test_accepted_spans_can_be_shown_and_merged_and_others_are_rejected_alone(packed: bytes) -> None:
    good = span("root", None, AGENT).SerializeToString()
    export = decode_protobuf(packed_body(good, packed))
    assert id_of("root") in taken(export)
    assert len(taken(export)) + export.rejections.count == 2
    for item in export.traces[TRACE.hex()]:
        assert span_to_json(item.raw)["spanId"] == item.span_id
        assert join_spans(item.raw, good)


@pytest.mark.parametrize("depth", [5, 20, 30, 31, 32, 33, 34, 35, 36, 45, 49, 50, 51, 60, 99, 200])
@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_value_of_any_depth_is_rejected_or_can_be_shown_and_joined(depth: int, kind: str) -> None:
    packed = field(1, b"deep")  # an AnyValue with a text
    for _ in range(depth):
        packed = field(5, field(1, packed)) if kind == "lists" else field(6, field(1, b"\x0a\x01k" + field(2, packed)))
    raw = PACKED + field(9, b"\x0a\x01k" + field(2, packed))
    export = decode_protobuf(packed_body(raw))
    assert len(taken(export)) + export.rejections.count == 1
    for item in export.traces.get(TRACE.hex(), ()):
        assert span_to_json(item.raw)["name"] == "bad"
        assert join_spans(item.raw, PACKED)


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: PACKED + tail))
@examples(150)
def test_any_bytes_are_accepted_and_readable_or_rejected(packed: bytes) -> None:
    export = decode_protobuf(packed_body(packed))
    assert len(taken(export)) + export.rejections.count == 1
    for items in export.traces.values():
        for item in items:
            assert span_to_json(item.raw)
            assert join_spans(item.raw, PACKED)


@given(st.binary(max_size=100))
@examples(100)
def test_any_body_is_read_or_malformed(body: bytes) -> None:
    for read in (decode_protobuf, decode_json):
        try:
            read(body)
        except MalformedBodyError as error:
            assert len(str(error)) < 400  # noqa: PT017 both are right


@given(traces(max_size=4), attribute_lists)
@examples(60)
def test_json_and_protobuf_give_equal_spans(trace: list[SpanMessage], resource: list[tuple[str, Any]]) -> None:
    body = body_of(trace, dict(resource))
    binary, text = decode_protobuf(body), decode_json(json.dumps(json_body(body)).encode())
    assert text.rejections == binary.rejections
    assert text.origins == binary.origins
    assert facts_in(text.traces[TRACE.hex()]) == facts_in(binary.traces[TRACE.hex()])


@given(traces(max_size=3))
@examples(40)
def test_span_is_shown_in_the_json_form_of_otlp(trace: list[SpanMessage]) -> None:
    for made in trace:
        shown = json_body(body_of([made]))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        for holder in (shown.get("status", {}), shown):
            for name in ("kind", "code"):
                if isinstance(holder.get(name), str):
                    holder[name] = made.kind if name == "kind" else made.status.code
        assert span_to_json(made.SerializeToString()) == shown


STRANGE: list[Any] = [
    None, True, -1, 0, 5, 10**30, -(10**30), 1.5, 1e300, 10**400, "", "x", "\x00", "é" * 8, [], [None], [5], ["x"],
    [[]], [{}], {}, {"x": 1}, {"code": 10**30}, {"key": 1}, [{"key": 1}], [{"key": "k", "value": 5}],
    [{"key": "k", "value": {"doubleValue": 10**400}}], [{"key": "k", "value": {"doubleValue": "NaN"}}],
    [{"key": "k", "value": {"intValue": "x"}}], [{"key": "k", "value": {"intValue": 10**30}}],
    [{"key": "k", "value": {"bytesValue": "*"}}], [{"key": "k", "value": {"arrayValue": {"values": [None]}}}],
    [{"key": "k", "value": {"stringValue": "a", "intValue": 1}}], [{"timeUnixNano": 10**30}], [{"name": 5}],
    [{"traceId": 5}], [{"traceId": "zz"}], [{"attributes": [{"key": "k", "value": {"doubleValue": 10**400}}]}],
]  # fmt: skip
FIELDS = (
    "traceId", "trace_id", "spanId", "parentSpanId", "traceState", "name", "kind", "flags", "startTimeUnixNano",
    "endTimeUnixNano", "attributes", "events", "links", "status", "droppedAttributesCount", "unheardOf",
)  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_field_of_another_type_does_not_affect_other_spans(name: str) -> None:
    [good] = json_body(body_of([span("root", None, AGENT)]))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    bad = {**good, "spanId": id_of("bad")}
    for value in STRANGE:
        spans = [{**bad, name: value}, good]
        export = decode_json(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode())
        assert id_of("root") in taken(export), value
        assert len(taken(export)) + export.rejections.count == 2, value


@pytest.mark.parametrize("name", ["resource", "scope", "spans", "scopeSpans", "schemaUrl"])
def test_a_body_of_another_shape_is_malformed_or_read(name: str) -> None:
    for value in STRANGE:
        scope_spans = {"spans": [], **({name: value} if name in {"scope", "spans", "schemaUrl"} else {})}
        resource_spans = {"scopeSpans": [scope_spans], **({name: value} if name not in {"scope", "spans"} else {})}
        try:
            decode_json(json.dumps({"resourceSpans": [resource_spans]}).encode())
        except MalformedBodyError as error:
            assert len(str(error)) < 400  # noqa: PT017 both are right


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b"{", b'{"resourceSpans": 5}', b'{"resourceSpans": [5]}',
                                  b'{"resourceSpans": [{"scopeSpans": [5]}]}', b"\xff", b"[" * 10_000])  # fmt: skip
def test_json_that_is_not_an_export_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        decode_json(body)


def test_empty_export_is_valid() -> None:
    assert decode_json(b"{}").count == decode_protobuf(b"").count == 0


TOO_MANY = {
    "spans": field(1, field(2, field(2, b"") * 100_001)),
    "scopes": field(1, field(2, b"") * 10_001),
    "resources with a scope": field(1, field(2, b"")) * 10_001,
    "resources with nothing": field(1, b"") * 10_001,
}


@pytest.mark.parametrize("body", TOO_MANY.values(), ids=TOO_MANY)
def test_an_export_of_too_many_parts_is_too_large(body: bytes) -> None:
    with pytest.raises(TooLargeError):
        decode_protobuf(body)
    with pytest.raises(TooLargeError):
        decode_json(json.dumps(json_body(body)).encode())


def test_only_equal_resources_share_an_origin() -> None:
    keys = [next(iter(decode(span("a"), resource={"service.name": name}).origins)) for name in ("x", "x", "y")]
    assert keys[0] == keys[1] != keys[2]


def test_too_large_resource_rejects_only_its_own_spans() -> None:
    large = body_of([span("a"), span("b")], {"x": "x" * 2_000_000})
    export = decode_protobuf(large + body_of([span("c")], {"x": "small"}))
    assert taken(export) == [id_of("c")]
    assert export.rejections.count == 2


def test_resource_of_too_many_values_rejects_only_its_own_spans() -> None:
    large = body_of([span("a")], {"x": [None] * 100_001})
    export = decode_protobuf(large + body_of([span("c")], {"x": [None] * 1_000}))
    assert taken(export) == [id_of("c")]
    assert "100,000 values" in export.rejections.message()


def test_vectors_of_embeddings_do_not_count_towards_the_limit_of_values() -> None:
    vectors = {f"embedding.embeddings.{n}.embedding.vector": [0.5] * 3_072 for n in range(50)}
    export = decode(span("a", None, {"openinference.span.kind": "EMBEDDING"} | vectors))
    assert export.rejections.count == 0
    [received] = export.traces[TRACE.hex()]
    shown = {pair["key"]: pair["value"] for pair in span_to_json(received.raw)["attributes"]}
    assert len(shown["embedding.embeddings.7.embedding.vector"]["arrayValue"]["values"]) == 3_072


@pytest.mark.parametrize("given", ["aa " * 16, " " + "aa" * 16, "aa" * 15 + "a ", "0x" + "aa" * 15])
def test_id_with_a_character_that_is_not_hex_is_rejected(given: str) -> None:
    body = json_body(body_of([span("a")]))
    body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = given
    export = decode_json(json.dumps(body).encode())
    assert export.count == 0
    assert "traceId" in export.rejections.message()


def test_json_of_too_many_values_is_rejected_before_it_is_parsed() -> None:
    with pytest.raises(TooLargeError, match="braces"):
        decode_json(b"{" + b"[,{" * 4_000_000)


def test_event_without_a_time_is_accepted() -> None:
    made = span("a", None, CHAT)
    made.events.add(name="exception", time_unix_nano=2**64 - 1)
    assert decode(made).rejections.count == 0


def test_spans_at_the_earliest_and_the_latest_time_are_accepted() -> None:
    first, last = span("first"), span("last")
    first.start_time_unix_nano, first.end_time_unix_nano = 1_000, 1_000
    last.start_time_unix_nano = last.end_time_unix_nano = 7_258_118_399_999_999_999
    assert taken(decode(first, last)) == [id_of("first"), id_of("last")]
    assert at(0) > first.start_time_unix_nano


def test_schema_url_is_read_by_both_of_its_names() -> None:
    bodies = (
        b'{"resourceSpans": [{"schemaUrl": "s", "scopeSpans": [{"spans": []}]}]}',
        b'{"resource_spans": [{"schema_url": "s", "scope_spans": [{"spans": []}]}]}',
    )
    assert [group.schema_url for body in bodies for group in iter_json_groups(body)] == ["s", "s"]
