"""Spans as values, and how one is read from its bytes."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from relab.core.clock import EARLIEST_US, LATEST_US
from relab.core.errors import TooLargeError
from relab.telemetry.otlp.outline import SpanOutline

MAX_SPAN_BYTES = 8 * 1_048_576
"""A span beyond this is refused: decoded, it takes many times its bytes."""

MAX_PARTS = 10_000
"""Attributes, or events, of one span: each takes time to decode however few its bytes."""

STATUS_UNSET, STATUS_OK, STATUS_ERROR = 0, 1, 2

MAX_VALUES = 100_000
"""Values in the attributes of one span, or resource, inside of lists and maps too: two bytes can say "a value"."""

MAX_SPANS = 100_000
"""Spans of one request. Two bytes can say "a span", and each takes memory many times that."""

MAX_REQUEST_PARTS = 4_000_000
"""Attributes, events and values of one request: each takes microseconds to read."""

MAX_GROUPS = 10_000
"""Resources, or scopes, of one request."""

_SMALL_ATTRIBUTE_BYTES = 80
# OpenInference's embeddings: thousands of numbers each, of which a run shows none.
_VECTOR_SUFFIX = ".embedding.vector"
_MAX_KNOWN_ATTRIBUTES = 20_000
_NS_PER_US = 1_000
_CONTAINERS: Final = frozenset(("array_value", "kvlist_value"))
_NO_ID: Final = frozenset((b"", bytes(8), bytes(16)))

Attributes = dict[str, Any]


class InvalidSpanError(ValueError):
    """One span that cannot be stored; the message says why, for the one who sent it."""


class SpanEvent(NamedTuple):
    """Something that happened during a span, such as an exception."""

    name: str
    time_us: int
    attributes: Attributes


class Span(NamedTuple):
    """What the mapper reads of a span. Ids are lower-case hex, times UTC microseconds."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    name: str
    start_us: int
    end_us: int | None
    """None for a span that is not over; before `start_us` where a clock was set back."""
    status: int
    status_message: str
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    parts: int
    """How many attributes, events and values inside of them there were to read."""


@dataclass(frozen=True, slots=True)
class SpanGroup:
    """The spans of one resource and scope, as one encoding of OTLP yields them."""

    resource: Any
    """A `Resource` message, or why it cannot be read: then none of the spans can be taken."""
    scope: Any
    """An `InstrumentationScope` message."""
    schema_url: str
    spans: Iterable[bytes | InvalidSpanError]
    """Packed spans; one that cannot be packed is the reason."""
    count: int


def too_many_parts() -> TooLargeError:
    """Return the error for an export of too many parts."""
    return TooLargeError(
        f"The export holds more than {MAX_SPANS:,} spans, {MAX_GROUPS:,} resources or scopes, "
        f"or {MAX_REQUEST_PARTS:,} attributes, events and values.",
        remedy="Send smaller batches: exporters send 512 spans by default.",
    )


def check_group_count(count: int) -> None:
    """Return if a request may have so many resources or scopes.

    Raises:
        TooLargeError: it has too many.
    """
    if count > MAX_GROUPS:
        raise too_many_parts()


def read_span(raw: bytes) -> Span:
    """Read one packed span.

    Raises:
        InvalidSpanError: it is too large, no span, or has no valid ids or times; names the span if it can.
    """
    if len(raw) > MAX_SPAN_BYTES:
        raise InvalidSpanError(f"a span of {len(raw):,} bytes is larger than {MAX_SPAN_BYTES:,}")
    try:
        # Whole, because it will be read whole again: to be shown, or joined with another report of it.
        SpanMessage.FromString(raw)
        outline = SpanOutline.FromString(raw)
    except DecodeError as error:
        raise InvalidSpanError(f"a span cannot be decoded: {error}") from error
    trace_id, span_id = outline.trace_id, outline.span_id
    _check_ids(trace_id, span_id)
    try:
        return _read(outline, trace_id.hex(), span_id.hex())
    except InvalidSpanError as error:
        raise InvalidSpanError(f"span {span_id.hex()} of trace {trace_id.hex()}: {error}") from error


def _read(outline: Any, trace_id: str, span_id: str) -> Span:
    parent_id, name, end_ns, packed_status = (
        outline.parent_span_id,
        outline.name,
        outline.end_time_unix_nano,
        outline.status,
    )
    if len(parent_id) not in {0, 8}:
        raise InvalidSpanError(f"parent_span_id {parent_id[:20].hex()!r} is not 8 bytes")
    status = Status.FromString(packed_status) if packed_status else None
    attributes, parts = _read_attributes(outline.attributes)
    events, parts = _read_events(outline.events, parts)
    return Span(
        trace_id,
        span_id,
        "" if parent_id in _NO_ID else parent_id.hex(),
        clean_text(name),
        _micros("start_time_unix_nano", outline.start_time_unix_nano),
        _micros("end_time_unix_nano", end_ns) if end_ns else None,
        status.code if status is not None else STATUS_UNSET,
        clean_text(status.message) if status is not None else "",
        attributes,
        events,
        parts,
    )


