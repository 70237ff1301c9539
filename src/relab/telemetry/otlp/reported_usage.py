"""Sum the tokens and the cost that OTLP exports report, without storing them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from pydantic_core import from_json

from relab.telemetry.cost_models import Cost
from relab.telemetry.otlp.decoding import decode_json, decode_protobuf
from relab.telemetry.otlp.facts import facts_of
from relab.telemetry.otlp.joining import join_spans
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.spans import Attributes, read_span
from relab.telemetry.otlp_models import Encoding


class ReportedUsage(NamedTuple):
    """The tokens and the cost in USD that spans report; None for what no span reports."""

    tokens_prompt: int | None
    tokens_completion: int | None
    cost_usd: float | None


def usage_of_exports(exports: Iterable[tuple[bytes, Encoding]], *, from_us: int = 0) -> ReportedUsage:
    """Return the tokens and the cost that the spans in OTLP requests report, as the runs made of them would have.

    A span that is in several requests, or whose tokens a span around it repeats, is counted once.

    Args:
        exports: `(body, encoding)` of each request of traces.
        from_us: spans that began before this time, in microseconds since 1970, are left out.

    Raises:
        MalformedBodyError: a body is not an OTLP request of traces.
        TooLargeError: a body has too many spans, or too many parts of spans.
    """
    traces: dict[str, dict[str, tuple[bytes, Attributes]]] = {}
    for body, encoding in exports:
        batch = decode_json(body) if encoding == "json" else decode_protobuf(body)
        resources = {key: from_json(origin.data)["resource"] for key, origin in batch.origins.items()}
        for trace_id, spans in batch.traces.items():
            known = traces.setdefault(trace_id, {})
            for span in spans:
                if span.start_us >= from_us:
                    raw, resource = known.get(span.span_id, (span.raw, resources[span.origin]))
                    known[span.span_id] = join_spans(raw, span.raw), resource
    costs = [_cost_of(trace_id, spans) for trace_id, spans in traces.items() if spans]
    usd = [cost.total_cost_usd for cost in costs if cost.total_cost_usd is not None]
    return ReportedUsage(
        _sum(cost.tokens_prompt for cost in costs),
        _sum(cost.tokens_completion for cost in costs),
        math.fsum(usd) if usd else None,
    )


def _cost_of(trace_id: str, spans: dict[str, tuple[bytes, Attributes]]) -> Cost:
    record = project(trace_id, [facts_of(read_span(raw), resource) for raw, resource in spans.values()])
    return Cost.model_validate(from_json(record.row.data).get("cost") or {})


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
