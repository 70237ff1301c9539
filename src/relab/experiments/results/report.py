"""Write `analysis/report.html`: one page about a run, which loads nothing from the network and escapes all its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jiter
from jinja2 import Template

from relab.charts import pages
from relab.charts.pages import visible
from relab.core.atomic_files import replace_file
from relab.experiments.results import report_charts as charts
from relab.experiments.results.aggregates import COST, DURATION, LATENCY, TrialData, open_trial_data
from relab.experiments.results.analysis import COMPARISONS, SUMMARY, analyze_run
from relab.experiments.results.compare import compare
from relab.experiments.results.result_tables import ANALYSIS
from relab.experiments.results.run_metadata import SUCCESS, RunFacts, read_facts
from relab.experiments.trial.span_usage import ESTIMATED_COST

REPORT: Final = "report.html"
MAX_TASKS: Final = 2_000
MAX_FAILURES: Final = 200
MAX_MESSAGE: Final = 500
MAX_CHARTED_METRICS: Final = 20

_TEMPLATES = Path(__file__).parent / "templates"
_NOTHING = "—"
_LONG_TAILS: Final = (
    "Means of figures with a long tail, as costs and latencies have, are hard to bound from few tasks: in simulations of log-normal "
    "figures these intervals hold the true mean 84 to 93 times of 100 with 5 or 10 tasks, and 92 to 96 times with 30."
)
_NO_FAMILY: Final = {"comparisons": 0}
"""The default for a `comparisons.json` written before 2026-11-23, when each interval had its own level of 95 %."""
_SHARES = [0.0, *(step / 100 for step in range(1, 100)), 1.0]


@dataclass(frozen=True)
class Chart:
    """A chart of the report, and a table with the same data.

    Attributes:
        label: one sentence that describes the chart for screen readers.
        spec: the Vega-Lite specification of the chart.
        columns: the titles of the table's columns.
        rows: the rows of the table; numbers are not formatted.
        is_long: whether the table is long, so that it is collapsed at first.
        note: a remark below the chart; None for no remark.
    """

    title: str
    label: str
    spec: Mapping[str, Any]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    is_long: bool = False
    note: str | None = None


@dataclass(frozen=True)
class ReportSection:
    """A section of the report. If the section has no chart, `empty` is a sentence that says why."""

    id: str
    title: str
    charts: Sequence[Chart] = field(default=())
    empty: str | None = None


def write_report(run_dir: Path, *, is_ending: bool = False) -> Path:
    """Write the HTML report of a run and return its path; analyse the run first if its summary is missing.

    Args:
        run_dir: the run's folder.
        is_ending: True if the run's own process calls this function at its end. The run then counts as completed.

    Raises:
        RunNotFoundError: the folder is not a run.
        RunDamagedError: the run has no tables, or one of its files cannot be read or was changed.
        OSError: the disk is full.
    """
    facts = read_facts(run_dir)
    folder = run_dir / ANALYSIS
    if not ((folder / SUMMARY).is_file() and (folder / COMPARISONS).is_file()):
        analyze_run(run_dir)
    summary = jiter.from_json((folder / SUMMARY).read_bytes())
    compared = jiter.from_json((folder / COMPARISONS).read_bytes())
    with open_trial_data(run_dir, wanted=summary["primary_metrics"]) as data:
        sections = [
            ReportSection("means", "Primary metrics by variant", list(_means(summary))),
            _deltas(summary, compared["comparisons"], compared.get("family", _NO_FAMILY)),
            _tasks(data, summary),
            _latency(data, summary),
            _cost(summary),
        ]
        failures, failing = _failures(data)
        model_use = _model_use(data)
        # The false pass rate takes long to measure, so only `lab compare` measures it.
        judged = compare(run_dir, measure_false_passes=False, is_ending=is_ending, opened=data).to_json()
    path = folder / REPORT
    page = _render(facts, summary, judged, sections, failures, failing, model_use).encode("utf-8", "replace")
    replace_file(path, page)
    return path


def page_template() -> Template:
    """Return the Jinja template of the HTML report."""
    return pages.template(_TEMPLATES, "report.html", number=_number, percent=_percent, range=_range)


def _render(
    facts: RunFacts,
    summary: Mapping[str, Any],
    judged: Mapping[str, Any],
    sections: Sequence[ReportSection],
    failures: Sequence[Sequence[Any]],
    failing: int,
    model_use: Mapping[str, int],
) -> str:
    return pages.render(
        page_template(),
        [chart.spec for section in sections for chart in section.charts],
        title=f"{facts.config.experiment.name} · {facts.run_id}",
        facts=facts,
        summary=summary,
        judged=judged,
        sections=sections,
        stopping=judged.get("stopping"),
        failures=failures,
        failing=failing,
        model_use=model_use,
        cached=_cached(summary["variants"]),
        max_failures=MAX_FAILURES,
    ).html


def _means(summary: Mapping[str, Any]) -> Iterator[Chart]:
    variants = list(summary["variants"])
    for metric in dict.fromkeys([SUCCESS, *summary["primary_metrics"]][: MAX_CHARTED_METRICS + 1]):
        rows = []
        for variant in variants:
            figures = summary["variants"][variant]
            if metric == SUCCESS:
                rows.append(_dot(variant, figures["success_rate"], figures["success_rate_interval"]))
                continue
            found = _figures(figures, metric)
            if found is not None:
                rows.append(_dot(variant, found["mean"], found["interval"]))
        if rows:
            yield _means_chart(metric, rows, variants)


def _means_chart(metric: str, rows: Sequence[Mapping[str, Any]], variants: Sequence[str]) -> Chart:
    what = "success rate" if metric == SUCCESS else metric
    return Chart(
        title=what,
        label=f"A dot with its 95 % interval for each variant: {what}. The table has the same figures.",
        spec=charts.means_chart(what, rows, variants=[*map(visible, variants)], is_rate=metric == SUCCESS),
        columns=("variant", "mean", "lower end", "upper end"),
        rows=[(row["variant"], row["mean"], row["low"], row["high"]) for row in rows],
        note=None if metric == SUCCESS else _LONG_TAILS,
    )


def _note(is_primary: bool, family: Mapping[str, Any], *, always_valid: bool) -> str:
    if always_valid:
        return "The run could stop early, so each interval and p-value is an always-valid one."
    text = "“detectable” is the difference that so many tasks would show with 80 % chance."
    if is_primary and family["comparisons"] > 1:
        return f"{text} The intervals of all {family['comparisons']} primary comparisons hold together with 95 %."
    return f"{text} Each interval is of 95 % by itself."


def _deltas(
    summary: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]], family: Mapping[str, Any]
) -> ReportSection:
    title = "Differences from the baseline"
    variants = list(summary["variants"])
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for comparison in comparisons:
        for figures in comparison["metrics"]:
            if figures["delta"] is not None:
                found.setdefault(figures["metric"], []).append((comparison["variant"], figures))
    made = []
    for metric, entries in list(found.items())[:MAX_CHARTED_METRICS]:
        rows = [_dot(variant, figures["delta"], figures["interval"]) for variant, figures in entries]
        made.append(
            Chart(
                title=metric,
                label=f"The difference of each variant from {summary['baseline_id']} in {metric}, with its interval.",
                spec=charts.forest_chart(metric, rows, variants=[*map(visible, variants)]),
                columns=(
                    "variant", "difference", "lower end", "upper end", "interval", "p", "p (Holm)", "tasks", "clusters",
                    "detectable",
                ),
                rows=[_delta_row(variant, figures) for variant, figures in entries],
                note=_note(
                    metric in summary["primary_metrics"],
                    family,
                    always_valid=any(figures.get("always_valid") for _, figures in entries),
                ),
            )
        )  # fmt: skip
    empty = None if made else "Nothing is compared: there is one variant, no figure, or the design has no comparison."
    return ReportSection("deltas", title, made, empty)


def _delta_row(variant: str, figures: Mapping[str, Any]) -> tuple[Any, ...]:
    interval = figures["interval"] or {"low": None, "high": None, "method": figures["problem"]}
    return (
        variant, figures["delta"], interval["low"], interval["high"], interval["method"],
        (figures["test"] or {}).get("p_value"), figures["p_holm"], figures["tasks"], figures["clusters"],
        figures["minimum_detectable_effect"],
    )  # fmt: skip


def _tasks(data: TrialData, summary: Mapping[str, Any]) -> ReportSection:
    title = "Success by task"
    rates: dict[int, dict[str, tuple[float, int]]] = {}
    query = (
        f"SELECT task, variant_id, mean, trials FROM task_means WHERE metric = '{SUCCESS}' ORDER BY task, variant_id"  # noqa: S608
    )
    for task, variant, mean, trials in data.rows(query):
        rates.setdefault(task, {})[variant] = (mean, trials)
    if not rates:
        return ReportSection("tasks", title, (), "No trial has a result.")
    ordered = sorted(rates, key=lambda task: (sum(mean for mean, _ in rates[task].values()) / len(rates[task]), task))
    count = min(len(ordered), MAX_TASKS)
    shown = [ordered[index * len(ordered) // count] for index in range(count)]
    names = dict(data.rows("SELECT task, task_id FROM tasks"))
    variants = list(summary["variants"])
    rows = [
        {
            "variant": visible(variant),
            "task": visible(names[task]),
            "rate": rates[task][variant][0],
            "trials": rates[task][variant][1],
            "column": place % charts.TASK_COLUMNS,
            "line": place // charts.TASK_COLUMNS,
        }
        for place, task in enumerate(shown)
        for variant in variants
        if variant in rates[task]
    ]
    note = "Tasks are in the order of their success over all variants, the hardest first."
    if count < len(ordered):
        note += f" {count:,} of {len(ordered):,} are shown, evenly spaced in that order."
    table = [[names[task], *(rates[task].get(variant, (None, 0))[0] for variant in variants)] for task in shown]
    label = "A map of how often each task was solved, a block per variant, a task at the same place in each."
    spec = charts.tasks_chart(rows, variants=[*map(visible, variants)])
    return ReportSection(
        "tasks", title, [Chart("share of repeats solved", label, spec, ("task", *variants), table, True, note)]
    )


def _latency(data: TrialData, summary: Mapping[str, Any]) -> ReportSection:
    title = "Latency"
    variants = list(summary["variants"])
    rows = []
    for variant in variants:
        values = data.quantiles(variant, LATENCY, _SHARES) or []
        rows += [
            {"variant": visible(variant), "value": value, "share": share}
            for share, value in zip(_SHARES, values, strict=False)
        ]
    if not rows:
        return ReportSection("latency", title, (), "No trial was timed.")
    reported = any(LATENCY in summary["variants"][variant]["metrics"] for variant in variants)
    what = "latency reported by the harness, ms" if reported else "duration of a trial, ms"
    name = LATENCY if reported else DURATION
    table = [
        [variant, *(summary["variants"][variant]["quantiles"].get(name, {}).get(f"p{p}") for p in (50, 90, 95, 99))]
        for variant in variants
    ]
    label = f"Which share of the trials of each variant lies at or below a {what}."
    spec = charts.distribution_chart(what, rows, variants=[*map(visible, variants)])
    columns = ("variant", "p50", "p90", "p95", "p99")
    return ReportSection("latency", title, [Chart(what, label, spec, columns, table, note="Drag and scroll to zoom.")])


def _cost(summary: Mapping[str, Any]) -> ReportSection:
    charted = [
        _cost_chart(summary["variants"], COST, "mean cost of a trial, USD"),
        _cost_chart(summary["variants"], ESTIMATED_COST, "mean estimated cost of a trial, USD"),
    ]
    found = [chart for chart in charted if chart is not None]
    empty = None if found else "No trial has a cost_usd, or spans with tokens of models whose prices are known."
    return ReportSection("cost", "Cost", found, empty)


def _cost_chart(variants: Mapping[str, Any], metric: str, title: str) -> Chart | None:
    """Return the chart of a metric that is a cost in USD; None if no variant has the metric."""
    # The summary of an earlier version has no quantiles of an estimated cost.
    found = {variant: each["metrics"][metric] for variant, each in variants.items() if metric in each["quantiles"]}
    if not found:
        return None
    rows = [_dot(variant, figures["mean"], figures["interval"]) for variant, figures in found.items()]
    table = [
        [
            variant, variants[variant][f"{metric}_total"], figures["mean"],
            *(variants[variant]["quantiles"][metric][f"p{p}"] for p in (50, 95)), figures["trials"],
        ]
        for variant, figures in found.items()
    ]  # fmt: skip
    spec = charts.means_chart(title, rows, variants=[*map(visible, variants)])
    label = f"The {title.removesuffix(', USD')} of each variant, with its 95 % interval."
    columns = ("variant", "total USD", "mean USD", "p50", "p95", "trials with a cost")
    note = _LONG_TAILS if metric == COST else f"Estimated from the tokens of spans and `lab prices list`. {_LONG_TAILS}"
    return Chart(title, label, spec, columns, table, note=note)


def _failures(data: TrialData) -> tuple[list[tuple[Any, ...]], int]:
    total = int(data.rows("SELECT count(*) FROM trials WHERE outcome <> 'success'")[0][0])
    query = (
        "SELECT trial_id, variant_id, task_id, repl_idx, outcome, error_type, left(error_message, ?) FROM trials "
        "WHERE outcome <> 'success' ORDER BY task_index, variant_id, repl_idx LIMIT ?"
    )
    return data.rows(query, [MAX_MESSAGE, MAX_FAILURES]), total


def _figures(of_variant: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    metrics = of_variant["metrics"]
    found: Mapping[str, Any] | None = metrics.get(metric) or (metrics.get(DURATION) if metric == LATENCY else None)
    return found


def _dot(variant: str, mean: float | None, interval: Mapping[str, Any] | None) -> dict[str, Any]:
    ends = interval or {"low": None, "high": None}
    return {"variant": visible(variant), "mean": mean, "low": ends["low"], "high": ends["high"]}


def _number(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1%}"


def _range(interval: Mapping[str, Any] | None) -> str:
    return _NOTHING if interval is None else f"{_percent(interval['low'])} to {_percent(interval['high'])}"


def _cached(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return what the result cache saved, over all variants.

    Keys: `trials` (trials with a result from the cache), `of` (all trials), `cost_usd` (the saved cost in USD).
    """
    # A summary that an earlier version wrote does not have this key.
    found = [figures.get("cached", {"trials": 0, "cost_usd": 0.0}) for figures in variants.values()]
    return {
        "trials": sum(each["trials"] for each in found),
        "cost_usd": sum(each["cost_usd"] for each in found),
        "of": sum(figures["total"] for figures in variants.values()),
    }


def _model_use(data: TrialData) -> dict[str, int]:
    """Return `{metric: total over all trials}` of the metrics about model gateways.

    These metrics are `model_requests`, `model_cache_hits` and `model_cache_misses`. A metric that no trial has is left
    out.
    """
    query = (
        "SELECT metric_name, sum(metric_value) FROM metrics_long WHERE metric_source = 'runner' AND "
        "metric_name IN ('model_requests', 'model_cache_hits', 'model_cache_misses') GROUP BY metric_name"
    )
    return {name: int(total) for name, total in data.rows(query)}
