"""Redact declared secrets from the bodies of OTLP requests, before they are stored or sent."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relab.experiments.trial.otlp_exports import Encoding
from relab.experiments.trial.redaction import Redactor


def clean_export(body: bytes, encoding: Encoding, redactor: Redactor) -> bytes:
    """Return the body of an OTLP request in the same encoding, with each value of a secret replaced by its name.

    A body without secrets is returned unchanged and unchecked. A binary body with secrets is parsed and serialised
    again, because replacing bytes would break its length fields.

    Raises:
        DecodeError: a binary body with secrets is not a valid OTLP request, or is nested deeper than protobuf's limit.
        UnicodeDecodeError: a JSON body with secrets is not UTF-8.
    """
    if not redactor.occurs_in(body):
        return body
    if encoding == "json":
        return redactor.text(body.decode()).encode()
    request = ExportTraceServiceRequest.FromString(body)
    _clean(request, redactor)
    return request.SerializeToString()


def _clean(message: Any, redactor: Redactor) -> None:
    for field, value in message.ListFields():
        if isinstance(value, (str, bytes)):
            setattr(message, field.name, _cleaned(value, redactor))
        elif isinstance(value, Message):
            _clean(value, redactor)
        elif not isinstance(value, (bool, int, float)):
            _clean_each(value, redactor)


def _clean_each(values: Any, redactor: Redactor) -> None:
    for index, value in enumerate(values):
        if isinstance(value, Message):
            _clean(value, redactor)
        elif isinstance(value, (str, bytes)):
            values[index] = _cleaned(value, redactor)


def _cleaned(value: str | bytes, redactor: Redactor) -> str | bytes:
    if isinstance(value, str):
        return redactor.text(value)
    return redactor.data(value)
