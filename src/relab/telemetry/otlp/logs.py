"""Decode OTLP requests of log records, and add some of the records to spans as events.

A record with a trace id belongs to the run of that trace. If it was written in a span, two kinds of records become
events of this span, as if the span itself had reported them: events of models and agents (`_SPAN_EVENTS`), and
exceptions (`joins_exception`). All other records are log lines, which are not used to compute a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from pydantic_core import to_json

from relab.core.clock import LATEST_US
from relab.telemetry.log_models import LogLine, StoredLog
from relab.telemetry.models import MAX_SHORT_TEXT_CHARS
from relab.telemetry.otlp.decoding import TraceBatch, iter_limited_groups, origin_of
from relab.telemetry.otlp.dialects.claude_code import events_by_subject
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.json_encoding import LOGS
from relab.telemetry.otlp.outcome import EXCEPTION_EVENT
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import (
    MAX_PARTS,
    MAX_REQUEST_PARTS,
    MAX_SPAN_BYTES,
    MAX_VALUES,
    STATUS_ERROR,
    STATUS_UNSET,
    InvalidItemError,
    PackedGroup,
    SpanEvent,
    clean_text,
    count_values,
    read_attributes,
    read_span,
    read_value,
    too_many_parts,
)
from relab.telemetry.otlp_models import Encoding

MAX_LINE_CHARS: Final = 20_000
BODY: Final = "body"
"""The attribute of a span event that holds the body of its log record, as a JSON value."""

_SPAN_EVENTS: Final = ("gen_ai.", "claude_code.", "codex.")
"""The beginnings of the names of log events that are read as events of their span."""
_EXCEPTION_PREFIX: Final = "exception."
_EVENT_NAME: Final = "event.name"
_SEVERITY_ERROR: Final = 17
"""OpenTelemetry's lowest severity number of an error."""
_LATEST_NS: Final = LATEST_US * 1_000 - 1
_MAX_SEVERITY: Final = 2**15 - 1
_CALL_ROLES: Final = frozenset((Role.TOOL, Role.RETRIEVER))


class ReceivedLog(NamedTuple):
    """One log record of a trace.

    Attributes:
        time_ns: nanoseconds since 1970, UTC; 0 if the record has no time.
        record_id: a digest of the record with its resource and scope, in hex. A record that is sent twice has the same
            id.
        span_id: the id, in hex, of the span in which the record was written; empty if not known.
        severity: OpenTelemetry's severity number; 0 if not known.
        event_name: the name of the event; empty for a log line.
        is_span_event: whether relab reads the record as an event of its span.
        origin: the key of the record's origin (its resource and scope).
        raw: the record as protobuf bytes: those that were received, unless the record was received as JSON.
    """

    time_ns: int
    record_id: str
    span_id: str
    severity: int
    event_name: str
    is_span_event: bool
    origin: int
    raw: bytes


LogBatch = TraceBatch[ReceivedLog]

LogEvents = Mapping[str, Sequence[SpanEvent]]
"""`{span id: events}` of one trace, from its log records, oldest first."""


def read_lines(rows: Iterable[StoredLog]) -> list[LogLine]:
    """Return the stored log records as lines of text; a record without text is left out."""
    return [line for line in map(_log_line, rows) if line is not None]


def _log_line(stored: StoredLog) -> LogLine | None:
    """Return a stored record as a line of text; None if it has no text."""
    record = LogRecord.FromString(stored.data)
    attributes = read_attributes(record.attributes)
    body = read_value(record.body) if record.HasField("body") else None
    text = body if isinstance(body, str) else None if body is None else to_json(body).decode()
    cause = attributes.get("exception.message")
    if isinstance(cause, str) and cause and cause not in (text or ""):
        text = f"{text}: {cause}" if text else cause
    if text is None or not text.strip():
        return None
    return LogLine(
        record_id=stored.record_id,
        span_id=stored.span_id or None,
        at=stored.time_ns // 1_000,
        severity=stored.severity,
        severity_text=clean_text(record.severity_text) or None,
        message=text[:MAX_LINE_CHARS],
    )


class _Body(NamedTuple):
    """The body of a log record, in the form of an attribute (`key`, `value`) that `count_values` can count."""

    key: str
    value: Any


def decode_logs(body: bytes, encoding: Encoding) -> LogBatch:
    """Decode an `ExportLogsServiceRequest`.

    Records without a valid trace id are not kept; they are counted in `ignored`.

    Raises:
        MalformedBodyError: the body is not an `ExportLogsServiceRequest` in this encoding.
        TooLargeError: the body has more than 100,000 log records, 10,000 resources or scopes, 4,000,000 attributes and
            values, or (in JSON) 10,000,000 braces, brackets and commas.
    """
    batch = LogBatch()
    parts = 0
    for group in iter_limited_groups(body, encoding, LOGS):
        parts = _take_group(batch, group, parts)
    return batch


def _take_group(batch: LogBatch, group: PackedGroup, parts: int) -> int:
    """Add the valid log records of a group to `batch`, and its invalid ones to the batch's rejections.

    Args:
        batch: the batch to extend.
        group: the log records of one resource and scope.
        parts: the number of parts (records, attributes and values) in the earlier groups of the request.

    Returns:
        `parts` plus the number of parts of the valid records in this group.

    Raises:
        TooLargeError: the request has too many parts.
    """
    try:
        origin = origin_of(group)
    except InvalidItemError as error:
        batch.rejections.add(str(error), group.count)
        return parts
    batch.origins[origin.key] = origin
    for raw in group.items:
        try:
            if isinstance(raw, InvalidItemError):
                raise raw
            record, record_parts = _unpack(raw)
        except InvalidItemError as error:
            batch.rejections.add(str(error))
            continue
        parts += record_parts
        if parts > MAX_REQUEST_PARTS:
            raise too_many_parts()
        if not _is_id(record.trace_id, 16):
            batch.ignored += 1
            continue
        batch.add(record.trace_id.hex(), _read(record, raw, origin.key))
    return parts


