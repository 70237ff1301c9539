"""The charts of a rollout's page as Vega-Lite specifications. Their texts are ours; only numbers come from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt

from relab.charts.specs import PALETTE, WIDTH, finished, finite, unchecked
from relab.rollouts.models import Arm, ArmWindow, Effect, Thresholds

_SHAPES: Final = ("circle", "square", "triangle-up", "diamond")
_COUNTED: Final = alt.Scale(zero=False, nice=False, padding=12)
"""A scale of numbers that begin at 1, with room for the first and the last mark."""
_MOST_MARKS: Final = 16
_LEAST_CHANGE_PCT: Final = -100.0
"""No figure above 0 can fall by more."""


@unchecked
def windows_chart(windows: Sequence[ArmWindow], *, unit: str) -> dict[str, Any]:
    """Return the chart of the judged figure of each window, in order, with a line for each arm.

    Args:
        windows: the measured windows.
        unit: what the figure is, with its unit.
    """
    rows = [
        {"window": window.index + 1, "arm": window.arm.value, "value": finite(window.metric), "round": window.round + 1}
        for window in windows
    ]
    arms = sorted({window.arm.value for window in windows}) or [Arm.A.value]
    colour = alt.Color(
        "arm:N",
        title="arm",
        scale=alt.Scale(domain=arms, range=list(PALETTE[: len(arms)])),
        legend=alt.Legend(orient="top"),
    )
    base = alt.Chart(alt.InlineData(values=rows)).transform_filter("isValid(datum.value)")
    x = alt.X("window:Q", title="window", scale=_COUNTED, axis=_counting([row["window"] for row in rows]))
    y = alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False, padding=8))
    tooltip = [
        alt.Tooltip("arm:N", title="arm"),
        alt.Tooltip("round:Q", title="round"),
        alt.Tooltip("value:Q", title=unit, format=".4~g"),
    ]
    lines = base.mark_line(strokeWidth=1.5, opacity=0.5).encode(x=x, y=y, color=colour)
    shape = alt.Shape("arm:N", title="arm", scale=alt.Scale(domain=arms, range=list(_SHAPES[: len(arms)])))
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tooltip
    )
    means = base.mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(
        y=alt.Y("mean(value):Q", title=unit), color=colour
    )
    return finished(alt.LayerChart(layer=[lines, means, points]).properties(width=WIDTH, height=280))


@unchecked
def interval_chart(effects: Sequence[tuple[int, Effect]], thresholds: Thresholds) -> dict[str, Any]:
    """Return the chart of the effect and its interval after each round, with lines at 0 and at the thresholds.

    Args:
        effects: pairs of a number of rounds and the effect after so many rounds.
        thresholds: the plan's thresholds.
    """
    rows = [
        {
            "round": rounds,
            "estimate": effect.estimate_pct,
            "low": finite(effect.low_pct),
            "high": finite(effect.high_pct),
        }
        for rounds, effect in effects
    ]
    x = alt.X("round:Q", title="rounds", scale=_COUNTED, axis=_counting([row["round"] for row in rows]))
    # The intervals of the first rounds are many times wider than the last one, which the chart is about.
    scale = alt.Scale(domain=list(_range_of(rows, thresholds)), clamp=True)
    y = alt.Y("estimate:Q", title="change of B against A, %", scale=scale)
    tooltip = [
        alt.Tooltip("round:Q", title="rounds"),
        alt.Tooltip("estimate:Q", title="estimate, %", format="+.1f"),
        alt.Tooltip("low:Q", title="lower end, %", format="+.1f"),
        alt.Tooltip("high:Q", title="upper end, %", format="+.1f"),
    ]
    base = alt.Chart(alt.InlineData(values=rows))
    bands = (
        base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        .mark_rule(strokeWidth=3, color=PALETTE[0])
        .encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", tooltip=tooltip)
    )
    points = base.mark_point(filled=True, size=70, opacity=1, color=PALETTE[0]).encode(x=x, y=y, tooltip=tooltip)
    limits: list[dict[str, Any]] = [
        {"at": 0.0, "what": "no change"},
        {"at": thresholds.pass_delta_p95_max, "what": "PASS at or below"},
        {"at": thresholds.edge_delta_p95_max, "what": "FAIL above"},
    ]
    lines = (
        alt.Chart(alt.InlineData(values=limits))
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.5)
        .encode(
            y=alt.Y("at:Q", scale=scale),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=[limit["what"] for limit in limits], range=["#808080", PALETTE[2], PALETTE[4]]),
                legend=alt.Legend(orient="top"),
            ),
        )
    )
    return finished(alt.LayerChart(layer=[lines, bands, points]).properties(width=WIDTH, height=280))


def _counting(numbers: Sequence[Any]) -> alt.Axis:
    """Return an axis with marks at whole numbers only; the library's own marks of a short axis repeat numbers."""
    first, last = (min(numbers), max(numbers)) if numbers else (1, 1)
    return alt.Axis(values=list(range(first, last + 1, 1 + (last - first) // _MOST_MARKS)), format="d")


def _range_of(rows: Sequence[dict[str, Any]], thresholds: Thresholds) -> tuple[float, float]:
    """Return the ends of the vertical axis: all estimates, and the last interval with half its length beside it."""
    values = [0.0, thresholds.pass_delta_p95_max, thresholds.edge_delta_p95_max, *(row["estimate"] for row in rows)]
    last = rows[-1] if rows else None
    if last and last["low"] is not None and last["high"] is not None:
        spare = (last["high"] - last["low"]) / 2
        values += [last["low"] - spare, last["high"] + spare]
    low, high = min(values), max(values)
    room = 0.05 * (high - low)
    return max(low - room, _LEAST_CHANGE_PCT), high + room
