"""Decode the body of an OTLP request into spans; each span is accepted or rejected independently."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pydantic_core
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from relab.core.errors import MalformedBodyError
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.json_encoding import iter_json_groups
from relab.telemetry.otlp.outline import ExportOutline, ResourceSpansOutline, ScopeSpansOutline
from relab.telemetry.otlp.spans import (
    MAX_REQUEST_PARTS,
    MAX_SPANS,
    MAX_VALUES,
    Attributes,
    InvalidSpanError,
    SpanGroup,
    check_group_count,
    count_values,
    read_attributes,
    read_span,
    too_many_parts,
)

MAX_ORIGIN_BYTES = 1_048_576
_SHOWN_REJECTIONS = 5


class Origin(NamedTuple):
    """The origin of spans: the resource (the process) and the scope (the library) that created them.

    `key` is a digest of the content; `data` is the content as JSON.
    """

    key: int
    data: str
    resource: Attributes


class ReceivedSpan(NamedTuple):
    """One span: its facts, the key of its origin, and its bytes as they were received."""

    facts: SpanFacts
    origin: int
    raw: bytes


@dataclass
class Rejections:
    """The rejected spans: their number, and the first few different reasons."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str, count: int = 1) -> None:
        """Add `count` spans that were rejected for a reason."""
        self.count += count
        if len(self.reasons) < _SHOWN_REJECTIONS and reason not in self.reasons:
            self.reasons.append(reason)

    def message(self) -> str:
        """Return the reasons as one text, empty if no span was rejected."""
        more = "" if len(self.reasons) < _SHOWN_REJECTIONS else "; and possibly others"
        return "; ".join(self.reasons) + more


@dataclass
class SpanBatch:
    """The spans of one request, by trace.

    Attributes:
        traces: `{trace id: spans}`, in the order of the body; a span may occur twice.
        origins: `{key: origin}` of all spans.
        rejections: the rejected spans.
    """

    traces: dict[str, list[ReceivedSpan]] = field(default_factory=dict)
    origins: dict[int, Origin] = field(default_factory=dict)
    rejections: Rejections = field(default_factory=Rejections)

    @property
    def span_count(self) -> int:
        """The number of accepted spans, duplicates included."""
        return sum(map(len, self.traces.values()))


def decode_protobuf(body: bytes) -> SpanBatch:
    """Decode a binary `ExportTraceServiceRequest`.

    Raises:
        MalformedBodyError: the body is not such a message.
        TooLargeError: the body has more than 100,000 spans, 10,000 resources or scopes, or 4,000,000 parts of spans.
    """
    return _collect(_iter_packed_groups(body))


def decode_json(body: bytes) -> SpanBatch:
    """Decode a JSON `ExportTraceServiceRequest`.

    Raises:
        MalformedBodyError: the body is not JSON, or does not have the shape of an `ExportTraceServiceRequest`.
        TooLargeError: the body has more than 100,000 spans, 10,000 resources or scopes, or 4,000,000 parts of spans.
    """
    return _collect(iter_json_groups(body))


def _iter_packed_groups(body: bytes) -> Iterator[SpanGroup]:
    try:
        groups = ExportOutline.FromString(body).resource_spans
        check_group_count(len(groups))
        for packed_resource_spans in groups:
            resource_spans = ResourceSpansOutline.FromString(packed_resource_spans)
            resource = _unpack(Resource, resource_spans.resource, "resource")
            check_group_count(len(resource_spans.scope_spans))
            for packed_scope_spans in resource_spans.scope_spans:
                scope_spans = ScopeSpansOutline.FromString(packed_scope_spans)
                scope = _unpack(InstrumentationScope, scope_spans.scope, "scope")
                schema_url = scope_spans.schema_url or resource_spans.schema_url
                yield SpanGroup(resource, scope, schema_url, scope_spans.spans, len(scope_spans.spans))
    except DecodeError as error:
        raise MalformedBodyError(f"The body is not an OTLP request: {error}.") from error


def _unpack(kind: Any, packed: bytes, field: str) -> Any:
    """Return the decoded message; if it cannot be decoded, return (do not raise) an `InvalidSpanError`."""
    if len(packed) > MAX_ORIGIN_BYTES:
        return InvalidSpanError(f"the {field} of spans has more than {MAX_ORIGIN_BYTES:,} bytes")
    try:
        return kind.FromString(packed)
    except DecodeError as error:
        return InvalidSpanError(f"the {field} of spans cannot be decoded: {error}")


def _collect(groups: Iterable[SpanGroup]) -> SpanBatch:
    batch = SpanBatch()
    span_count = parts = 0
    for group_count, group in enumerate(groups, start=1):
        span_count += group.count
        check_group_count(group_count)
        if span_count > MAX_SPANS:
            raise too_many_parts()
        parts = _take_group(batch, group, parts)
    return batch


def _take_group(batch: SpanBatch, group: SpanGroup, parts: int) -> int:
    """Add the spans of a group to a batch; return `parts` plus the number of parts of these spans."""
    try:
        origin = _origin(group)
    except InvalidSpanError as error:
        batch.rejections.add(str(error), group.count)
        return parts
    batch.origins[origin.key] = origin
    for raw in group.spans:
        try:
            if isinstance(raw, InvalidSpanError):
                raise raw
            span = read_span(raw)
        except InvalidSpanError as error:
            batch.rejections.add(str(error))
            continue
        parts += span.parts
        if parts > MAX_REQUEST_PARTS:
            raise too_many_parts()
        received = ReceivedSpan(facts_of(span, origin.resource), origin.key, raw)
        trace = batch.traces.get(span.trace_id)
        if trace is None:
            batch.traces[span.trace_id] = [received]
        else:
            trace.append(received)
    return parts


def _origin(group: SpanGroup) -> Origin:
    for part in (group.resource, group.scope):
        if isinstance(part, InvalidSpanError):
            raise part
        try:
            count_values(part.attributes, MAX_VALUES)
        except InvalidSpanError as error:
            raise InvalidSpanError(f"the resource of {group.count} spans cannot be taken: {error}") from error
    resource = read_attributes(group.resource.attributes)
    scope = {"name": group.scope.name, "version": group.scope.version}
    if group.scope.attributes:
        scope["attributes"] = read_attributes(group.scope.attributes)
    content = {"resource": resource, "scope": scope, "schema_url": group.schema_url}
    data = pydantic_core.to_json(content)
    if len(data) > MAX_ORIGIN_BYTES:
        raise InvalidSpanError(f"the resource of {group.count} spans has more than {MAX_ORIGIN_BYTES:,} bytes")
    # The key is signed, because it is stored as BIGINT. The order of attributes is part of the content.
    key = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), signed=True)
    return Origin(key, data.decode(), resource)
