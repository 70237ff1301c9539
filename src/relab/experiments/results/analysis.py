"""Analyse a finished run: summarise each variant, and compare it with the baseline.

Source of the method: E. Miller, "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replace_file
from relab.experiments.config.metric_directions import MetricDirection, direction_by_name
from relab.experiments.config.policies import ComparisonDesign
from relab.experiments.results.aggregates import (
    COST,
    DURATION,
    ERRORS_DROPPED,
    LATENCY,
    QUANTILES,
    TaskMeans,
    TrialData,
    open_trial_data,
)
from relab.experiments.results.differences import Delta, Sample, interval_json, joint_json, joint_of, sample_of
from relab.experiments.results.result_tables import (
    ANALYSIS,
    EVENTS_BY_VARIANT,
    document_bytes,
    table_source,
    write_variant_summary,
)
from relab.experiments.results.run_metadata import SUCCESS, RunFacts, read_facts
from relab.experiments.trial.span_usage import ESTIMATED_COST
from relab.stats.clustered_rate import clustered_rate
from relab.stats.intervals import LEVEL
from relab.stats.multiplicity import holm
from relab.stats.paired import interval_of
from relab.stats.pass_k import pass_at_k, pass_hat_k
from relab.stats.simultaneous import Joint

SUMMARY: Final = "summary.json"
COMPARISONS: Final = "comparisons.json"

_MEAN_RESAMPLES = 999
"""Number of bootstrap resamples for a mean's interval: enough digits for a table of hundreds of means."""
_EVERY_K = 20


@dataclass(frozen=True, kw_only=True)
class _Questions:
    baseline: str
    variants: Sequence[str]
    primary_metrics: Sequence[str]
    secondary_metrics: Sequence[str]
    comparison: ComparisonDesign
    replications: int
    seed: int
    directions: Mapping[str, MetricDirection] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys([*self.primary_metrics, *self.secondary_metrics]))


def analyze_run(run_dir: Path) -> dict[str, Any]:
    """Analyse a run with the metrics, variants and design of its own configuration; return the summary.

    Write `analysis/summary.json`, `analysis/comparisons.json` and the table `variant_summary`.

    Raises:
        RunNotFoundError: the folder is not a run.
        RunDamagedError: the run has no tables, or one of its files cannot be read or was changed.
        OSError: the disk is full.
    """
    facts = read_facts(run_dir)
    # Only a trainer's metrics depend on what its trials report.
    with open_trial_data(run_dir) if facts.is_trainer else nullcontext() as data:
        primary = primary_metrics(facts, data)
        directions = {name: found for name in primary if (found := direction_of(facts, data, name)) is not None}
    return analyze(
        run_dir,
        baseline=facts.baseline,
        variants=facts.variants,
        primary_metrics=primary,
        secondary_metrics=facts.config.analysis.secondary_metrics,
        comparison=facts.config.design.comparison,
        replications=facts.config.design.replications,
        seed=facts.config.design.random_seed,
        directions=facts.directions | directions,
        run_id=facts.run_id,
    )


def primary_metrics(facts: RunFacts, data: TrialData | None) -> list[str]:
    """Return the names of the primary metrics; for a trainer, the metric that it optimizes comes first.

    A trainer is a harness that trains a model. `data` are the tables of the run; they are needed only for a trainer.

    Raises:
        ValueError: `data` is None, and the harness is a trainer.
    """
    objective = _objective(facts, data)
    return list(dict.fromkeys([*([] if objective is None else [objective]), *facts.primary_metrics]))


def direction_of(facts: RunFacts, data: TrialData | None, metric: str) -> MetricDirection | None:
    """Return whether a metric should be high or low; None if this is unknown.

    These sources are tried in this order: the configuration; the reports of the trials, if a trainer (a harness that
    trains a model) optimizes the metric; the metric's name. `data`, the run's tables, is used only for a trainer.

    Raises:
        ValueError: `data` is None, the harness is a trainer, and the configuration has no direction for the metric.
    """
    declared = facts.directions.get(metric)
    if declared is None and metric == _objective(facts, data) and data is not None:
        declared = data.objective_direction(metric)
    return declared or direction_by_name(metric)


