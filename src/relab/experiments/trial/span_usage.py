"""Compute the tokens and the cost of a trial from the spans that its harness has exported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from relab.core.errors import RelabError
from relab.core.json import is_number
from relab.experiments.trial.otlp_exports import stored_exports
from relab.experiments.trial.rows import FinishedAttempt
from relab.experiments.trial.trial_folder import EXPORTS, TrialFolder

if TYPE_CHECKING:
    from relab.telemetry.prices.models import PriceTable

SPAN_METRICS: Final = ("tokens_in", "tokens_out", "cost_usd")
"""The metrics that spans report, too."""
ESTIMATED_COST: Final = "estimated_cost_usd"
"""The metric with the estimated cost of a trial, in USD; only trials whose cost nothing reports have it."""


def span_usage(
    folder: TrialFolder, attempt: FinishedAttempt, number: int, known: Mapping[str, Any], prices: PriceTable | None
) -> dict[str, int | float]:
    """Return `{metric: value}` with the tokens and the cost of an attempt, from the spans that its harness exported.

    If neither harness nor spans report a cost, the result has `estimated_cost_usd`, computed from the spans' tokens.
    Metrics in `known` are left out, because the harness's own figures have priority. The result is empty if the harness
    exported no spans, or if the spans cannot be read.

    Args:
        folder: the folder of the trial.
        attempt: the attempt.
        number: the number of the attempt, from 1.
        known: the metrics of the attempt, by name.
        prices: the prices of models; None for no estimate.
    """
    if all(name in known for name in SPAN_METRICS) or not (folder.root / EXPORTS).is_dir():
        return {}
    from relab.telemetry.service import usage_of_exports  # noqa: PLC0415 loads what decodes spans

    # Earlier attempts have exported to the same folder.
    from_us = attempt.times.started_us if number > 1 else 0
    try:
        found = usage_of_exports(stored_exports(folder.root / EXPORTS), from_us=from_us, prices=prices)
    except RelabError:
        return {}
    named = dict(zip((*SPAN_METRICS, ESTIMATED_COST), found, strict=True))
    if SPAN_METRICS[-1] in known:
        named[ESTIMATED_COST] = None
    return {name: value for name, value in named.items() if value is not None and name not in known}


def from_spans(metrics: Mapping[str, Any]) -> list[str]:
    """Return the names of those `metrics` that `span_usage` can compute: tokens and cost."""
    return [name for name in (*SPAN_METRICS, ESTIMATED_COST) if name in metrics]


def cost_of(metrics: Mapping[str, Any]) -> float:
    """Return the cost of an attempt in USD from its metrics: the reported one, else the estimated one, or 0."""
    value = metrics.get(SPAN_METRICS[-1], metrics.get(ESTIMATED_COST))
    return float(value) if is_number(value) and math.isfinite(value) and value > 0 else 0.0