def read_event(raw: bytes) -> SpanEvent:
    """Decode the protobuf bytes of a log record as an event of its span.

    The body of the record, if there is one, becomes the event's attribute `body`.
    """
    record = LogRecord.FromString(raw)
    attributes = read_attributes(record.attributes)
    name = EXCEPTION_EVENT if joins_exception(record) else _event_name(record)
    if record.body.WhichOneof("value") is not None:
        attributes[BODY] = read_value(record.body)
    return SpanEvent(name, _time_ns(record) // 1_000, attributes)


def with_events(spans: Iterable[tuple[SpanFacts, bytes]], events: LogEvents) -> Iterator[SpanFacts]:
    """Yield the facts of each span, including the events of the span that were received as log records.

    The facts of a span with such events are computed again, from the span's bytes and the events.

    An exception event is added only if the span failed, or if it is a tool call or retrieval without a status. Other
    spans may have handled the exception: agents and models also log exceptions that they handle.

    Args:
        spans: `(facts of the span, the span as protobuf bytes)`.
        events: `{span id: events}`, read from the log records of the trace. A span keeps at most 10,000 events.
    """
    if not events:
        yield from (facts for facts, _ in spans)
        return
    spans = list(spans)
    events = events_by_subject(events, (facts.span for facts, _ in spans))
    for facts, raw in spans:
        added = events.get(facts.span.span_id)
        if added is None:
            yield facts
            continue
        # Exceptions are kept only for a failed span, or a tool call or retrieval without a status: agents and models also log exceptions
        # that they handle.
        counts_exceptions = _counts_exceptions(facts)
        kept = [event for event in added if event.name != EXCEPTION_EVENT or counts_exceptions]
        span = read_span(raw)
        yield facts_of(span._replace(events=(*span.events, *kept)[:MAX_PARTS]), facts.resource)


def joins_exception(record: LogRecord) -> bool:
    """Return whether a log record counts as an exception event of its span.

    The record must have attributes named `exception.*`. Its severity must be that of an error or higher, or not set.
    """
    # OpenTelemetry's conventions give handled exceptions a lower severity.
    if 0 < record.severity_number < _SEVERITY_ERROR:
        return False
    return any(pair.key.startswith(_EXCEPTION_PREFIX) for pair in record.attributes)


def _counts_exceptions(facts: SpanFacts) -> bool:
    span = facts.span
    if span.status == STATUS_ERROR or span.attributes.get("error.type"):
        return True
    return span.status == STATUS_UNSET and facts.role in _CALL_ROLES


def _unpack(raw: bytes) -> tuple[LogRecord, int]:
    """Decode a log record; return the record and its number of parts (the record, its attributes and its values).

    Raises:
        InvalidItemError: the bytes are too large or not a log record, or it has too many attributes or values.
    """
    if len(raw) > MAX_SPAN_BYTES:
        raise InvalidItemError(f"a log record of {len(raw):,} bytes is larger than {MAX_SPAN_BYTES:,}")
    try:
        record = LogRecord.FromString(raw)
    except DecodeError as error:
        raise InvalidItemError(f"a log record cannot be decoded: {error}") from error
    if len(record.attributes) > MAX_PARTS:
        raise InvalidItemError(
            f"a log record has {len(record.attributes):,} attributes; at most {MAX_PARTS:,} are accepted"
        )
    parts = 1 + count_values(record.attributes, MAX_VALUES)
    return record, parts + count_values((_Body(BODY, record.body),), MAX_VALUES)


def _read(record: LogRecord, raw: bytes, origin: int) -> ReceivedLog:
    span_id = record.span_id.hex() if _is_id(record.span_id, 8) else ""
    event_name = _event_name(record)
    digest = hashlib.blake2b(raw, digest_size=8, key=origin.to_bytes(8, signed=True))
    return ReceivedLog(
        _time_ns(record),
        digest.hexdigest(),
        span_id,
        min(max(record.severity_number, 0), _MAX_SEVERITY),
        event_name,
        bool(span_id) and (event_name.startswith(_SPAN_EVENTS) or joins_exception(record)),
        origin,
        raw,
    )


def _event_name(record: LogRecord) -> str:
    """Return the name of the event that a log record reports; empty if it reports none.

    The name is the field `event_name`. The attribute `event.name` (of older SDKs) is used instead if the field is
    empty, or if only the attribute has a prefix in `_SPAN_EVENTS`, such as `gen_ai.`. If neither has a prefix, but the
    body of the record is the name with a prefix, the body is returned.
    """
    name = record.event_name
    if not name.startswith(_SPAN_EVENTS):
        named = next((pair.value.string_value for pair in record.attributes if pair.key == _EVENT_NAME), "")
        # In `event_name`, programs in Rust have the line of source code that reported the event.
        name = named if named.startswith(_SPAN_EVENTS) else name or named
        body = record.body.string_value
        name = next((body for prefix in _SPAN_EVENTS if name and body == prefix + name), name)
    return clean_text(name[:MAX_SHORT_TEXT_CHARS])


def _time_ns(record: LogRecord) -> int:
    """Return the time of a log record in nanoseconds since 1970; without one, the time at which it was observed.

    Times after the year 2199 become the end of that year.
    """
    # The time is only used for sorting.
    return min(record.time_unix_nano or record.observed_time_unix_nano, _LATEST_NS)


def _is_id(given: bytes, size: int) -> bool:
    """Return whether an id has `size` bytes and is not all zeros; OTLP treats any other id as absent."""
    return len(given) == size and any(given)
