"""Several reports of one span become one, whatever their order.

An exporter may send a span before it is over and again after, or two processors may send
it with different attributes. Field by field the report that says more wins, by a total
order: so joining is commutative, associative and idempotent, and the stored span depends
only on which reports came, not on when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.telemetry.otlp.spans import MAX_PARTS, MAX_SPAN_BYTES

_VALUE_RANKS = {None: 0, "bool_value": 1, "int_value": 2, "double_value": 2, "bytes_value": 3, "string_value": 4}
_CONTAINER_RANK = 5
_TELLING = (
    "gen_ai.",
    "openinference.",
    "traceloop.",
    "llm.",
    "tool",
    "error.",
    "input.",
    "output.",
    "session.",
    "relab.",
)


def join_spans(one: bytes, other: bytes) -> bytes:
    """Return two reports of one span joined."""
    if one == other:
        return one
    reports = [SpanMessage.FromString(one), SpanMessage.FromString(other)]
    joined = SpanMessage(trace_id=reports[0].trace_id, span_id=reports[0].span_id)
    joined.name = _fuller(report.name for report in reports)
    joined.trace_state = _fuller(report.trace_state for report in reports)
    joined.parent_span_id = max(report.parent_span_id for report in reports)
    joined.kind = max(report.kind for report in reports)
    joined.start_time_unix_nano = min(report.start_time_unix_nano for report in reports)
    joined.end_time_unix_nano = max(report.end_time_unix_nano for report in reports)
    joined.flags = reports[0].flags | reports[1].flags
    for field in ("dropped_attributes_count", "dropped_events_count", "dropped_links_count"):
        setattr(joined, field, max(getattr(report, field) for report in reports))
    # ERROR (2) beats OK (1) beats unset (0): who saw an error knew more.
    code = max(report.status.code for report in reports)
    message = _fuller(report.status.message for report in reports)
    if code or message:
        joined.status.code = code
        joined.status.message = message
    joined.attributes.extend(_join_attributes(pair for report in reports for pair in report.attributes))
    joined.events.extend(_union((event for report in reports for event in report.events), _event_order))
    joined.links.extend(_union((link for report in reports for link in report.links), _packed))
    return _packed(_within_limits(joined))


def _within_limits(joined: SpanMessage) -> SpanMessage:
    """Cut what several reports of a span have too much together, so that the span can still be read.

    Of more than 8 MB it then depends on the order of reports which parts are left; nothing else does.
    """
    del joined.attributes[MAX_PARTS:]
    del joined.events[MAX_PARTS:]
    excess = joined.ByteSize() - MAX_SPAN_BYTES
    for parts in (joined.attributes, joined.events, joined.links):
        if excess <= 0:
            break
        largest = sorted(range(len(parts)), key=lambda index: parts[index].ByteSize(), reverse=True)
        gone = set()
        for index in largest:
            if excess <= 0:
                break
            excess -= parts[index].ByteSize()
            gone.add(index)
        for index in sorted(gone, reverse=True):
            del parts[index]
    return joined


def _fuller(texts: Iterable[str]) -> str:
    return max(texts, key=lambda text: (len(text), text))


def _join_attributes(pairs: Iterable[KeyValue]) -> list[KeyValue]:
    best: dict[str, KeyValue] = {}
    for pair in pairs:
        known = best.get(pair.key)
        if known is None or _value_order(pair.value) > _value_order(known.value):
            best[pair.key] = pair
    # What the mapper reads comes first: should there be too many, the others are cut.
    return [best[key] for key in sorted(best, key=lambda key: (not key.startswith(_TELLING), key))]


def _value_order(value: AnyValue) -> tuple[int, float, bytes]:
    """Rank values by kind, then by size: a count that grew, a text that was completed."""
    kind = value.WhichOneof("value")
    rank = _VALUE_RANKS.get(kind, _CONTAINER_RANK)
    content = _packed(value)
    if rank in {1, 2}:
        number = float(getattr(value, str(kind)))
        # NaN compares with nothing, so it stands below every number.
        return rank, number if number == number else float("-inf"), content  # noqa: PLR0124
    return rank, float(len(content)), content


def _union(messages: Iterable[Any], order: Callable[[Any], Any]) -> list[Any]:
    by_content = {_packed(message): message for message in messages}
    return sorted(by_content.values(), key=order)


def _event_order(event: Any) -> tuple[int, bytes]:
    return event.time_unix_nano, _packed(event)


def _packed(message: Any) -> bytes:
    packed: bytes = message.SerializeToString(deterministic=True)
    return packed
