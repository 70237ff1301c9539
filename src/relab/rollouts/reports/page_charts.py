"""Make the charts of a rollout's page as Vega-Lite specifications. All texts in them are constants of relab.

The specifications are plain JSON values. Altair is not used, because it takes longer to load than most rollout commands
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relab.charts.specs import PALETTE, WIDTH, finite, nominal, quantitative
from relab.rollouts.models import Arm, ArmWindow, Effect, Thresholds

Spec = dict[str, Any]

_HEIGHT: Final = 280
_SHAPES: Final = ("circle", "square", "triangle-up", "diamond")
_COUNTED: Final = {"zero": False, "nice": False, "padding": 12}
"""A scale of numbers that begin at 1, with room for the first and the last mark."""
_MOST_MARKS: Final = 16
_LEAST_CHANGE_PCT: Final = -100.0
"""No figure above 0 can fall by more."""


def windows_chart(windows: Sequence[ArmWindow], *, unit: str) -> Spec:
    """Return the chart of the judged figure in each window (measurement), with a line for each arm (set of flags).

    The judged figure is the P95 latency, or the metric that the plan names.

    Args:
        windows: the measured windows.
        unit: the name of the judged figure with its unit, for the axis.
    """
    rows = [
        {"window": window.index + 1, "arm": window.arm.value, "value": finite(window.metric), "round": window.round + 1}
        for window in windows
    ]
    arms = sorted({window.arm.value for window in windows}) or [Arm.A.value]
    colour = {
        **nominal("arm", title="arm"),
        "scale": {"domain": arms, "range": list(PALETTE[: len(arms)])},
        "legend": {"orient": "top"},
    }
    shape = {**nominal("arm", title="arm"), "scale": {"domain": arms, "range": list(_SHAPES[: len(arms)])}}
    x = quantitative("window", title="window", scale=_COUNTED, axis=_counting([row["window"] for row in rows]))
    y = quantitative("value", title=unit, scale={"zero": False, "padding": 8})
    tooltip = [
        nominal("arm", title="arm"),
        quantitative("round", title="round"),
        quantitative("value", title=unit, format=".4~g"),
    ]
    valid = {"transform": [{"filter": "isValid(datum.value)"}]}
    lines = {
        **valid,
        "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.5},
        "encoding": {"x": x, "y": y, "color": colour},
    }
    means = {
        **valid,
        "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5},
        "encoding": {"y": quantitative("value", title=unit, aggregate="mean"), "color": colour},
    }
    points = {
        **valid,
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": tooltip},
    }
    return {"data": {"values": rows}, "layer": [lines, means, points], "width": WIDTH, "height": _HEIGHT}


def interval_chart(effects: Sequence[tuple[int, Effect]], thresholds: Thresholds) -> Spec:
    """Return the chart of the effect and its interval after each round, with lines at 0 and at the thresholds.

    The effect is the change from the old to the new flags.

    Args:
        effects: pairs (number of rounds, effect after these rounds); a round has one measurement of each arm (set of
            flags).
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
    x = quantitative("round", title="rounds", scale=_COUNTED, axis=_counting([row["round"] for row in rows]))
    # The intervals of the first rounds are many times wider than the last one, which the chart is about.
    scale = {"domain": list(_range_of(rows, thresholds)), "clamp": True}
    tooltip = [
        quantitative("round", title="rounds"),
        quantitative("estimate", title="estimate, %", format="+.1f"),
        quantitative("low", title="lower end, %", format="+.1f"),
        quantitative("high", title="upper end, %", format="+.1f"),
    ]
    bands = {
        "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
        "mark": {"type": "rule", "strokeWidth": 3, "color": PALETTE[0]},
        "encoding": {
            "x": x,
            "y": quantitative("low", scale=scale),
            "y2": {"field": "high"},
            "tooltip": tooltip,
        },
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": PALETTE[0]},
        "encoding": {
            "x": x,
            "y": quantitative("estimate", title="change of B against A, %", scale=scale),
            "tooltip": tooltip,
        },
    }
    return {
        "data": {"values": rows},
        "layer": [_limit_lines(thresholds, scale), bands, points],
        "width": WIDTH,
        "height": _HEIGHT,
    }


def _limit_lines(thresholds: Thresholds, scale: Spec) -> Spec:
    """Return the layer of the chart with horizontal lines at 0 and at the thresholds.

    `scale` is the scale of the vertical axis.
    """
    limits: list[dict[str, Any]] = [
        {"at": 0.0, "what": "no change"},
        {"at": thresholds.pass_delta_p95_max, "what": "PASS at or below"},
        {"at": thresholds.edge_delta_p95_max, "what": "FAIL above"},
    ]
    colours = {"domain": [limit["what"] for limit in limits], "range": ["#808080", PALETTE[2], PALETTE[4]]}
    return {
        "data": {"values": limits},
        "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5},
        "encoding": {
            "y": quantitative("at", scale=scale),
            "color": nominal("what", title=None, scale=colours, legend={"orient": "top"}),
        },
    }


def _counting(numbers: Sequence[Any]) -> Spec:
    """Return a chart axis from the least to the greatest of the whole numbers `numbers`, with at most 16 marks."""
    first, last = (min(numbers), max(numbers)) if numbers else (1, 1)
    return {"values": list(range(first, last + 1, 1 + (last - first) // _MOST_MARKS)), "format": "d"}


def _range_of(rows: Sequence[dict[str, Any]], thresholds: Thresholds) -> tuple[float, float]:
    """Return (lower end, upper end) of the vertical axis.

    The axis shows 0, the thresholds, all estimates, and the last interval with some space around it. Earlier intervals
    may be cut off, because they can be many times wider.
    """
    values = [0.0, thresholds.pass_delta_p95_max, thresholds.edge_delta_p95_max, *(row["estimate"] for row in rows)]
    last = rows[-1] if rows else None
    if last and last["low"] is not None and last["high"] is not None:
        spare = (last["high"] - last["low"]) / 2
        values += [last["low"] - spare, last["high"] + spare]
    low, high = min(values), max(values)
    room = 0.05 * (high - low)
    return max(low - room, _LEAST_CHANGE_PCT), high + room
