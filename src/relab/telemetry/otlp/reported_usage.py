"""Sum the tokens and the cost that OTLP exports report, and estimate an unreported cost, without storing the spans."""

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
from relab.telemetry.prices.estimates import estimate_cost
from relab.telemetry.prices.models import PriceTable


class ReportedUsage(NamedTuple):
    """The tokens and the cost in USD that spans report; a field is None if no span reports it.

    `estimated_cost_usd` is the cost of the tokens at the prices of their models. It is None in these cases: a span
    reports a cost; the tokens, a model or its price are not known; or no estimate was requested.
    """

    tokens_prompt: int | None
    tokens_completion: int | None
    cost_usd: float | None
    estimated_cost_usd: float | None = None


def usage_of_exports(
    exports: Iterable[tuple[bytes, Encoding]], *, from_us: int = 0, prices: PriceTable | None = None
) -> ReportedUsage:
    """Return the tokens and the cost that the spans in OTLP requests report.

    Tokens and cost are counted as in the runs of the traces: a span that several requests contain is counted once, and
    tokens that an enclosing span repeats are counted once.

    Args:
        exports: `(body, encoding)` of each request of traces.
        from_us: spans that began before this time, in microseconds since 1970, are left out.
        prices: the prices of models, to estimate a cost that no span reports; None for no estimate.

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
    costed = [_cost_of(trace_id, spans) for trace_id, spans in traces.items() if spans]
    costs = [cost for cost, _ in costed]
    usd = [cost.total_cost_usd for cost in costs if cost.total_cost_usd is not None]
    return ReportedUsage(
        _sum(cost.tokens_prompt for cost in costs),
        _sum(cost.tokens_completion for cost in costs),
        math.fsum(usd) if usd else None,
        None if usd or prices is None else _estimated(costed, prices),
    )


def _cost_of(trace_id: str, spans: dict[str, tuple[bytes, Attributes]]) -> tuple[Cost, str | None]:
    """Compute the run of a trace, and return `(tokens and cost, model)` of the run.

    The model is None if the run names no model. `spans` is `{span id: (protobuf bytes, attributes of the process)}`.
    """
    record = project(trace_id, [facts_of(read_span(raw), resource) for raw, resource in spans.values()])
    run = from_json(record.row.data)
    return Cost.model_validate(run.get("cost") or {}), run.get("model")


def _estimated(costed: Iterable[tuple[Cost, str | None]], prices: PriceTable) -> float | None:
    """Return the sum of the estimated costs of traces, in USD; each cost is estimated from the tokens of its trace.

    Return None if no trace has tokens, or if the cost of any trace with model calls cannot be estimated. `costed` has
    two values for each trace: a `Cost` with its reported tokens, and the name of its model or None.
    """
    estimates = [estimate_cost(cost, model, prices) for cost, model in costed]
    amounts = [estimate.total_cost_usd for estimate in estimates if estimate is not None]
    known = [amount for amount in amounts if amount is not None]
    return math.fsum(known) if known and len(known) == len(amounts) else None


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
