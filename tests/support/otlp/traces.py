"""Traces in both encodings of OTLP, as OpenTelemetry exporters send them, and the API's responses to them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Encoding = Literal["protobuf", "json"]
Attributes = Mapping[str, Any]

PATH = "/v1/traces"
ENCODINGS: tuple[Encoding, ...] = ("protobuf", "json")
CONTENT_TYPES: dict[Encoding, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}
START_NS = 1_705_314_600_000_000_000
"""2024-01-15T10:30:00Z, when the traces of tests start."""

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop-agent"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-x"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "order_lookup"}
ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def digest(name: str, size: int) -> bytes:
    """Return an id of `size` bytes for the name of a span or trace."""
    return hashlib.blake2b(name.encode(), digest_size=size).digest()


def span_id(name: str) -> str:
    """Return the hex id of the span with this name."""
    return digest(name, 8).hex()


def at(offset_ms: float) -> int:
    """Return the time `offset_ms` after the start of the traces, in nanoseconds."""
    return START_NS + round(offset_ms * 1_000_000)


def any_value(value: object) -> AnyValue:
    """Return a Python value as OTLP's AnyValue; None is an unset value."""
    if value is None:
        return AnyValue()
    if isinstance(value, Mapping):
        encoded = AnyValue()
        encoded.kvlist_value.SetInParent()
        encoded.kvlist_value.values.extend(pairs(value))
        return encoded
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        encoded = AnyValue()
        encoded.array_value.SetInParent()
        encoded.array_value.values.extend(any_value(item) for item in value)
        return encoded
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value", str: "string_value"}
    kind: Any = kinds[type(value)]
    return AnyValue(**{kind: value})


def pairs(attributes: Attributes) -> list[KeyValue]:
    """Return attributes as OTLP's key-value pairs."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


@dataclass(frozen=True)
class Trace:
    """A trace with a unique name."""

    name: str

    @property
    def id(self) -> str:
        """The trace id in hex, which is also the id of the run."""
        return digest(self.name, 16).hex()

    def span(
        self,
        name: str,
        parent: str | None = None,
        attributes: Attributes | None = None,
        *,
        start_ms: float = 0.0,
        end_ms: float | None = 1.0,
        status: int = 0,
        message: str = "",
    ) -> Span:
        """Return a span with the name `name`, from which its id is derived; with `end_ms` None it is unfinished."""
        made = Span(
            trace_id=bytes.fromhex(self.id),
            span_id=digest(name, 8),
            parent_span_id=b"" if parent is None else digest(parent, 8),
            name=name,
            start_time_unix_nano=at(start_ms),
            end_time_unix_nano=0 if end_ms is None else at(end_ms),
            attributes=pairs(attributes or {}),
        )
        if status or message:
            made.status.code = status  # type: ignore[assignment]
            made.status.message = message
        return made

    def good(self) -> list[Span]:
        """Return the spans of an agent with a chat and a tool call, all successful."""
        return [
            self.span("root", None, AGENT, end_ms=9),
            self.span("chat", "root", CHAT, start_ms=1, end_ms=2),
            self.span("tool", "root", TOOL, start_ms=3, end_ms=4),
        ]


GOOD_IDS = sorted(map(span_id, ("root", "chat", "tool")))
"""The span ids of `Trace.good`."""


def export_of(spans: Iterable[Span], resource: Attributes | None = None) -> ExportTraceServiceRequest:
    """Return the export request with spans of one process."""
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    resource_spans.resource.attributes.extend(pairs({"service.name": "tests"} if resource is None else resource))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "tests"
    scope_spans.spans.extend(spans)
    return export


def json_of(export: ExportTraceServiceRequest) -> dict[str, Any]:
    """Return a request in OTLP's JSON, with ids in hex."""
    body: dict[str, Any] = json_format.MessageToDict(export)
    for spans in span_lists(body):
        for holder in [holder for span in spans for holder in (span, *span.get("links", ()))]:
            for name in ID_FIELDS:
                if name in holder:
                    holder[name] = base64.b64decode(holder[name]).hex()
    return body


