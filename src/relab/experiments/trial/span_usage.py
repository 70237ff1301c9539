"""The tokens and the cost of a trial, from the spans that its harness has exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.core.errors import RelabError
from relab.experiments.trial.otlp_exports import stored_exports
from relab.experiments.trial.rows import FinishedAttempt
from relab.experiments.trial.trial_folder import EXPORTS, TrialFolder

SPAN_METRICS: Final = ("tokens_in", "tokens_out", "cost_usd")
"""The metrics that spans report, too."""


def span_usage(
    folder: TrialFolder, attempt: FinishedAttempt, number: int, known: Mapping[str, Any]
) -> dict[str, int | float]:
    """Return tokens and cost of an attempt by the name of the metric, as its harness's spans report them.

    The result has only metrics that `known` lacks: the harness's own figures have priority. It is empty if the harness
    has exported no spans, or spans that cannot be read.

    Args:
        folder: the folder of the trial.
        attempt: the attempt.
        number: the number of the attempt, from 1.
        known: the metrics of the attempt, by name.
    """
    if all(name in known for name in SPAN_METRICS) or not (folder.root / EXPORTS).is_dir():
        return {}
    from relab.telemetry.service import usage_of_exports  # noqa: PLC0415 loads what decodes spans

    # Earlier attempts have exported to the same folder.
    from_us = attempt.times.started_us if number > 1 else 0
    try:
        found = usage_of_exports(stored_exports(folder.root / EXPORTS), from_us=from_us)
    except RelabError:
        return {}
    named = dict(zip(SPAN_METRICS, found, strict=True))
    return {name: value for name, value in named.items() if value is not None and name not in known}


def cost_of_attempt(folder: TrialFolder, attempt: FinishedAttempt, number: int) -> float:
    """Return the cost of an attempt in USD: the one that its harness reports if above 0, else that of its spans, or 0.

    `number` is the number of the attempt, from 1.
    """
    return attempt.cost_usd or span_usage(folder, attempt, number, {}).get("cost_usd", 0.0)
