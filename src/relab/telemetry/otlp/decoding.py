"""Split the body of an OTLP request into items as protobuf bytes, and decode the spans of a traces request.

The items are spans, log records or metrics. Each item is accepted or rejected independently of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import pydantic_core
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from relab.core.errors import MalformedBodyError
from relab.telemetry.otlp.json_encoding import SPANS, JsonShape, iter_json_groups
from relab.telemetry.otlp.outline import ExportOutline, GroupOutline, ScopeOutline
from relab.telemetry.otlp.spans import (
    MAX_REQUEST_PARTS,
    MAX_SPANS,
    MAX_VALUES,
    InvalidItemError,
    PackedGroup,
    check_group_count,
    check_span,
    count_values,
    messages_of,
    read_attributes,
    too_many_parts,
)
from relab.telemetry.otlp_models import Encoding

MAX_ORIGIN_BYTES = 1_048_576
_SHOWN_REJECTIONS = 5
_MANY_PARTS_BYTES = 2 * MAX_REQUEST_PARTS
"""A smaller request cannot have too many parts: two bytes at least encode an attribute, an event or a value, also in JSON."""


class Origin(NamedTuple):
    """The origin of spans and log records: the resource (the process) and the scope (the library) that created them.

    `key` is a digest of the content; `data` is the content as JSON.
    """

    key: int
    data: str


class ReceivedSpan(NamedTuple):
    """A checked span that can be stored; its content is not decoded yet.

    Attributes:
        span_id: the id of the span, lower-case hex.
        origin: the key of the span's resource and scope (`Origin.key`).
        raw: the span as protobuf bytes: those that were received, unless the span was received as JSON.
        start_us: the start of the span, in microseconds since 1970.
        is_root: whether the span has no parent.
    """

    span_id: str
    origin: int
    raw: bytes
    start_us: int
    is_root: bool


@dataclass
class Rejections:
    """The rejected items of a request: their number, and the first five different reasons."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str, count: int = 1) -> None:
        """Count `count` more rejected items, and keep `reason` if it is new and fewer than five reasons are kept."""
        self.count += count
        if len(self.reasons) < _SHOWN_REJECTIONS and reason not in self.reasons:
            self.reasons.append(reason)

    def message(self) -> str:
        """Return the reasons as one text, empty if nothing was rejected."""
        more = "" if len(self.reasons) < _SHOWN_REJECTIONS else "; and possibly others"
        return "; ".join(self.reasons) + more


Item = TypeVar("Item")


@dataclass
class TraceBatch(Generic[Item]):
    """The accepted items (all spans, or all log records) of one request, by trace.

    Attributes:
        traces: `{trace id: items}`, in the order of the request's body; an item may occur twice.
        origins: `{key: Origin}`: the processes and libraries that created the items.
        rejections: the rejected items.
        ignored: the number of valid items that are not stored, because they belong to no trace.
    """

    traces: dict[str, list[Item]] = field(default_factory=dict)
    origins: dict[int, Origin] = field(default_factory=dict)
    rejections: Rejections = field(default_factory=Rejections)
    ignored: int = 0

    @property
    def count(self) -> int:
        """The number of accepted items (all are spans, or all are log records), duplicates included."""
        return sum(map(len, self.traces.values()))

    def add(self, trace_id: str, item: Item) -> None:
        """Add an accepted item of the trace `trace_id`."""
        known = self.traces.get(trace_id)
        if known is None:
            self.traces[trace_id] = [item]
        else:
            known.append(item)


SpanBatch = TraceBatch[ReceivedSpan]


def decode_protobuf(body: bytes) -> SpanBatch:
    """Decode a binary `ExportTraceServiceRequest`.

    Raises:
        MalformedBodyError: the body is not an `ExportTraceServiceRequest`.
        TooLargeError: the body has more than 100,000 spans, 10,000 resources or scopes, or 4,000,000 attributes, events
            and values.
    """
    return _decode(body, "protobuf")


def decode_json(body: bytes) -> SpanBatch:
    """Decode a JSON `ExportTraceServiceRequest`.

    Raises:
        MalformedBodyError: the body is not JSON, or does not have the shape of an `ExportTraceServiceRequest`.
        TooLargeError: the body has more than 100,000 spans, 10,000 resources or scopes, 4,000,000 attributes, events
            and values, or 10,000,000 braces, brackets and commas.
    """
    return _decode(body, "json")


def _decode(body: bytes, encoding: Encoding) -> SpanBatch:
    batch = SpanBatch()
    parts = 0
    for group in iter_limited_groups(body, encoding, SPANS):
        parts = _take_group(batch, group, parts, counts=len(body) >= _MANY_PARTS_BYTES)
    return batch


def iter_groups(body: bytes, encoding: Encoding, shape: JsonShape) -> Iterator[PackedGroup]:
    """Yield the items of an OTLP request, each as protobuf bytes, in groups with the same resource and scope.

    Args:
        body: the body of the request.
        encoding: protobuf or JSON.
        shape: the signal: `SPANS`, `LOGS` or `METRICS` of `json_encoding.py`.

    Raises:
        MalformedBodyError: the body is not a request of this signal in this encoding.
        TooLargeError: the body has too many resources or scopes, or (in JSON) too many values.
    """
    groups = iter_json_groups(body, shape) if encoding == "json" else _iter_packed_groups(body, shape.noun)
    for group_count, group in enumerate(groups, start=1):
        check_group_count(group_count)
        yield group


