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

MAX_SPANS = 100_000
"""Spans of one request. Two bytes can say "a span", and each takes memory many times that."""

MAX_GROUPS = 10_000
"""Resources, or scopes, of one request."""

_SMALL_ATTRIBUTE_BYTES = 80
_MAX_KNOWN_ATTRIBUTES = 20_000
_NS_PER_US = 1_000
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
        f"The export holds more than {MAX_SPANS:,} spans, or {MAX_GROUPS:,} resources or scopes.",
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
    return Span(
        trace_id,
        span_id,
        "" if parent_id in _NO_ID else parent_id.hex(),
        clean_text(name),
        _micros("start_time_unix_nano", outline.start_time_unix_nano),
        _micros("end_time_unix_nano", end_ns) if end_ns else None,
        status.code if status is not None else STATUS_UNSET,
        clean_text(status.message) if status is not None else "",
        _read_attributes(outline.attributes),
        _read_events(outline.events),
    )


def read_attributes(pairs: Any) -> Attributes:
    """Return decoded `KeyValue` messages as a dict; of equal keys the last counts."""
    return {clean_text(pair.key): read_value(pair.value) for pair in pairs}


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


def _read_attributes(packed: Any) -> Attributes:
    if len(packed) > MAX_PARTS:
        raise InvalidSpanError(f"a span has {len(packed):,} attributes; at most {MAX_PARTS:,} are taken")
    attributes: Attributes = {}
    for raw in packed:
        known = _known_attributes.get(raw)
        if known is None:
            pair = KeyValue.FromString(raw)
            known = (clean_text(pair.key), read_value(pair.value))
            if len(raw) <= _SMALL_ATTRIBUTE_BYTES and not isinstance(known[1], (dict, list)):
                if len(_known_attributes) >= _MAX_KNOWN_ATTRIBUTES:
                    _known_attributes.clear()
                _known_attributes[raw] = known
        attributes[known[0]] = known[1]
    return attributes


def _read_events(packed: Any) -> tuple[SpanEvent, ...]:
    if not packed:
        return ()
    if len(packed) > MAX_PARTS:
        raise InvalidSpanError(f"a span has {len(packed):,} events; at most {MAX_PARTS:,} are taken")
    return tuple([_read_event(raw) for raw in packed])


def _read_event(raw: bytes) -> SpanEvent:
    event = SpanMessage.Event.FromString(raw)
    # An event's time only orders and describes; one that is out of range is no reason to lose the span.
    time_us = min(event.time_unix_nano // _NS_PER_US, LATEST_US - 1)
    return SpanEvent(clean_text(event.name), time_us, read_attributes(event.attributes))


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
