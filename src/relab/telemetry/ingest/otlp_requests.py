"""OTLP requests before they are stored: decode their bodies, group their content by trace, and make their receipts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from relab.telemetry.ingest.posted import PostedLogs, PostedRequest, PostedSpans
from relab.telemetry.ingest.store import MAX_SPANS_PER_TRACE, BatchOutcome, TraceSpans
from relab.telemetry.otlp.decoding import (
    Origin,
    ReceivedSpan,
    Rejections,
    decode_json,
    decode_protobuf,
)
from relab.telemetry.otlp.logs import ReceivedLog, decode_logs
from relab.telemetry.otlp.metrics import count_data_points
from relab.telemetry.otlp_models import Encoding, OtlpReceipt
from relab.telemetry.received.log_store import MAX_LOGS_PER_TRACE, key_of

IGNORED_LOGS: Final = "{count:,} log records have no trace id: they are counted and not stored, because relab shows the logs of traces only"
IGNORED_METRICS: Final = "relab stores no metrics: {count:,} data points are counted and not stored"


def read_request(signal: Literal["traces", "logs"], body: bytes, encoding: Encoding) -> PostedRequest:
    """Decode the body of an OTLP request of spans (`traces`) or log records (`logs`), in protobuf or JSON (`encoding`).

    Raises:
        MalformedBodyError: the body is not a request of this signal in this encoding.
        TooLargeError: the request has too many items, or too many parts of items.
    """
    if signal == "logs":
        return PostedLogs(decode_logs(body, encoding))
    return PostedSpans(decode_json(body) if encoding == "json" else decode_protobuf(body))


def count_metrics(body: bytes, encoding: Encoding) -> OtlpReceipt:
    """Count the data points in the body of an OTLP request of metrics, in protobuf or JSON (`encoding`).

    Raises:
        MalformedBodyError: the body is not a request of metrics in this encoding.
        TooLargeError: the request has too many items, or too many parts of items.
    """
    found = count_data_points(body, encoding)
    ignored = IGNORED_METRICS.format(count=found.points) if found.points else ""
    return OtlpReceipt(
        accepted=0,
        rejected=found.rejections.count,
        ignored=found.points,
        message=_joined(found.rejections.message(), ignored),
    )


def with_batch(posted: PostedRequest, batch: Any) -> PostedRequest:
    """Return a copy of the request `posted` whose content is `batch`.

    The signal (spans or log records) stays the same.
    """
    return PostedSpans(batch) if isinstance(posted, PostedSpans) else PostedLogs(batch)


def group_by_trace(requests: Sequence[PostedRequest]) -> dict[str, TraceSpans]:
    """Group the spans and log records of several requests by trace; return `{trace id: spans and log records}`.

    Several reports of the same span are joined into one.
    """
    origins: dict[int, Origin] = {}
    for posted in requests:
        origins |= posted.batch.origins
    traces: dict[str, TraceSpans] = {}
    for posted in requests:
        for trace_id in posted.batch.traces:
            if trace_id not in traces:
                traces[trace_id] = TraceSpans({}, origins)
        if isinstance(posted, PostedSpans):
            for trace_id, spans in posted.batch.traces.items():
                trace = traces[trace_id]
                for received in spans:
                    trace.add(received)
        else:
            for trace_id, logs in posted.batch.traces.items():
                traces[trace_id].logs.extend(logs)
    return traces


def receipt_of(posted: PostedRequest, outcome: BatchOutcome) -> OtlpReceipt:
    """Return the receipt of the request `posted`; `outcome` is the result of storing the content of this request."""
    rejections = Rejections(posted.batch.rejections.count, list(posted.batch.rejections.reasons))
    accepted = posted.batch.count
    if isinstance(posted, PostedSpans):
        for trace_id, spans in posted.batch.traces.items():
            accepted -= _reject_spans(trace_id, spans, outcome, rejections)
    else:
        for trace_id, logs in posted.batch.traces.items():
            accepted -= _reject_logs(trace_id, logs, outcome, rejections)
    ignored = posted.batch.ignored
    return OtlpReceipt(
        accepted=accepted,
        rejected=rejections.count,
        ignored=ignored,
        message=_joined(rejections.message(), IGNORED_LOGS.format(count=ignored) if ignored else ""),
    )


def _reject_spans(trace_id: str, spans: Sequence[ReceivedSpan], outcome: BatchOutcome, rejections: Rejections) -> int:
    """Add to `rejections` those spans of a trace that the store rejected; return their number.

    `outcome` states which spans the store rejected.
    """
    if trace_id in outcome.conflicts:
        rejections.add(f"{trace_id} is the id of a run that was posted as JSON", len(spans))
        return len(spans)
    overfull = outcome.overfull.get(trace_id)
    if not overfull:
        return 0
    count = sum(received.span_id in overfull for received in spans)
    if count:
        rejections.add(f"trace {trace_id} has its {MAX_SPANS_PER_TRACE:,} spans", count)
    return count


def _reject_logs(trace_id: str, logs: Sequence[ReceivedLog], outcome: BatchOutcome, rejections: Rejections) -> int:
    """Add to `rejections` those log records of a trace that the store rejected; return their number.

    `outcome` states which log records the store rejected.
    """
    overfull = outcome.overfull_logs.get(trace_id)
    count = sum(key_of(trace_id, log) in overfull for log in logs) if overfull else 0
    if count:
        rejections.add(f"trace {trace_id} has its {MAX_LOGS_PER_TRACE:,} log records", count)
    return count


def _joined(*messages: str) -> str:
    return "; ".join(message for message in messages if message)
