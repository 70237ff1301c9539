"""Decode a span from its protobuf bytes, within limits of size and number."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.core.clock import EARLIEST_US, LATEST_US
from relab.core.errors import TooLargeError
from relab.telemetry.otlp.outline import SpanOutline, SpansOutline

MAX_SPAN_BYTES = 8 * 1_048_576
"""A larger span is rejected, because a decoded span takes many times the memory of its bytes."""

MAX_SCOPE_BYTES = 1_048_576
"""The spans of a larger scope are decoded one by one: decoded at once, they would take many times the memory of their bytes."""

MAX_PARTS = 10_000
"""The maximum number of attributes, and of events, of one span: even a small attribute takes time to decode."""

STATUS_UNSET, STATUS_ERROR = 0, 2

MAX_VALUES = 100_000
"""The maximum number of values in the attributes of one span or resource, including those in lists and maps: two bytes
can encode a value."""

MAX_SPANS = 100_000
"""The maximum number of spans, or of log records, in one request. Two bytes can encode a span, which takes many times that memory."""

MAX_REQUEST_PARTS = 4_000_000
"""The maximum number of attributes, events and values in one request: each takes microseconds to read."""

MAX_GROUPS = 10_000
"""The maximum number of resources, and of scopes, in one request."""

_SMALL_SPAN_BYTES = 2 * MAX_PARTS
"""Two bytes at least encode an attribute, an event or a value, so a smaller span cannot have too many of them."""
_SMALL_ATTRIBUTE_BYTES = 80
# OpenInference's embeddings are not read: each has thousands of numbers, and a run shows none of them.
_VECTOR_SUFFIX = ".embedding.vector"
_MAX_KNOWN_ATTRIBUTES = 20_000
_NS_PER_US = 1_000
_EARLIEST_NS: Final = max(EARLIEST_US, 1) * _NS_PER_US
_LATEST_NS: Final = LATEST_US * _NS_PER_US
_CONTAINERS: Final = frozenset(("array_value", "kvlist_value"))
_SPAN_TAG: Final = b"\x12"
"""The tag of a span in `ScopeSpans`: field 2, of a length that follows."""
_NO_ID: Final = frozenset((b"", bytes(8), bytes(16)))
_PARENT_FLAGS, _PARENT_IS_LOCAL = 0x300, 0x100  # SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE without SPAN_FLAGS_CONTEXT_IS_REMOTE

Attributes = dict[str, Any]


class InvalidItemError(ValueError):
    """A span, a log record or a metric cannot be accepted. The error message states the reason."""


class SpanEvent(NamedTuple):
    """An event during a span, such as an exception; `time_us` is in microseconds since 1970."""

    name: str
    time_us: int
    attributes: Attributes


class Span(NamedTuple):
    """A span with the fields from which runs are computed.

    Ids are lower-case hex, times are microseconds since 1970. `status` is OpenTelemetry's code: 0 not set, 1 OK, 2
    error.
    """

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    name: str
    start_us: int
    end_us: int | None
    """None for a span that has not ended; less than `start_us` if the clock was set back."""
    status: int
    status_message: str
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    has_local_parent: bool = False
    has_remote_parent: bool = False
    """Whether the span reports that its parent belongs to the same process or to another one; both False if neither."""


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """The items (spans, log records or metrics) of one resource and scope in an OTLP request.

    `count` is the number of items. `schema_url` names the version of the conventions for attribute names; empty if not
    known.
    """

    resource: Any
    """A `Resource` message, or an `InvalidItemError` if it cannot be read; then the whole group is rejected."""
    scope: Any
    """An `InstrumentationScope` message, or an `InvalidItemError` if it cannot be read."""
    schema_url: str
    items: Iterable[bytes | InvalidItemError]
    """Each item as protobuf bytes, or an `InvalidItemError` if it cannot be encoded."""
    count: int
    packed: bytes = b""
    """The protobuf bytes of the scope with all its items; empty if the body was JSON."""


def too_many_parts() -> TooLargeError:
    """Return (do not raise) the error for a request with too many items, resources, scopes, or parts of items."""
    return TooLargeError(
        f"The request contains more than {MAX_SPANS:,} spans or log records, {MAX_GROUPS:,} resources or scopes, "
        f"or {MAX_REQUEST_PARTS:,} attributes, events and values.",
        remedy="Send smaller batches: exporters send 512 spans by default.",
    )


def check_group_count(count: int) -> None:
    """Check the number of resources or scopes of a request.

    Raises:
        TooLargeError: `count` exceeds `MAX_GROUPS`.
    """
    if count > MAX_GROUPS:
        raise too_many_parts()


class CheckedSpan(NamedTuple):
    """The fields of a span that are needed to store it.

    Attributes:
        trace_id: the id of the trace, lower-case hex.
        span_id: the id of the span, lower-case hex.
        is_root: whether the span has no parent.
        start_us: the start, in microseconds since 1970.
        parts: the number of attributes, events and their values; 0 if they were not counted.
    """

    trace_id: str
    span_id: str
    is_root: bool
    start_us: int
    parts: int


def messages_of(group: PackedGroup) -> Iterable[Any]:
    """Return the decoded `Span` messages of a group, in the order of `group.items`.

    If the group came as JSON, is too large or contains an invalid span, return an endless sequence of None. Pair the
    result with `group.items` by `zip`, and pass each pair to `check_span`: it decodes the bytes itself for None.
    """
    # Decoding all spans at once is faster than one by one.
    if 0 < len(group.packed) <= MAX_SCOPE_BYTES:
        try:
            return ScopeSpans.FromString(group.packed).spans
        except DecodeError:
            pass
    return itertools.repeat(None)


def check_span(raw: bytes, message: Any = None, *, counts: bool = True) -> CheckedSpan:
    """Check that `read_spans` can read a span's bytes later, and return the fields that are needed to store the span.

    Args:
        raw: the bytes of an OTLP `Span` message.
        message: the decoded message; None to decode `raw`.
        counts: whether to count the parts (attributes, events and values) of a span below 20,000 bytes. The parts of a
            larger span are always counted.

    Raises:
        InvalidItemError: the bytes are too large or not a span, its ids or times are invalid, or it has too many parts.
    """
    if message is None:
        message = _decode_alone(raw)
    trace_id, span_id = message.trace_id, message.span_id
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id in _NO_ID or span_id in _NO_ID:
        raise _invalid_ids(trace_id, span_id)
    try:
        parts = _check_fields(message, is_counted=counts or len(raw) >= _SMALL_SPAN_BYTES)
    except InvalidItemError as error:
        raise InvalidItemError(f"span {span_id.hex()} of trace {trace_id.hex()}: {error}") from error
    start_us = message.start_time_unix_nano // _NS_PER_US
    return CheckedSpan(trace_id.hex(), span_id.hex(), message.parent_span_id in _NO_ID, start_us, parts)


def _check_fields(message: Any, *, is_counted: bool) -> int:
    """Check the parent id and the times of a `Span` message, and if `is_counted` is true, the number of its parts.

    Return the number of parts (attributes, events and values); 0 if `is_counted` is false.

    Raises:
        InvalidItemError: a checked field is not valid, or there are too many parts.
    """
    parent_id, start_ns, end_ns = message.parent_span_id, message.start_time_unix_nano, message.end_time_unix_nano
    if parent_id and len(parent_id) != 8:
        raise InvalidItemError(f"parent_span_id {parent_id[:20].hex()!r} is not 8 bytes")
    if not _EARLIEST_NS <= start_ns < _LATEST_NS:
        raise _invalid_time("start_time_unix_nano", start_ns)
    if end_ns and not _EARLIEST_NS <= end_ns < _LATEST_NS:
        raise _invalid_time("end_time_unix_nano", end_ns)
    return _count_parts(message) if is_counted else 0


def _decode_alone(raw: bytes) -> Any:
    if len(raw) > MAX_SPAN_BYTES:
        raise InvalidItemError(f"a span of {len(raw):,} bytes is larger than {MAX_SPAN_BYTES:,}")
    try:
        return SpanMessage.FromString(raw)
    except DecodeError as error:
        raise InvalidItemError(f"a span cannot be decoded: {error}") from error


def _count_parts(message: Any) -> int:
    """Return how many attributes, events and values (in attributes and in events) a decoded `Span` message has in all.

    Raises:
        InvalidItemError: there are too many of them.
    """
    if len(message.attributes) > MAX_PARTS:
        raise InvalidItemError(f"a span has {len(message.attributes):,} attributes; at most {MAX_PARTS:,} are taken")
    parts = count_values(message.attributes, MAX_VALUES)
    if len(message.events) > MAX_PARTS:
        raise InvalidItemError(f"a span has {len(message.events):,} events; at most {MAX_PARTS:,} are taken")
    parts += len(message.events)
    for event in message.events:
        parts += count_values(event.attributes, MAX_VALUES - parts)
    return parts


def read_spans(raws: Sequence[bytes]) -> Iterator[Span]:
    """Decode OTLP `Span` messages that `check_span` has accepted; yield the spans in the same order."""
    start = 0
    # Decoding up to a megabyte of spans at once is faster than one by one.
    while start < len(raws):
        packed: list[bytes] = []
        size, end = 0, start
        while end < len(raws) and (end == start or size + len(raws[end]) <= MAX_SCOPE_BYTES):
            size += len(raws[end])
            packed += (_SPAN_TAG, _varint(len(raws[end])), raws[end])
            end += 1
        for outline in SpansOutline.FromString(b"".join(packed)).items:
            yield _read(outline)
        start = end


def read_span(raw: bytes) -> Span:
    """Decode one span from the bytes of an OTLP `Span` message that `check_span` has accepted."""
    return _read(SpanOutline.FromString(raw))


def _varint(number: int) -> bytes:
    """Return `number` encoded as a protobuf varint, the encoding of the length of a field."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read(outline: Any) -> Span:
    parent_id, packed_status = outline.parent_span_id, outline.status
    end_ns = outline.end_time_unix_nano
    status = Status.FromString(packed_status) if packed_status else None
    packed_events = outline.events
    return Span(
        outline.trace_id.hex(),
        outline.span_id.hex(),
        "" if parent_id in _NO_ID else parent_id.hex(),
        clean_text(outline.name),
        outline.start_time_unix_nano // _NS_PER_US,
        end_ns // _NS_PER_US if end_ns else None,
        status.code if status is not None else STATUS_UNSET,
        clean_text(status.message) if status is not None else "",
        _read_attributes(outline.attributes),
        _read_events(packed_events) if packed_events else (),
        outline.flags & _PARENT_FLAGS == _PARENT_IS_LOCAL,
        outline.flags & _PARENT_FLAGS == _PARENT_FLAGS,
    )