def _objective(facts: RunFacts, data: TrialData | None) -> str | None:
    """Return the metric that a trainer (a harness that trains a model) optimizes; None if unknown or not a trainer."""
    if not facts.is_trainer:
        return None
    if data is None:
        raise ValueError(f"the objective of the trainer's run {facts.run_id} is in its tables")
    return data.objective()


def analyze(
    run_dir: Path,
    *,
    baseline: str,
    variants: Sequence[str],
    primary_metrics: Sequence[str],
    secondary_metrics: Sequence[str] = (),
    comparison: ComparisonDesign = "paired",
    replications: int = 1,
    seed: int = 0,
    directions: Mapping[str, MetricDirection] | None = None,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Write `analysis/summary.json`, `analysis/comparisons.json` and the table `variant_summary`; return the summary.

    Args:
        run_dir: the run's folder; `write_tables` must have been called for it.
        baseline: the id of the baseline.
        variants: the ids of all variants, with or without the baseline, in the order of the configuration.
        primary_metrics: the main metrics. With the probability `LEVEL`, every one of their intervals contains the true
            difference (simultaneous intervals). Their p values are corrected with Holm's method.
        secondary_metrics: further metrics to compare, without correction for the number of comparisons.
        comparison: `paired` compares variants task by task, `unpaired` as independent samples; `none` compares nothing.
        replications: the planned number of repeats of a task, which is the largest k of pass@k and pass^k.
        seed: the seed of the resampling; the same run and seed give the same result.
        directions: whether each metric should be high or low, written to the summary for the reader.
        run_id: the id to write into the documents; None for the name of the folder.

    Raises:
        RunDamagedError: the run has no tables, or a table cannot be read.
        OSError: the disk is full.
    """
    questions = _Questions(
        baseline=baseline,
        variants=list(dict.fromkeys([baseline, *variants])),
        primary_metrics=list(dict.fromkeys(primary_metrics)),
        secondary_metrics=list(secondary_metrics),
        comparison=comparison,
        replications=replications,
        seed=seed,
        directions=directions or {},
    )
    name = run_id or run_dir.name
    with open_trial_data(run_dir, wanted=questions.metrics) as data:
        summary = _summary(data, run_dir, name, questions)
        comparisons = _comparisons(data, name, questions, summary["variants"])
    for file, document in ((SUMMARY, summary), (COMPARISONS, comparisons)):
        replace_file(run_dir / ANALYSIS / file, document_bytes(document))
    rows = [_row(name, variant, baseline, figures) for variant, figures in summary["variants"].items()]
    write_variant_summary(run_dir, rows)
    return summary


def _summary(data: TrialData, run_dir: Path, run_id: str, questions: _Questions) -> dict[str, Any]:
    events = _event_counts(data, run_dir)
    return {
        "schema_version": "analysis_summary_v1",
        "run_id": run_id,
        "baseline_id": questions.baseline,
        "comparison": questions.comparison,
        "tasks": data.tasks,
        "replications": questions.replications,
        "primary_metrics": list(questions.primary_metrics),
        "secondary_metrics": list(questions.secondary_metrics),
        "directions": dict(questions.directions),
        "metrics_omitted": data.omitted,
        "variants": {
            variant: _describe(data, variant, questions, events.get(variant, {})) for variant in questions.variants
        },
    }


def _describe(data: TrialData, variant: str, questions: _Questions, events: Mapping[str, int]) -> dict[str, Any]:
    outcomes = data.outcomes(variant)
    judged = data.task_means(variant, ERRORS_DROPPED)
    metrics = {name: _mean_of(data, variant, name, questions) for name in (SUCCESS, *data.metrics)}
    primary = questions.primary_metrics[0] if questions.primary_metrics else SUCCESS
    primary_figures = metrics.get(data.name_of(primary) or "", {})
    return {
        "total": sum(outcomes.values()),
        "outcomes": {name: outcomes.get(name, 0) for name in ("success", "failure", "error", "missing")},
        **_rate(data.task_means(variant, SUCCESS)),
        "errors_dropped": {"total": int(judged.trials.sum()), **_rate(judged)},
        "primary_metric_name": primary,
        "primary_metric_mean": primary_figures.get("mean"),
        "primary_metric_interval": primary_figures.get("interval"),
        "metrics": {name: figures for name, figures in metrics.items() if figures},
        "quantiles": {
            name: {f"p{round(q * 100)}": value for q, value in zip(QUANTILES, values, strict=True)}
            for name in (DURATION, LATENCY, COST, ESTIMATED_COST)
            if (values := data.quantiles(variant, name)) is not None
        },
        "cost_usd_total": data.total(variant, COST),
        "estimated_cost_usd_total": data.total(variant, ESTIMATED_COST),
        "cached": data.cached(variant),
        "pass_k": list(_pass_k(data.solved(variant), questions.replications)),
        "error_types": data.error_types(variant),
        "nonzero_exits": data.nonzero_exits(variant),
        "event_counts": dict(events),
    }


def _rate(found: TaskMeans) -> dict[str, Any]:
    """Return the success rate over all trials of a variant, and its interval, as JSON."""
    if not found.tasks.size:
        return {"success_rate": None, "success_rate_interval": None}
    # Trials of a cluster of tasks depend on each other, so each cluster counts as one observation.
    clusters, total = found.hits(), int(found.trials.sum())
    # The number of successes is whole; the sum of mean times trials differs from it only by rounding.
    rate = round(float(clusters.sums.sum())) / total
    return {"success_rate": rate, "success_rate_interval": interval_json(clustered_rate(clusters, total))}


def _mean_of(data: TrialData, variant: str, name: str, questions: _Questions) -> dict[str, Any]:
    found = data.task_means(variant, name)
    if not found.tasks.size:
        return {}
    clusters, trials = found.clusters(), int(found.trials.sum())
    mean, interval = None, None
    if found.can_be_summed:
        mean = clusters.mean
        interval = (
            clustered_rate(clusters, trials)
            if name == SUCCESS
            else interval_of(clusters, seed=questions.seed, resamples=_MEAN_RESAMPLES)
        )
    return {
        "mean": mean,
        "interval": interval_json(interval),
        "trials": trials,
        "tasks": int(found.tasks.size),
        "source": data.metrics.get(name, "primary"),
    }


def _pass_k(solved: Sequence[tuple[int, int, int]], replications: int) -> Iterator[dict[str, Any]]:
    for k in _tries(replications):
        counted = [(hits, trials, tasks) for hits, trials, tasks in solved if trials >= k]
        total = sum(tasks for _, _, tasks in counted)
        if total:
            at_least_one = sum((pass_at_k(hits, trials, k) or 0.0) * tasks for hits, trials, tasks in counted)
            all_of_them = sum((pass_hat_k(hits, trials, k) or 0.0) * tasks for hits, trials, tasks in counted)
            yield {"k": k, "pass_at_k": at_least_one / total, "pass_hat_k": all_of_them / total, "tasks": total}


def _tries(replications: int) -> list[int]:
    """Return the values of k for pass@k, up to the number of repeats: 1 to 20, then 40, 80 …, and the number itself."""
    found = list(range(1, min(replications, _EVERY_K) + 1))
    while found[-1] * 2 < replications:
        found.append(found[-1] * 2)
    return found if found[-1] == replications else [*found, replications]


def _event_counts(data: TrialData, run_dir: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    source = table_source(run_dir, EVENTS_BY_VARIANT)
    for variant, kind, count in data.rows(f"SELECT variant_id, event_type, event_count FROM {source} ORDER BY ALL"):  # noqa: S608
        found.setdefault(variant, {})[kind] = count
    return found


def _comparisons(
    data: TrialData, run_id: str, questions: _Questions, described: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    joint, comparisons = _compare_all(data, questions, described)
    return {
        "schema_version": "analysis_comparisons_v1",
        "run_id": run_id,
        "baseline_id": questions.baseline,
        "comparison": questions.comparison,
        "family": joint_json(joint),
        "comparisons": comparisons,
    }


def _compare_all(
    data: TrialData, questions: _Questions, described: Mapping[str, Mapping[str, Any]]
) -> tuple[Joint, list[dict[str, Any]]]:
    if questions.comparison == "none":
        return joint_of([]), []
    others = [variant for variant in questions.variants if variant != questions.baseline]
    family = {
        (variant, metric): _sample(data, questions, variant, metric)
        for variant in others
        for metric in questions.primary_metrics
    }
    joint = joint_of(list(family.values()))
    found: list[tuple[str, Delta, dict[str, Any]]] = []
    for variant in others:
        for metric in questions.metrics:
            sample = family.pop((variant, metric), None)
            found.append((variant, *_compare(data, questions, variant, metric, sample, joint)))
    corrected = [
        (delta.test.p_value, figures)
        for _, delta, figures in found
        if figures["is_primary"] and delta.test is not None and delta.problem is None
    ]
    for adjusted, (_, figures) in zip(holm([p for p, _ in corrected]), corrected, strict=True):
        figures["p_holm"] = adjusted
    return joint, [
        {
            "baseline": questions.baseline,
            "variant": variant,
            "baseline_success_rate": described[questions.baseline]["success_rate"],
            "variant_success_rate": described[variant]["success_rate"],
            "metrics": [figures for name, _, figures in found if name == variant],
        }
        for variant in others
    ]


def _sample(data: TrialData, questions: _Questions, variant: str, metric: str) -> Sample:
    is_paired = questions.comparison == "paired"
    return sample_of(data, metric, baseline=questions.baseline, variant=variant, is_paired=is_paired)


def _compare(
    data: TrialData, questions: _Questions, variant: str, metric: str, sample: Sample | None, joint: Joint
) -> tuple[Delta, dict[str, Any]]:
    """Compare a variant with the baseline in one metric; return the difference as a value and as JSON.

    For a primary metric, `sample` has the values. Its interval has the confidence level `joint.each`, so that all
    intervals of primary metrics together have the level `LEVEL`. For a secondary metric, `sample` is None, the values
    are read from `data`, and the interval has the level `LEVEL` by itself.
    """
    level = LEVEL if sample is None else joint.each
    delta = (sample or _sample(data, questions, variant, metric)).estimate(level=level, seed=questions.seed)
    figures = delta.to_json() | {
        "is_primary": metric in questions.primary_metrics,
        "direction": questions.directions.get(metric) or direction_by_name(metric),
        "p_holm": None,
    }
    if metric == SUCCESS:
        dropped = _sample(data, questions, variant, ERRORS_DROPPED).estimate(level=level, seed=questions.seed)
        figures["errors_dropped"] = dropped.to_json() | {"metric": SUCCESS, "source_name": SUCCESS}
    return delta, figures


def _row(run_id: str, variant: str, baseline: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    def ends(of: Mapping[str, Any], name: str) -> dict[str, Any]:
        interval = of["success_rate_interval"] or {"low": None, "high": None}
        return {name: of["success_rate"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}

    outcomes = figures["outcomes"]
    durations = figures["quantiles"].get(DURATION, {})
    return {
        "run_id": run_id,
        "variant_id": variant,
        "is_baseline": variant == baseline,
        "total": figures["total"],
        "successes": outcomes["success"],
        "failures": outcomes["failure"],
        "errors": outcomes["error"],
        "missing": outcomes["missing"],
        **ends(figures, "success_rate"),
        **ends(figures["errors_dropped"], "success_rate_errors_dropped"),
        "primary_metric_name": figures["primary_metric_name"],
        "primary_metric_mean": figures["primary_metric_mean"],
        **{f"{DURATION}_p{round(q * 100)}": durations.get(f"p{round(q * 100)}") for q in QUANTILES},
        "cost_usd_total": figures["cost_usd_total"],
        "cost_usd_mean": figures["metrics"].get(COST, {}).get("mean"),
        "cached_trials": figures["cached"]["trials"],
        "cost_usd_cached": figures["cached"]["cost_usd"],
        "metrics": {name: of["mean"] for name, of in figures["metrics"].items()},
        "pass_k": figures["pass_k"],
        "event_counts": figures["event_counts"],
    }