def span_lists(body: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the lists of spans in a JSON request, so that a test can change them in place."""
    return [
        scope_spans["spans"]
        for resource_spans in body.get("resourceSpans", ())
        for scope_spans in resource_spans.get("scopeSpans", ())
        if "spans" in scope_spans
    ]


def encode(spans: Iterable[Span], encoding: Encoding = "protobuf", resource: Attributes | None = None) -> bytes:
    """Return the encoded body of an export request with spans of one process."""
    export = export_of(spans, resource)
    return export.SerializeToString() if encoding == "protobuf" else json.dumps(json_of(export)).encode()


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field, for bodies that no library writes."""
    assert number < 16
    length, size = bytearray(), len(content)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(length) + bytes([size]) + content


def packed_body(*spans: Span | bytes) -> bytes:
    """Return a binary export of spans; a span that is bytes may be invalid protobuf."""
    packed = [span if isinstance(span, bytes) else span.SerializeToString() for span in spans]
    return field(1, field(2, b"".join(field(2, item) for item in packed)))


def post(
    client: httpx.Client, content: Any, encoding: Encoding = "protobuf", *, packed: bool = False, **headers: str
) -> httpx.Response:
    """Post a body and return the response; `packed` compresses it."""
    headers = {"content-type": CONTENT_TYPES[encoding], **headers}
    if packed:
        content, headers["content-encoding"] = gzip.compress(content, 1), "gzip"
    return client.post(PATH, content=content, headers=headers)


def assert_taken(answer: httpx.Response) -> tuple[int, str]:
    """Assert that the export was accepted; return the number of rejected spans, and the message."""
    assert answer.status_code == 200, answer.content
    response = ExportTraceServiceResponse()
    _read(answer, response)
    assert bool(response.partial_success.rejected_spans) == bool(response.partial_success.error_message)
    return response.partial_success.rejected_spans, response.partial_success.error_message


def assert_refused(answer: httpx.Response, status: int, encoding: Encoding) -> str:
    """Assert that the whole export was rejected, in the request's encoding; return the reason."""
    codes = {400: 3, 401: 16, 403: 7, 408: 4, 413: 8, 415: 3, 429: 8, 503: 14}
    assert answer.status_code == status, answer.content
    assert answer.headers["content-type"] == CONTENT_TYPES[encoding]
    assert len(answer.content) < 2_000
    found = Status()
    _read(answer, found)
    assert found.code == codes[status]
    assert found.message
    if status in {429, 503}:
        assert int(answer.headers["retry-after"]) >= 1
    return str(found.message)


def all_pages(client: httpx.Client, path: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the items of all pages of a list of the API; each page has at most `limit` items."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(path, params={"limit": limit, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = {"cursor": page["next_cursor"]}


def stored_spans(client: httpx.Client, trace: Trace, *, limit: int = 500) -> list[dict[str, Any]]:
    """Return all spans that the API shows of a run, from all pages."""
    return all_pages(client, f"/agent-runs/{trace.id}/spans", limit=limit)


def assert_stored(client: httpx.Client, trace: Trace, *more: str) -> dict[str, Any]:
    """Assert that the spans of `trace.good()` and the spans named `more` are stored once each; return the run."""
    assert [span["spanId"] for span in stored_spans(client, trace)] == sorted([*GOOD_IDS, *map(span_id, more)])
    answer = client.get(f"/agent-runs/{trace.id}")
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    assert run["run_id"] == trace.id
    assert run["source"] == "otlp"
    assert run["agent_name"] == "shop-agent"
    assert run["counts"]["steps"] >= 1
    assert run["counts"]["tool_calls"] >= 1
    return run


def assert_counted(client: httpx.Client, trace: Trace) -> None:
    """Assert that the items of the run are exactly the spans of `trace.good()`."""
    answer = client.get(f"/agent-runs/{trace.id}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["counts"] == {"steps": 1, "tool_calls": 1, "guardrail_events": 0}


def _read(answer: httpx.Response, message: Any) -> None:
    if answer.headers["content-type"] == CONTENT_TYPES["json"]:
        # Strict: a field that the message does not have fails the test.
        json_format.Parse(answer.content, message)
    else:
        assert answer.headers["content-type"] == CONTENT_TYPES["protobuf"]
        message.ParseFromString(answer.content)