def count_values(pairs: Any, limit: int) -> int:
    """Return the number of values in decoded `KeyValue` messages, including the values in lists and maps.

    Raises:
        InvalidItemError: there are more than `limit` values.
    """
    count = 0
    held, is_map = pairs, True
    waiting: list[AnyValue] = []
    while True:
        count += len(held)
        # Count a list before opening it, because each opened part takes half a kilobyte of memory.
        if count > limit:
            raise InvalidItemError(f"there are more than {MAX_VALUES:,} values in attributes")
        # Embedding vectors are not opened, because their contents are never read.
        waiting.extend([pair.value for pair in held if not pair.key.endswith(_VECTOR_SUFFIX)] if is_map else held)
        while waiting and waiting[-1].WhichOneof("value") not in _CONTAINERS:
            waiting.pop()
        if not waiting:
            return count
        value = waiting.pop()
        is_map = value.HasField("kvlist_value")
        held = (value.kvlist_value if is_map else value.array_value).values


def read_attributes(pairs: Any) -> Attributes:
    """Return decoded `KeyValue` messages as a dict: the last value of each key, and None for vectors of embeddings."""
    return {clean_text(pair.key): _read_pair(pair) for pair in pairs}


def _read_pair(pair: KeyValue) -> Any:
    return None if pair.key.endswith(_VECTOR_SUFFIX) else read_value(pair.value)


