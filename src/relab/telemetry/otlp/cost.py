"""Sum the tokens and the cost that the spans of a trace report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relab.telemetry.cost_models import MAX_COST_USD, MAX_MODELS
from relab.telemetry.models import MAX_INT64, StepStatus
from relab.telemetry.otlp.facts import NO_ITEM, SpanFacts, billed_model
from relab.telemetry.otlp.lineage import Ancestors
from relab.telemetry.otlp.roles import MODEL_ROLES, Role
from relab.telemetry.otlp.usage import SpanUsage


def cost_of(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors], principal: SpanFacts) -> dict[str, Any] | None:
    """Return the known fields of a run's `Cost`.

    Return None if neither a model call nor the span `principal` reports a cost or tokens.

    Args:
        spans: the spans of the trace.
        around: `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
        principal: the main span of the run. Its tokens and its cost are used only if no model call reports any.
    """
    # Spans of agents and gateways may repeat the tokens of model calls: each token is counted once.
    billed = [
        facts
        for facts in spans
        if facts.usage is not None and facts.role in MODEL_ROLES and not around[facts.span.span_id].is_billed
    ]
    silent = sum(1 for _ in _silent_calls(spans, around, billed)) if billed else 0
    if not billed:
        if principal.usage is None:
            return None
        billed = [principal]
    usages = [facts.usage for facts in billed if facts.usage is not None]
    costs = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
    counts = _sums(usages)
    sums: dict[str, Any] = {name: value for name, (value, _) in counts.items()}
    if costs:
        # `fsum` is exact, so that the sum does not depend on the order of the spans.
        sums["total_cost_usd"] = min(math.fsum(costs), MAX_COST_USD)
        sums["calls_without_cost"] = (len(usages) - len(costs) + silent) or None
    sums["calls_without_tokens"] = silent or None
    sums["by_model"] = _by_model(billed, counts)
    return {name: value for name, value in sums.items() if value is not None} or None


def _silent_calls(
    spans: Sequence[SpanFacts], around: Mapping[str, Ancestors], billed: Sequence[SpanFacts]
) -> Iterator[SpanFacts]:
    """Yield the successful model calls without reported tokens.

    A call is left out if a model's span around it reports tokens, or if it is the nearest step around a span in
    `billed`: its tokens are then counted there.

    Args:
        spans: the spans of the trace.
        around: `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
        billed: the spans whose tokens are counted.
    """
    outer = {around[facts.span.span_id].step for facts in billed}
    for facts in spans:
        if facts.usage is not None or facts.role is not Role.LLM or facts.kind == NO_ITEM:
            continue
        span_id = facts.span.span_id
        is_answered = facts.outcome.status is StepStatus.SUCCESS
        if is_answered and span_id not in outer and not around[span_id].is_billed:
            yield facts


_Counts = dict[str, tuple[int, bool]]
"""`{name of a count: (sum over all calls, whether each call reports it)}`."""


def _by_model(billed: Sequence[SpanFacts], counts: _Counts) -> list[dict[str, Any]] | None:
    """Return one dictionary of token counts for each model of each provider, sorted by model and provider.

    Return None if a span in `billed` names no model, or if there are more than `MAX_MODELS` models.

    Args:
        billed: the spans whose tokens are counted.
        counts: the sums of the token counts over all spans in `billed`, to reuse if there is only one model.
    """
    groups: dict[tuple[str | None, str], list[SpanUsage]] = {}
    for facts in billed:
        provider, model = billed_model(facts.span.attributes)
        if model is None or facts.usage is None:
            return None
        usage = facts.usage
        if facts.role is Role.EMBEDDING and usage.tokens_completion is None:
            usage = usage._replace(tokens_completion=0)
        groups.setdefault((provider, model), []).append(usage)
    if len(groups) > MAX_MODELS:
        return None
    is_one = len(groups) == 1 and billed[0].role is not Role.EMBEDDING
    return [
        {
            "model": model,
            **({"provider": provider} if provider is not None else {}),
            **{
                # A prompt or completion that one of the calls does not report cannot be priced.
                name: value
                for name, (value, is_complete) in (counts if is_one else _sums(usages)).items()
                if is_complete or name not in ("tokens_prompt", "tokens_completion")
            },
        }
        for (provider, model), usages in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0] or ""))
    ]


def _sums(usages: Sequence[SpanUsage]) -> _Counts:
    found = {}
    for name, column in zip(SpanUsage._fields, zip(*usages, strict=True), strict=True):
        known = [value for value in column if value is not None]
        if known and name != "cost_usd":
            found[name] = (min(sum(known), MAX_INT64), len(known) == len(column))
    return found
