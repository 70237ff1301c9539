"""Read and write OTLP's JSON encoding: the JSON encoding of protobuf, but with trace and span ids in hex."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import jiter
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.core.errors import MalformedBodyError, TooLargeError
from relab.telemetry.otlp.spans import InvalidItemError, PackedGroup, check_group_count


class JsonShape(NamedTuple):
    """The field names in the JSON of an OTLP request of one signal: traces, logs or metrics.

    Each tuple of names has a field's name in OTLP's JSON (such as `scopeSpans`) and, if it differs, its name in the
    protobuf file (`scope_spans`). Both are accepted.

    Attributes:
        noun: the word for the items in error messages.
        groups: the names of the field that lists the resources.
        scopes: the names of the field that lists the scopes of a resource.
        items: the names of the field that lists the items of a scope.
        message: the protobuf message class of one item.
    """

    noun: str
    groups: tuple[str, str]
    scopes: tuple[str, str]
    items: tuple[str, ...]
    message: type[Message]


SPANS: Final = JsonShape(
    "spans", ("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), ("spans",), SpanMessage
)
LOGS: Final = JsonShape(
    "log records",
    ("resourceLogs", "resource_logs"),
    ("scopeLogs", "scope_logs"),
    ("logRecords", "log_records"),
    LogRecord,
)
METRICS: Final = JsonShape(
    "metrics", ("resourceMetrics", "resource_metrics"), ("scopeMetrics", "scope_metrics"), ("metrics",), Metric
)

_ID_FIELDS = {"trace_id": "traceId", "span_id": "spanId", "parent_span_id": "parentSpanId"}
_SHOWN_CHARS = 40

MAX_JSON_PARTS = 10_000_000
"""The maximum number of braces, brackets and commas in a body: each may belong to a value, and a value takes up to a
hundred bytes of memory."""

# If a value does not have the type of its field, protobuf raises Python's own exceptions instead of a parse error.
_UNREADABLE = (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def iter_json_groups(body: bytes, shape: JsonShape = SPANS) -> Iterator[PackedGroup]:
    """Yield groups of the items in an OTLP request in JSON; an item is converted to protobuf bytes.

    The items of a group have the same resource and scope.

    Args:
        body: the body of the request.
        shape: the field names of the request's signal.

    Raises:
        MalformedBodyError: the body is not JSON, or not an OTLP request of this signal.
        TooLargeError: the body has too many values, resources or scopes.
    """
    if sum(map(body.count, (b"{", b"[", b","))) > MAX_JSON_PARTS:
        raise TooLargeError(
            f"The export holds more than {MAX_JSON_PARTS:,} braces, brackets and commas.",
            remedy="Send smaller batches: exporters send 512 items by default.",
        )
    try:
        export = jiter.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBodyError(f"The body is not valid JSON: {error}.") from error
    groups = _objects(_object(export, "body"), *shape.groups)
    check_group_count(len(groups))
    for group in groups:
        resource = _message(group.get("resource"), Resource(), f"resource of {shape.noun}")
        scopes = _objects(group, *shape.scopes)
        check_group_count(len(scopes))
        for scope_group in scopes:
            scope = _message(scope_group.get("scope"), InstrumentationScope(), f"scope of {shape.noun}")
            items = _objects(scope_group, *shape.items)
            schema_url = _schema_url(scope_group) or _schema_url(group)
            yield PackedGroup(resource, scope, schema_url, _pack_each(items, shape), len(items))


def span_to_json(raw: bytes) -> dict[str, Any]:
    """Convert a span from protobuf bytes to OTLP's JSON encoding."""
    return _to_json(SpanMessage.FromString(raw))


def log_to_json(raw: bytes) -> dict[str, Any]:
    """Convert a log record from protobuf bytes to OTLP's JSON encoding."""
    return _to_json(LogRecord.FromString(raw))


def _to_json(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=True)
    for holder in (fields, *fields.get("links", ())):
        for name in _ID_FIELDS.values():
            if name in holder:
                holder[name] = base64.b64decode(holder[name]).hex()
    return fields


def _pack_each(items: Iterable[dict[str, Any]], shape: JsonShape) -> Iterator[bytes | InvalidItemError]:
    for item in items:
        try:
            yield _pack(item, shape)
        except InvalidItemError as error:
            yield error


def _pack(item: dict[str, Any], shape: JsonShape) -> bytes:
    message = shape.message()
    try:
        fields = _with_binary_ids(item)
        links = fields.get("links")
        if isinstance(links, list):
            fields["links"] = [_with_binary_ids(link) if isinstance(link, dict) else link for link in links]
        json_format.ParseDict(fields, message, ignore_unknown_fields=True, max_recursion_depth=100)
    except InvalidItemError:
        raise
    except _UNREADABLE as error:
        raise InvalidItemError(f"one of the {shape.noun} cannot be read: {str(error)[:200]}") from error
    return message.SerializeToString()


def _with_binary_ids(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `fields` with the hex ids converted to base64, protobuf's JSON encoding of bytes.

    Raises:
        InvalidItemError: an id is not hex.
    """
    copy = dict(fields)
    for spellings in _ID_FIELDS.items():
        for name in spellings:
            given = copy.get(name)
            if given is None:
                continue
            try:
                copy[name] = base64.b64encode(binascii.unhexlify(given)).decode()
            except (ValueError, TypeError) as error:
                raise InvalidItemError(f"{spellings[1]} {str(given)[:_SHOWN_CHARS]!r} is not hex") from error
    return copy


def _message(fields: Any, message: Message, field: str) -> Message | InvalidItemError:
    """Fill `message` from the JSON `fields`, and return it.

    If a field is invalid, return (do not raise) an `InvalidItemError`. `field` is the name of the message in the text of
    the error.

    Raises:
        MalformedBodyError: `fields` is not an object.
    """
    if fields is None:
        return message
    try:
        return json_format.ParseDict(
            _object(fields, field), message, ignore_unknown_fields=True, max_recursion_depth=100
        )
    except _UNREADABLE as error:
        return InvalidItemError(f"the {field} cannot be read: {str(error)[:200]}")


def _objects(holder: dict[str, Any], *spellings: str) -> list[dict[str, Any]]:
    for name in spellings:
        found = holder.get(name)
        if found is not None:
            if not isinstance(found, list):
                raise MalformedBodyError(f"The field {name} is not a list.")
            return [_object(item, name) for item in found]
    return []


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedBodyError(f"The field {field} does not hold objects.")
    return value


def _schema_url(fields: dict[str, Any]) -> str:
    url = fields.get("schemaUrl") or fields.get("schema_url")
    return url if isinstance(url, str) else ""