def count_values(pairs: Any, limit: int) -> int:
    """Return how many values decoded `KeyValue` messages hold, those inside of lists and maps too.

    Vectors, which are never read, do not count.

    Raises:
        InvalidSpanError: there are more than `limit`.
    """
    count = 0
    held, is_map = pairs, True
    waiting: list[AnyValue] = []
    while True:
        count += len(held)
        # Each part that is looked at takes half a kilobyte, so that a list is counted before it is opened.
        if count > limit:
            raise InvalidSpanError(f"there are more than {MAX_VALUES:,} values in attributes")
        waiting.extend([pair.value for pair in held if not pair.key.endswith(_VECTOR_SUFFIX)] if is_map else held)
        while waiting and waiting[-1].WhichOneof("value") not in _CONTAINERS:
            waiting.pop()
        if not waiting:
            return count
        value = waiting.pop()
        is_map = value.HasField("kvlist_value")
        held = (value.kvlist_value if is_map else value.array_value).values


def read_attributes(pairs: Any) -> Attributes:
    """Return decoded `KeyValue` messages as a dict; of equal keys the last counts."""
    return {clean_text(pair.key): _read_pair(pair) for pair in pairs}


def _read_pair(pair: KeyValue) -> Any:
    return None if pair.key.endswith(_VECTOR_SUFFIX) else read_value(pair.value)


def read_value(value: AnyValue) -> Any:
    """Return an OTLP value as JSON can hold it: bytes as base64, NaN and infinities as text."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return clean_text(value.string_value)
    if kind == "int_value":
        return value.int_value
    if kind == "double_value":
        return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
    if kind == "array_value":
        return [read_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return read_attributes(value.kvlist_value.values)
    return _read_rare_value(value, kind)


def _read_rare_value(value: AnyValue, kind: str | None) -> Any:
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind) if kind else None


def clean_text(text: str) -> str:
    """Return the text without NUL, which no database can store as text."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


# Most attributes say the same in thousands of spans (an operation, a model, a tool), and to
# decode one takes ten times as long as to look it up. Dicts and lists are not kept: they are mutable.
_known_attributes: dict[bytes, tuple[str, Any]] = {}


def _read_attributes(packed: Any) -> tuple[Attributes, int]:
    parts = len(packed)
    if parts > MAX_PARTS:
        raise InvalidSpanError(f"a span has {parts:,} attributes; at most {MAX_PARTS:,} are taken")
    attributes: Attributes = {}
    for raw in packed:
        known = _known_attributes.get(raw)
        if known is None:
            pair = KeyValue.FromString(raw)
            if pair.value.WhichOneof("value") in _CONTAINERS:
                parts += count_values((pair,), MAX_VALUES - parts) - 1
                known = (clean_text(pair.key), _read_pair(pair))
            else:
                known = (clean_text(pair.key), read_value(pair.value))
                if len(raw) <= _SMALL_ATTRIBUTE_BYTES:
                    if len(_known_attributes) >= _MAX_KNOWN_ATTRIBUTES:
                        _known_attributes.clear()
                    _known_attributes[raw] = known
        attributes[known[0]] = known[1]
    return attributes, parts


def _read_events(packed: Any, parts: int) -> tuple[tuple[SpanEvent, ...], int]:
    """Return the events of a span of which so many parts are read, and how many are then."""
    if not packed:
        return (), parts
    if len(packed) > MAX_PARTS:
        raise InvalidSpanError(f"a span has {len(packed):,} events; at most {MAX_PARTS:,} are taken")
    parts += len(packed)
    events = []
    for raw in packed:
        event = SpanMessage.Event.FromString(raw)
        parts += count_values(event.attributes, MAX_VALUES - parts)
        # An event's time only orders and describes; one that is out of range is no reason to lose the span.
        time_us = min(event.time_unix_nano // _NS_PER_US, LATEST_US - 1)
        events.append(SpanEvent(clean_text(event.name), time_us, read_attributes(event.attributes)))
    return tuple(events), parts


def _check_ids(trace_id: bytes, span_id: bytes) -> None:
    if len(trace_id) != 16 or trace_id in _NO_ID:
        raise InvalidSpanError(f"trace_id {trace_id[:20].hex()!r} is not 16 bytes with one that is not zero")
    if len(span_id) != 8 or span_id in _NO_ID:
        raise InvalidSpanError(f"span_id {span_id[:20].hex()!r} is not 8 bytes with one that is not zero")


def _micros(field: str, nanoseconds: int) -> int:
    micros = nanoseconds // _NS_PER_US
    if micros == 0:
        raise InvalidSpanError(f"{field} is missing")
    if not EARLIEST_US <= micros < LATEST_US:
        raise InvalidSpanError(f"{field} {nanoseconds} does not lie between the years 1970 and 2199")
    return micros
