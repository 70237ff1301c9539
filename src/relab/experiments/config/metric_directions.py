"""Whether high or low values of a metric are better, judged by its name, and the metrics whose direction is unknown."""

from __future__ import annotations

import re
from typing import Final, Literal

from relab.experiments.config.models import ExperimentConfig

MetricDirection = Literal["maximize", "minimize"]

_BETTER_HIGH: Final = frozenset(
    ("success", "accuracy", "acc", "score", "reward", "precision", "recall", "f1", "solved", "throughput", "rps", "qps")
)
_FAULTS: Final = frozenset(("cost", "usd", "price", "loss", "error", "errors", "retries", "attempts"))
_AMOUNTS: Final = frozenset(
    ("latency", "duration", "overhead", "ms", "seconds", "time", "tokens", "steps", "turns", "turn", "step")
)
_WORK: Final = frozenset(
    ("token", "tokens", "step", "steps", "turn", "turns", "request", "requests", "samples", "tasks")
)
_TIMES: Final = frozenset(("s", "sec", "second", "seconds", "min", "minute", "minutes", "h", "hour", "hours"))


def direction_by_name(name: str) -> MetricDirection | None:
    """Return whether a metric should be high or low, judged by the words of its name; None if no word decides.

    Of a ratio, such as `tokens_per_second` or `score/usd`, the words before `per` or `/` decide. Work per time, such as
    tokens, steps or requests per second, is a throughput, which should be high.
    """
    words = re.findall(r"[a-z0-9]+", name.lower().replace("/", " per "))
    before = words[: words.index("per")] if "per" in words else words
    after = words[len(before) + 1 :]
    counted = set(before)
    # Words such as loss or error are decisive, even if another word of the name suggests the opposite.
    if counted & _FAULTS:
        return "minimize"
    if after and after[0] in _TIMES:
        return "maximize" if counted & (_WORK | _BETTER_HIGH) else None
    if counted & _AMOUNTS:
        return "minimize"
    return "maximize" if counted & _BETTER_HIGH else None


def direction_warnings(config: ExperimentConfig) -> list[str]:
    """Return a sentence for the user about each primary metric of which it is unknown whether it should be high or low.

    A trainer (a harness that trains a model) reports the direction of its objective only at the end of a trial, so
    there are no sentences about a trainer's metrics.
    """
    if config.experiment.workload_type == "trainer":
        return []
    declared = {metric.id for metric in config.metrics if metric.direction is not None}
    marked = [metric.id for metric in config.metrics if metric.primary]
    return [
        f"it is unknown whether the primary metric {name!r} should be high or low, so `lab compare` gives a verdict on "
        f"it only with a gate (add to the section metrics: {{id: {name}, source: runner, direction: minimize}}, or "
        "maximize)"
        for name in dict.fromkeys([*config.analysis.primary_metrics, *marked])
        if name not in declared and direction_by_name(name) is None
    ]