def read_value(value: AnyValue) -> Any:
    """Return an OTLP value as a JSON value: bytes as base64, NaN and infinities as text."""
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
    """Return the text with NUL characters replaced by U+FFFD, because databases cannot store NUL in text."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


# A cache of decoded attributes: most attributes are equal in thousands of spans (an operation, a model, a tool), and
# decoding takes ten times as long as a lookup. Dicts and lists are not cached, because they are mutable.
_known_attributes: dict[bytes, tuple[str, Any]] = {}


def _read_attributes(packed: Any) -> Attributes:
    attributes: Attributes = {}
    for raw in packed:
        known = _known_attributes.get(raw)
        if known is None:
            pair = KeyValue.FromString(raw)
            value = pair.value
            kind = value.WhichOneof("value")
            if kind == "string_value":
                known = (clean_text(pair.key), clean_text(value.string_value))
            elif kind in _CONTAINERS:
                known = (clean_text(pair.key), _read_pair(pair))
            else:
                known = (clean_text(pair.key), read_value(value))
            if len(raw) <= _SMALL_ATTRIBUTE_BYTES and kind not in _CONTAINERS:
                if len(_known_attributes) >= _MAX_KNOWN_ATTRIBUTES:
                    _known_attributes.clear()
                _known_attributes[raw] = known
        attributes[known[0]] = known[1]
    return attributes


def _read_events(packed: Any) -> tuple[SpanEvent, ...]:
    events = []
    for raw in packed:
        event = SpanMessage.Event.FromString(raw)
        # The time of an event only sorts and describes it, so a time out of range does not reject the span.
        time_us = min(event.time_unix_nano // _NS_PER_US, LATEST_US - 1)
        events.append(SpanEvent(clean_text(event.name), time_us, read_attributes(event.attributes)))
    return tuple(events)


def _invalid_ids(trace_id: bytes, span_id: bytes) -> InvalidItemError:
    name, given, size = ("trace_id", trace_id, 16)
    if len(trace_id) == size and trace_id not in _NO_ID:
        name, given, size = ("span_id", span_id, 8)
    return InvalidItemError(f"{name} {given[:20].hex()!r} is not {size} bytes with one that is not zero")


def _invalid_time(field: str, nanoseconds: int) -> InvalidItemError:
    if nanoseconds < _NS_PER_US:
        return InvalidItemError(f"{field} is missing")
    return InvalidItemError(f"{field} {nanoseconds} does not lie between the years 1970 and 2199")
