"""Decide during a run whether a variant's difference from the baseline is clear, so that its trials can end early.

Tasks are compared in the order of the plan, not in the order in which trials end. The n-th comparison uses the first n
tasks; all trials of these tasks, of the variant and of the baseline, must have a result. So the decisions depend only
on the results, and not on how quickly each trial ends. A continued run makes the same decisions from its journal.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relab.experiments.config.metric_directions import direction_by_name
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import damaged
from relab.experiments.models import TrialOutcome
from relab.experiments.results.aggregates import DURATION, LATENCY, STOPPING
from relab.experiments.results.differences import interval_json, rate_bounds
from relab.experiments.results.run_metadata import SUCCESS, read_object
from relab.stats.intervals import Interval
from relab.stats.sequential import MarginFinding, finding

MAX_MISSING: Final = 0.10
"""The largest share of a variant's trials without a figure at which a look decides; above it, the other trials are a biased sample."""


@dataclass(frozen=True, slots=True)
class StoppingDecision:
    """A clear result of a variant against the baseline (better, worse or equivalent), which ends the variant's trials.

    Attributes:
        variant: the id of the variant.
        finding: `higher` (above +`margin`), `lower` (below -`margin`) or `equivalent` (between the two).
        tasks: the number of compared tasks, for which both variants have values.
        positions: the number of examined tasks: the compared tasks, and the tasks for which one of the variants has no
            value.
        estimate: the mean difference over the compared tasks, variant minus baseline.
        interval: the always-valid interval of the estimate.
        better: whether the difference is an improvement; None if it is unknown whether the metric should be high or
            low.
    """

    variant: str
    metric: str
    margin: float
    finding: MarginFinding
    tasks: int
    positions: int
    estimate: float
    interval: Interval
    better: bool | None = None

    @property
    def sentence(self) -> str:
        """One sentence for people about the decision."""
        if self.finding is MarginFinding.EQUIVALENT:
            word = "no difference that matters"
        elif self.better is None:
            word = self.finding.value
        else:
            word = "better" if self.better else "worse"
        interval = self.interval
        return (
            f"{self.variant}: {word}: {self.metric} differs by {self.estimate:+.4g} (always-valid "
            f"{100 * interval.level:.4g} % interval {interval.low:+.4g} to {interval.high:+.4g}, margin "
            f"{self.margin:g}) after {self.tasks:,} tasks"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the decision as a JSON object; `reason` is a sentence that explains the decision."""
        return {
            "variant": self.variant,
            "metric": self.metric,
            "margin": self.margin,
            "finding": self.finding.value,
            "better": self.better,
            "tasks": self.tasks,
            "positions": self.positions,
            "estimate": self.estimate,
            "interval": interval_json(self.interval),
            "reason": self.sentence,
        }


@dataclass(slots=True)
class _TaskFigures:
    """Counts over a variant's trials on one task.

    Attributes:
        trials: the number of all trials.
        figures: the number of trials with a value of the metric.
        total: the sum of the values of the metric.
        missing: the number of trials that were not run (outcome `missing`) or have no value of the metric. A trial
            that was not run has the value 0 of the metric `success`, so it counts in `missing` and in `figures`.
    """

    trials: int = 0
    figures: int = 0
    total: float = 0.0
    missing: int = 0

    def note(self, value: float | None, *, was_run: bool) -> None:
        self.trials += 1
        self.missing += value is None or not was_run
        if value is not None:
            self.figures += 1
            self.total += value


@dataclass
class _Sequence:
    """The differences between a variant and the baseline in the first tasks of the plan.

    The sequence ends before the first task that has a trial without a result. The outcome `missing` (the trial was
    not run) is a result, too.

    Attributes:
        positions: the number of tasks in the sequence.
        missing_of_baseline, missing_of_variant: the number of trials in these tasks with the outcome `missing` or without
            a value of the metric.
        values: the difference of each task for which both the variant and the baseline have values of the metric.
    """

    positions: int = 0
    missing_of_baseline: int = 0
    missing_of_variant: int = 0
    values: array[float] = field(default_factory=lambda: array("d"))


class StoppingMonitor:
    """Follows the results of a run, and decides which variants need no further trials.

    Args:
        config: an experiment with `policies.stopping`.
        order: the task indices in the order of the plan.

    Attributes:
        decisions: the decisions so far, in the order in which they were made.
    """

    def __init__(self, config: ExperimentConfig, order: Sequence[int]) -> None:
        stopping = config.design.policies.stopping
        assert stopping is not None, "the experiment has no policies.stopping"
        self._rule = stopping
        self._order = order
        self._repeats = config.design.replications
        self._baseline = config.baseline.variant_id
        self._variants = [variant.variant_id for variant in config.variants]
        # Each variant is decided by itself, so that their wrong decisions add up to at most `alpha`.
        self._alpha = stopping.alpha / len(config.variant_plan)
        self._bounds = rate_bounds(stopping.metric)
        declared = {metric.id: metric.direction for metric in config.metrics}
        self._direction = declared.get(stopping.metric) or direction_by_name(stopping.metric)
        self._tasks: dict[tuple[str, int], _TaskFigures] = defaultdict(_TaskFigures)
        self._sequences = {name: _Sequence() for name in self._variants[1:]}
        self._open = set(self._sequences)
        self.decisions: list[StoppingDecision] = []

    @property
    def is_over(self) -> bool:
        """Whether the stopping rule has decided about every variant, so that no further trial is needed."""
        return not self._open

    def needs(self, variant: int) -> bool:
        """Return whether further trials of the variant with the index `variant` are needed.

        A variant is needed until the stopping rule has decided about it. The baseline (index 0) is needed until the
        rule has decided about all other variants.
        """
        return bool(self._open) if variant == 0 else self._variants[variant] in self._open

    def note(self, row: Mapping[str, Any]) -> list[StoppingDecision]:
        """Count a finished trial; return the decisions about variants that now have a clear result.

        `row` is the trial's row in the results, as JSON.
        """
        was_run = row["outcome"] != TrialOutcome.MISSING
        key = row["variant_id"], row["task_index"]
        self._tasks[key].note(figure_of(row, self._rule.metric), was_run=was_run)
        found = []
        for name in [row["variant_id"]] if row["variant_id"] != self._baseline else sorted(self._open):
            while name in self._open and self._advance(name):
                decision = self._look(name)
                if decision is not None:
                    self._open.discard(name)
                    found.append(decision)
        self.decisions += found
        return found

    def to_json(self, *, is_complete: bool) -> dict[str, Any]:
        """Return the stopping rule, its decisions and the examined tasks as the JSON object `stopping_v1`.

        The key `positions` is `{variant: number of examined tasks}`. The key `order` has the indices of the tasks, in
        the order of the plan. A variant with n examined tasks has the first n of them.

        Args:
            is_complete: whether the run has ended.
        """
        positions = {name: found.positions for name, found in self._sequences.items()}
        return {
            "schema_version": "stopping_v1",
            "metric": self._rule.metric,
            "margin": self._rule.margin,
            "alpha": self._rule.alpha,
            "level_each": 1 - self._alpha,
            "stopped_early": is_complete and self.is_over and max(positions.values()) < len(self._order),
            "decisions": [decision.to_json() for decision in self.decisions],
            "undecided": sorted(self._open),
            "planned_tasks": len(self._order),
            "positions": positions,
            "order": list(self._order[: max(positions.values())]),
        }

    def _advance(self, name: str) -> bool:
        """Add the plan's next task to the comparison of the variant `name` with the baseline.

        Return whether the task was added. It is added only if all its trials with the variant and all its trials with
        the baseline have a result.
        """
        found = self._sequences[name]
        if found.positions >= len(self._order):
            return False
        task = self._order[found.positions]
        baseline, variant = self._tasks[self._baseline, task], self._tasks[name, task]
        if min(baseline.trials, variant.trials) < self._repeats:
            return False
        found.positions += 1
        found.missing_of_baseline += baseline.missing
        found.missing_of_variant += variant.missing
        if baseline.figures and variant.figures:
            found.values.append(variant.total / variant.figures - baseline.total / baseline.figures)
        return True

    def _look(self, name: str) -> StoppingDecision | None:
        import numpy as np  # noqa: PLC0415 takes longer to load than most commands take

        found = self._sequences[name]
        missing = max(found.missing_of_baseline, found.missing_of_variant)
        if missing > MAX_MISSING * self._repeats * found.positions or not found.values:
            return None
        # A copy: the array cannot grow while numpy has a view of it.
        values = np.array(found.values)
        decided = finding(values, margin=self._rule.margin, alpha=self._alpha, bounds=self._bounds)
        if decided is None:
            return None
        what, interval = decided
        better = None
        if what is not MarginFinding.EQUIVALENT and self._direction is not None:
            better = (what is MarginFinding.HIGHER) == (self._direction == "maximize")
        return StoppingDecision(
            name, self._rule.metric, self._rule.margin, what, len(values), found.positions, float(values.mean()),
            interval, better,
        )  # fmt: skip


def figure_of(row: Mapping[str, Any], metric: str) -> float | None:
    """Return the value of a metric for one trial; None if the trial has no finite value.

    If the harness does not report the metric `latency_ms`, return the duration of its process.

    Args:
        row: the trial's row in the results, as JSON.
        metric: the name of the metric.
    """
    if metric == SUCCESS:
        return float(row["success"])
    value: Any = row["primary_metric_value"] if row["primary_metric_name"] == metric else None
    if value is None:
        measured = row.get(metric) if metric in {DURATION, "overhead_ms"} else None
        value = row["metrics"].get(metric) if measured is None else measured
    if value is None and metric == LATENCY:
        value = row[DURATION]
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def read_stopping(run_dir: Path) -> dict[str, Any] | None:
    """Return the document `stopping_v1` of a run: its stopping rule, the rule's decisions, and the tasks it examined.

    Return None if the run has no stopping rule, or if the run's final files have not been written yet.

    Raises:
        RunDamagedError: the document cannot be read.
    """
    path = run_dir / STOPPING
    if not path.is_file():
        return None
    document = read_object(path)
    if document.get("schema_version") != "stopping_v1":
        raise damaged(path, "is not a stopping_v1 document")
    return document
