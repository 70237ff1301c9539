"""The page of a rollout: one HTML file with verdict, charts and tables. It needs no network and escapes all texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from relab.charts import pages
from relab.core.clock import format_time
from relab.rollouts.judging import effects_by_round
from relab.rollouts.models import Effect
from relab.rollouts.record import RolloutRecord
from relab.rollouts.reports.experiment import evidence_rows
from relab.rollouts.reports.page_charts import interval_chart, windows_chart
from relab.rollouts.reports.wording import (
    UNKNOWN,
    decision,
    flags_sentence,
    interval,
    is_applied,
    is_decided,
    next_steps,
    percent,
    reason,
)

_TEMPLATES: Final = Path(__file__).parent / "templates"
_SHOWN_FIELDS: Final = {
    "experiment", "thresholds", "policy", "time_budget", "per_combo_cap", "early_stop", "canary",
}  # fmt: skip
_WINDOW_COLUMNS: Final = (
    "window", "round", "arm", "start", "seconds", "offered", "completed", "bad", "dropped", "P95, ms", "judged figure",
    "problems",
)  # fmt: skip


def render_page(record: RolloutRecord, libraries: str | None = None) -> str:
    """Return the page of a rollout as HTML.

    Args:
        record: the rollout.
        libraries: the chart libraries as one script; None for the libraries in `relab.charts`.
    """
    effects = _effects(record)
    specs = []
    if record.windows:
        specs.append(windows_chart(record.windows, unit=_unit(record)))
    if effects:
        specs.append(interval_chart(effects, record.plan.thresholds))
    return pages.render(
        pages.template(_TEMPLATES, "rollout.html", number=_number),
        specs,
        libraries=libraries,
        record=record,
        found=record.judgement,
        decision=decision(record),
        reason=reason(record),
        applied=is_applied(record),
        decided=is_decided(record),
        flags_sentence=flags_sentence(record),
        next_steps=next_steps(record),
        started=format_time(record.started_at or record.created_at),
        figures=_figures(record),
        interval_levels=_interval_levels(effects),
        effects=[(rounds, *_effect_cells(effect)) for rounds, effect in effects],
        window_columns=_WINDOW_COLUMNS,
        windows=_window_rows(record),
        routes=_routes(record),
        factors=_factors(record),
        settings=_settings(record),
    ).html


def _number(value: float) -> str:
    return f"{value:.6g}"


def _unit(record: RolloutRecord) -> str:
    return "P95 latency, ms" if record.plan.subject.metric is None else "judged metric"


def _effects(record: RolloutRecord) -> list[tuple[int, Effect]]:
    """Return pairs (number of rounds, effect after these rounds); the last pair has the effect of the verdict.

    A round has one measurement of each arm (set of flags).
    """
    found = effects_by_round(record.windows, record.plan)
    last = None if record.judgement is None else record.judgement.delta_p95
    if found and last is not None:
        found[-1] = (found[-1][0], last)
    return found


def _interval_levels(effects: Sequence[tuple[int, Effect]]) -> str:
    """Return one sentence with the levels of the intervals, such as 99 %; "" without an interval.

    If an early look ended the measurement, the last interval has a level of its own. Otherwise, all levels are equal.
    """
    levels = [f"{100 * effect.level:.4g} %" for _, effect in effects if effect.level is not None]
    if not levels:
        return ""
    if levels[-1] == levels[0]:
        return f"All intervals have the level {levels[0]}."
    return f"The last interval has the level {levels[-1]}, because an early look ended the measurement; the others have {levels[0]}."


def _effect_cells(effect: Effect) -> tuple[str, str, str]:
    return percent(effect.estimate_pct), percent(effect.low_pct), percent(effect.high_pct)


def _figures(record: RolloutRecord) -> list[tuple[str, str, str]]:
    """Return the rows of the table with the figures of the verdict, each as `(name, value, meaning)`."""
    found = record.judgement
    if record.experiment is not None:
        return evidence_rows(record.experiment)
    if found is None:
        return []
    effect = found.delta_p95
    rate = found.false_pass_rate
    needed = UNKNOWN if found.rounds_needed is None else str(found.rounds_needed)
    return [
        (f"Δ{record.plan.judged_figure}", percent(effect.estimate_pct) if effect else UNKNOWN, interval(effect) if effect else ""),
        ("Error rate of B", percent(found.error_rate_pct, digits=2, signed=False),
         f"at most {percent(found.error_rate_upper_pct, digits=2, signed=False)} (95 % interval)"),
        ("ΔQPS", percent(found.delta_qps_pct), "completed requests per second"),
        ("Imbalance", percent(found.ab_imbalance_pct, signed=False), "difference of the arms' numbers of requests"),
        ("Deviation of rounds", percent(found.window_sd_pct, signed=False), "standard deviation of the log ratios"),
        ("Minimum detectable effect", percent(found.minimum_detectable_effect_pct), "found with a power of 80 %"),
        ("Rounds needed", needed, f"to find {percent(record.plan.detected_pct)} with a power of 80 %"),
        ("False-PASS rate", percent(None if rate is None else 100 * rate, digits=2, signed=False),
         "of this procedure for identical arms, simulated at this deviation"),
    ]  # fmt: skip


def _window_rows(record: RolloutRecord) -> list[tuple[Any, ...]]:
    return [
        (
            window.index + 1, window.round + 1, window.arm.value, format_time(window.started_at), window.duration_s,
            window.offered, window.completed, window.bad, window.dropped, window.p95_ms, window.metric,
            " ".join(window.problems),
        )
        for window in record.windows
    ]  # fmt: skip


def _routes(record: RolloutRecord) -> list[tuple[str, ...]]:
    routes = () if record.judgement is None else record.judgement.routes
    return [(route.name, *_effect_cells(route)) for route in routes]


def _factors(record: RolloutRecord) -> list[tuple[str, ...]]:
    factors = None if record.judgement is None else record.judgement.factors
    if factors is None:
        return []
    named = (("flow control", factors.flow), ("routing", factors.routing), ("interaction", factors.interaction))
    return [(name, *_effect_cells(effect)) for name, effect in named]


def _settings(record: RolloutRecord) -> list[tuple[str, str]]:
    """Return (field, value) for each field of the plan about measurement and judgement."""
    plan = record.plan.model_dump(mode="json", include=_SHOWN_FIELDS)
    sections = {name: value if isinstance(value, dict) else {"": value} for name, value in plan.items()}
    return [
        (f"{section}.{field}".rstrip("."), "none" if value is None else str(value))
        for section, fields in sections.items()
        for field, value in fields.items()
    ]
