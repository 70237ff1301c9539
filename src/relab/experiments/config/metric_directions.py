"""Judge by a metric's name whether high or low values are better, and warn of metrics for which this is unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_SUMMARIES: Final = frozenset(
    ("mean", "avg", "average", "median", "max", "min", "sum", "total", "p50", "p90", "p95", "p99")
)


def direction_by_name(name: str) -> MetricDirection | None:
    """Return whether a metric should be high or low, judged by the words of its name; None if no word decides.

    - In a ratio, such as `tokens_per_second` or `score/usd`, the words before `per` or `/` decide. Work per time (a
      throughput, such as steps per second) should be high. Time per work should be low.
    - If the words before `/` do not decide, they are taken as the name of a group of metrics, as in `eval/loss`. Then
      the words after `/` decide.
    - If only summaries such as `mean`, or no words, are before `per`, the word after `per` is taken as the unit. Then
      the words after the unit decide, as in `mean_per_class_accuracy` and `per_step_loss`.
    """
    return _direction_of(re.findall(r"[a-z0-9]+|/", name.lower()))


def _direction_of(words: Sequence[str]) -> MetricDirection | None:
    divider = next((word for word in ("per", "/") if word in words), None)
    if divider is None:
        return _decided(words)
    before, after = words[: words.index(divider)], words[words.index(divider) + 1 :]
    found = _decided(before, after[:1])
    if found is not None:
        return found
    if divider == "/":
        return None if len(after) == 1 and after[0] in _TIMES else _direction_of(after)
    quantity = before[len(before) - before[::-1].index("/") :] if "/" in before else before
    return _decided(after[1:]) if set(quantity) <= _SUMMARIES else None


def _decided(words: Sequence[str], unit: Sequence[str] = ()) -> MetricDirection | None:
    """Return whether a metric should be high or low, judged by words of its name; None if no word decides.

    Args:
        words: the words; for a ratio such as `tokens_per_second`, only those on one side of `per` or `/`.
        unit: the unit of the ratio, in a list of one word: `["second"]` for `tokens_per_second`. Empty if the name is
            no ratio, or if `words` are the words after `per` or `/`.
    """
    counted = set(words)
    # Words such as loss or error are decisive, even if another word of the name suggests the opposite.
    if counted & _FAULTS:
        return "minimize"
    if not _TIMES.isdisjoint(unit):
        return "maximize" if counted & (_WORK | _BETTER_HIGH) else None
    if counted & _AMOUNTS or (counted and counted <= _TIMES and not _WORK.isdisjoint(unit)):
        return "minimize"
    return "maximize" if counted & _BETTER_HIGH else None


def direction_warnings(config: ExperimentConfig) -> list[str]:
    """Return a warning for each primary metric if it is unknown whether the metric should be high or low.

    An experiment with a trainer (a harness that trains a model) gets no warnings, because a trainer itself reports
    the direction of its objective at the end of each trial.
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
