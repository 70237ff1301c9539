"""Redaction of secrets in OTLP exports: neither stored nor forwarded, and the export stays valid."""

from __future__ import annotations

import json

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.span_redaction import clean_export

SECRET = "s3cret-value-of-mine"
REDACTOR = Redactor({"API_KEY": SECRET})


def export(text: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = text
    group.resource.entity_refs.add(id_keys=["host", text])
    span = group.scope_spans.add().spans.add(
        trace_id=b"t" * 16, span_id=b"s" * 8, name=f"call {text}", trace_state=text, start_time_unix_nano=1
    )
    span.attributes.add(key="input.value").value.string_value = f"key={text}!"
    span.attributes.add(key=text).value.bytes_value = text.encode()
    nested = span.attributes.add(key="list").value.array_value.values.add().kvlist_value.values.add(key="inner")
    nested.value.string_value = text
    event = span.events.add(name="exception")
    event.attributes.add(key="exception.message").value.string_value = f"{text} was refused"
    span.status.message = text
    return request


def test_secret_is_redacted_anywhere_in_a_binary_export() -> None:
    cleaned = clean_export(export(SECRET).SerializeToString(), "protobuf", REDACTOR)
    assert SECRET.encode() not in cleaned
    assert ExportTraceServiceRequest.FromString(cleaned) == export("[secret API_KEY]")


def test_secret_is_redacted_in_a_json_export() -> None:
    body = json.dumps({"resourceSpans": [{"resource": {"attributes": [{"key": SECRET}]}}]}).encode()
    cleaned = clean_export(body, "json", REDACTOR)
    assert json.loads(cleaned)["resourceSpans"][0]["resource"]["attributes"] == [{"key": "[secret API_KEY]"}]


def test_export_without_a_secret_is_unchanged() -> None:
    body = export("nothing to hide").SerializeToString() + b"\x98\x06\x01"
    assert clean_export(body, "protobuf", REDACTOR) is body
    assert clean_export(b"[]", "json", Redactor({})) == b"[]"


def test_invalid_export_is_rejected() -> None:
    with pytest.raises(DecodeError):
        clean_export(SECRET.encode() + b"\xff", "protobuf", REDACTOR)


def test_export_that_is_nested_too_deep_is_rejected() -> None:
    request = ExportTraceServiceRequest()
    value = request.resource_spans.add().scope_spans.add().spans.add().attributes.add(key="deep").value
    for _ in range(100):
        value = value.array_value.values.add()
    value.string_value = SECRET

    with pytest.raises(DecodeError):
        clean_export(request.SerializeToString(), "protobuf", REDACTOR)