def iter_limited_groups(body: bytes, encoding: Encoding, shape: JsonShape) -> Iterator[PackedGroup]:
    """Yield the items of an OTLP request in groups, as `iter_groups` does, but reject a request with too many items.

    Use this function for items that are stored.

    Raises:
        MalformedBodyError: the body is not a request of this signal in this encoding.
        TooLargeError: the body has more than `MAX_SPANS` items, too many resources or scopes, or (in JSON) too many
            values.
    """
    count = 0
    for group in iter_groups(body, encoding, shape):
        count += group.count
        if count > MAX_SPANS:
            raise too_many_parts()
        yield group


def _iter_packed_groups(body: bytes, noun: str) -> Iterator[PackedGroup]:
    try:
        groups = ExportOutline.FromString(body).groups
        check_group_count(len(groups))
        for packed_group in groups:
            group = GroupOutline.FromString(packed_group)
            resource = _unpack(Resource, group.resource, f"resource of {noun}")
            check_group_count(len(group.scopes))
            for packed_scope in group.scopes:
                scope_group = ScopeOutline.FromString(packed_scope)
                scope = _unpack(InstrumentationScope, scope_group.scope, f"scope of {noun}")
                schema_url = scope_group.schema_url or group.schema_url
                yield PackedGroup(resource, scope, schema_url, scope_group.items, len(scope_group.items), packed_scope)
    except DecodeError as error:
        raise MalformedBodyError(f"The body is not an OTLP request: {error}.") from error


def _unpack(kind: Any, packed: bytes, field: str) -> Any:
    """Return `packed` decoded as a message of the class `kind`.

    If `packed` is invalid or has more than `MAX_ORIGIN_BYTES` bytes, return (do not raise) an `InvalidItemError`.
    `field` is the name of the message in the text of the error.
    """
    if len(packed) > MAX_ORIGIN_BYTES:
        return InvalidItemError(f"the {field} has more than {MAX_ORIGIN_BYTES:,} bytes")
    try:
        return kind.FromString(packed)
    except DecodeError as error:
        return InvalidItemError(f"the {field} cannot be decoded: {error}")


def _take_group(batch: SpanBatch, group: PackedGroup, parts: int, *, counts: bool) -> int:
    """Add the valid spans of a group to `batch`, and its invalid spans to the batch's rejections.

    Args:
        batch: the batch to extend.
        group: the spans of one resource and scope.
        parts: the number of parts (attributes, events and values) counted in the earlier groups of the request.
        counts: whether to count the parts of all spans. Pass False to save time, if the request is too small to exceed
            the limit of parts; then only the parts of large spans are counted.

    Returns:
        `parts` plus the number of counted parts of the added spans.

    Raises:
        TooLargeError: the request has too many parts.
    """
    try:
        origin = origin_of(group)
    except InvalidItemError as error:
        batch.rejections.add(str(error), group.count)
        return parts
    key = origin.key
    batch.origins[key] = origin
    traces = batch.traces
    for raw, message in zip(group.items, messages_of(group), strict=False):
        try:
            if isinstance(raw, InvalidItemError):
                raise raw
            span = check_span(raw, message, counts=counts)
        except InvalidItemError as error:
            batch.rejections.add(str(error))
            continue
        parts += span.parts
        if parts > MAX_REQUEST_PARTS:
            raise too_many_parts()
        received = ReceivedSpan(span.span_id, key, raw, span.start_us, span.is_root)
        known = traces.get(span.trace_id)
        if known is None:
            traces[span.trace_id] = [received]
        else:
            known.append(received)
    return parts


def origin_of(group: PackedGroup) -> Origin:
    """Return the origin of a group of items: the resource and the scope that the items share.

    Raises:
        InvalidItemError: the resource or the scope cannot be decoded, or is too large.
    """
    for part in (group.resource, group.scope):
        if isinstance(part, InvalidItemError):
            raise part
        try:
            count_values(part.attributes, MAX_VALUES)
        except InvalidItemError as error:
            raise InvalidItemError(f"the resource of {group.count} items cannot be accepted: {error}") from error
    resource = read_attributes(group.resource.attributes)
    scope = {"name": group.scope.name, "version": group.scope.version}
    if group.scope.attributes:
        scope["attributes"] = read_attributes(group.scope.attributes)
    content = {"resource": resource, "scope": scope, "schema_url": group.schema_url}
    data = pydantic_core.to_json(content)
    if len(data) > MAX_ORIGIN_BYTES:
        raise InvalidItemError(f"the resource of {group.count} items has more than {MAX_ORIGIN_BYTES:,} bytes")
    # The key is signed, because it is stored as BIGINT. The order of attributes is part of the content.
    key = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), signed=True)
    return Origin(key, data.decode())
