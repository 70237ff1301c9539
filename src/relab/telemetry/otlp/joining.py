"""Join several reports of one span into one span, independent of their order.

An exporter may send a span before its end and again afterwards, or two processors may send it with different
attributes. Of two values of a field, the greater one is kept, by a total order of all values (for texts, the longer one
is the greater); of two start times, the earlier one. Attributes, events and links of all reports are kept. So the join
is commutative, associative and idempotent: the stored span depends only on which reports were received, not on their
order. Exception: if the joined span exceeds a limit of size or number, some of its parts are removed.
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
    """Join two reports of the same span into one span; the result does not depend on their order.

    Args:
        one: a report of the span, as protobuf bytes.
        other: another report of the span, as protobuf bytes.

    Returns:
        The joined span, as protobuf bytes. If the reports have different values of a field, it has the greater one, or
            the longer text; of the start times, it has the earlier one. It has the attributes, events and links of
            both, as far as the limits of a span allow.
    """
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
    # ERROR (2) overrides OK (1), and OK overrides unset (0): a report of an error has more information.
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
    """Cut a joined span to `MAX_PARTS` attributes and events, and to `MAX_SPAN_BYTES` in total; return the span."""
    # The order of the reports does not decide which parts remain, unless the joined span is larger than 8 MB.
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
    # Attributes that the mapper reads are sorted first, so that the other attributes are cut if there are too many.
    return [best[key] for key in sorted(best, key=lambda key: (not key.startswith(_TELLING), key))]


def _value_order(value: AnyValue) -> tuple[int, float, bytes]:
    """Return the sort key of a value: its type, then its size (a greater number, a longer text), then its bytes."""
    kind = value.WhichOneof("value")
    rank = _VALUE_RANKS.get(kind, _CONTAINER_RANK)
    content = _packed(value)
    if rank in {1, 2}:
        number = float(getattr(value, str(kind)))
        # NaN has no order, so it ranks below every number.
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
