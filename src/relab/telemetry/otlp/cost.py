"""Sum the tokens and the cost that the spans of a trace report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from relab.telemetry.cost_models import MAX_COST_USD, MAX_MODELS
from relab.telemetry.models import MAX_INT64, StepStatus
from relab.telemetry.otlp.facts import NO_ITEM, SpanFacts, SpanUsage, billed_model
from relab.telemetry.otlp.lineage import Ancestors
from relab.telemetry.otlp.roles import MODEL_ROLES, Role

_COUNTS: Final = ("tokens_prompt", "tokens_cached", "tokens_cache_write", "tokens_completion", "tokens_reasoning")


def cost_of(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors], principal: SpanFacts) -> dict[str, Any] | None:
    """Return the fields of a run's `Cost`, without those that are not known; None if the spans report none.

    Each token is counted once: agents and gateways repeat the counts of the spans below or above them.

    Args:
        spans: the spans of the trace.
        around: the nearest ancestors of each span, by span id.
        principal: the span that is the run; its own counts are used only if no model reports any.
    """
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
    sums: dict[str, Any] = _sums(usages)
    if costs:
        # `fsum` is exact, so that the sum does not depend on the order of the spans.
        sums["total_cost_usd"] = min(math.fsum(costs), MAX_COST_USD)
        sums["calls_without_cost"] = (len(usages) - len(costs) + silent) or None
    sums["calls_without_tokens"] = silent or None
    sums["by_model"] = _by_model(billed)
    return {name: value for name, value in sums.items() if value is not None} or None


def _silent_calls(
    spans: Sequence[SpanFacts], around: Mapping[str, Ancestors], billed: Sequence[SpanFacts]
) -> Iterator[SpanFacts]:
    """Yield the answered calls of models without reported tokens, neither their own nor those of a call inside or around."""
    outer = {around[facts.span.span_id].step for facts in billed}
    for facts in spans:
        span_id = facts.span.span_id
        is_answered = facts.role is Role.LLM and facts.kind != NO_ITEM and facts.outcome.status is StepStatus.SUCCESS
        if is_answered and facts.usage is None and span_id not in outer and not around[span_id].is_billed:
            yield facts


def _by_model(billed: Sequence[SpanFacts]) -> list[dict[str, Any]] | None:
    """Return the tokens of each model by name; None if a call names no model."""
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
    return [
        {"model": model, **({"provider": provider} if provider is not None else {}), **_complete_sums(usages)}
        for (provider, model), usages in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0] or ""))
    ]


def _sums(usages: Sequence[SpanUsage]) -> dict[str, int]:
    """Return the sums of the counts that are reported."""
    found = {name: _sum(getattr(usage, name) for usage in usages) for name in _COUNTS}
    return {name: value for name, value in found.items() if value is not None}


def _complete_sums(usages: Sequence[SpanUsage]) -> dict[str, int]:
    """Return the sums of the counts, without prompt and completion tokens that one of the calls does not report."""
    sums = _sums(usages)
    for name in ("tokens_prompt", "tokens_completion"):
        if any(getattr(usage, name) is None for usage in usages):
            sums.pop(name, None)
    return sums


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(sum(known), MAX_INT64) if known else None
