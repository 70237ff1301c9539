"""Log records and metrics as OpenTelemetry exporters send them, in both encodings of OTLP."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from support.otlp.traces import CONTENT_TYPES, Encoding, Trace, all_pages, any_value, at, digest, pairs

LOGS_PATH, METRICS_PATH = "/v1/logs", "/v1/metrics"
ERROR, WARN, INFO = 17, 13, 9
"""Severity numbers of OpenTelemetry."""


def log(
    trace: Trace | None,
    span: str | None = None,
    body: object = None,
    attributes: Mapping[str, Any] | None = None,
    *,
    at_ms: float = 0.5,
    name: str = "",
    severity: int = 0,
) -> LogRecord:
    """Return a log record in the span `span` of a trace; `name` is the field with the event's name."""
    record = LogRecord(
        trace_id=b"" if trace is None else bytes.fromhex(trace.id),
        span_id=b"" if span is None else digest(span, 8),
        time_unix_nano=at(at_ms),
        observed_time_unix_nano=at(at_ms),
        severity_number=severity,  # type: ignore[arg-type]
        event_name=name,
        attributes=pairs(attributes or {}),
    )
    if body is not None:
        record.body.CopyFrom(any_value(body))
    return record


def exception_log(trace: Trace, span: str, kind: str, message: str, *, severity: int = ERROR) -> LogRecord:
    """Return the record of an exception, as logging libraries write it."""
    attributes = {"exception.type": kind, "exception.message": message, "exception.stacktrace": f"Traceback: {message}"}
    return log(trace, span, "it broke", attributes, severity=severity)


def logs_request(records: Iterable[LogRecord], resource: Mapping[str, Any] | None = None) -> ExportLogsServiceRequest:
    """Return the export request with these records of one process."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(pairs({"service.name": "tests"} if resource is None else resource))
    scope = group.scope_logs.add()
    scope.scope.name = "tests"
    scope.log_records.extend(records)
    return request


def encode_logs(
    records: Iterable[LogRecord], encoding: Encoding = "protobuf", resource: Mapping[str, Any] | None = None
) -> bytes:
    """Return the encoded body of an export request with these records of one process."""
    return encoded(logs_request(records, resource), encoding)


def metrics_request(*counts: int) -> ExportMetricsServiceRequest:
    """Return a request with one metric per number of data points: a gauge, a sum, a histogram, and so on."""
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for number, count in enumerate(counts):
        metric = metrics.add(name=f"metric {number}")
        kind = ("gauge", "sum", "histogram", "exponential_histogram", "summary")[number % 5]
        for _ in range(count):
            getattr(metric, kind).data_points.add(time_unix_nano=at(0))
    return request


def encoded(request: Message, encoding: Encoding) -> bytes:
    """Return a request encoded as JSON or protobuf of OTLP."""
    if encoding == "protobuf":
        return request.SerializeToString()
    body: dict[str, Any] = json_format.MessageToDict(request)
    for group in body.get("resourceLogs", ()):
        for scope in group.get("scopeLogs", ()):
            for record in scope.get("logRecords", ()):
                for name in {"traceId", "spanId"} & record.keys():
                    record[name] = base64.b64decode(record[name]).hex()
    return json.dumps(body).encode()


def post_to(
    path: str,
    client: httpx.Client,
    content: bytes,
    encoding: Encoding = "protobuf",
    *,
    packed: bool = False,
    **headers: str,
) -> httpx.Response:
    """Post a body and return the response; `packed` compresses it."""
    headers = {"content-type": CONTENT_TYPES[encoding], **headers}
    if packed:
        content, headers["content-encoding"] = gzip.compress(content, 1), "gzip"
    return client.post(path, content=content, headers=headers)


def post_logs(client: httpx.Client, *records: LogRecord, encoding: Encoding = "protobuf") -> tuple[int, str]:
    """Export records, at least some of which must be accepted; return the number of rejected ones, and the message."""
    return assert_accepted(post_to(LOGS_PATH, client, encode_logs(records, encoding), encoding))


def assert_accepted(answer: httpx.Response) -> tuple[int, str]:
    """Assert that a request of logs or metrics was accepted; return the number of rejected items, and the message."""
    assert answer.status_code == 200, answer.content
    is_logs = answer.request.url.path == LOGS_PATH
    found: Any = ExportLogsServiceResponse() if is_logs else ExportMetricsServiceResponse()
    if answer.headers["content-type"] == CONTENT_TYPES["json"]:
        json_format.Parse(answer.content, found)
    else:
        assert answer.headers["content-type"] == CONTENT_TYPES["protobuf"]
        found.ParseFromString(answer.content)
    partial = found.partial_success
    return partial.rejected_log_records if is_logs else partial.rejected_data_points, partial.error_message


def stored_logs(client: httpx.Client, trace: Trace, *, limit: int = 500) -> list[dict[str, Any]]:
    """Return the log records that the API shows of a run, from all pages."""
    return all_pages(client, f"/agent-runs/{trace.id}/logs", limit=limit)


def bodies(records: Iterable[dict[str, Any]]) -> list[Any]:
    """Return the texts of log records in OTLP's JSON."""
    return [record.get("body", {}).get("stringValue") for record in records]
