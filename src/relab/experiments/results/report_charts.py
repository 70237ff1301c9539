"""Make the charts of a run's report: convert values to Vega-Lite specifications.

The specifications are written here as JSON. They are not built with Altair, because loading Altair takes longer than a
small run. A test checks them against Altair's schema of Vega-Lite. Text from outside (ids, names of metrics) appears
only as values in the data. It must not appear in titles or sort lists: Vega-Lite builds expressions from these, and
does not escape the text correctly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from relab.charts.specs import PALETTE, WIDTH, finite, nominal, plain, quantitative

TASK_COLUMNS: Final = 50
_ROW_HEIGHT = 34
_CELL = 11
_HAS_INTERVAL = "isValid(datum.low) && isValid(datum.high)"

Row = Mapping[str, Any]
Spec = dict[str, Any]

_IN_ORDER: Final = {"field": "place", "op": "min"}


def means_chart(title: str, rows: Sequence[Row], *, variants: Sequence[str], is_rate: bool = False) -> Spec:
    """Return the Vega-Lite specification of a chart with a dot and its interval for each variant.

    Args:
        title: the name of the metric.
        rows: `{variant, mean, low, high}`; `low` and `high` may be None.
        variants: the ids of all variants, in the order of the chart.
        is_rate: whether values are shares, shown from 0 to 100 %.
    """
    scale = {"domain": [0, 1]} if is_rate else {"zero": False}
    axis = {"format": "%"} if is_rate else {}
    dots = _dots(rows, {"title": plain(title), "scale": scale, "axis": axis}, variants)
    return {**dots, **_sizes(len(variants))}


def forest_chart(metric: str, rows: Sequence[Row], *, variants: Sequence[str]) -> Spec:
    """Return the Vega-Lite specification of a forest plot: each variant's difference from the baseline in one metric.

    The chart has a dot and its interval for each variant, and a line at 0.

    Args:
        metric: the name of the metric.
        rows: `{variant, mean, low, high}`, where `mean` is the difference; `low` and `high` may be None.
        variants: the ids of all variants; their order gives each variant the same colour in every chart.
    """
    x: Spec = {"title": plain(f"{metric}: variant less baseline"), "scale": {"zero": True}}
    zero = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "encoding": {"x": quantitative("zero", **x)},
    }
    return {"layer": [zero, _dots(rows, x, variants)], **_sizes(len(rows))}


def tasks_chart(rows: Sequence[Row], *, variants: Sequence[str]) -> Spec:
    """Return the Vega-Lite specification of a heat map of each task's success rate.

    The chart has one block of cells per variant. A task has the same place in every block.

    Args:
        rows: `{variant, task, rate, trials, column, line}`, where `column` and `line` (from 0) are the task's place.
        variants: the ids of all variants, in the order of the chart.
    """
    lines = 1 + max((row["line"] for row in rows), default=0)
    cells = {
        "width": TASK_COLUMNS * _CELL,
        "height": lines * _CELL,
        "mark": {"type": "rect"},
        "encoding": {
            "x": {"field": "column", "type": "ordinal", "axis": None},
            "y": {"field": "line", "type": "ordinal", "axis": None},
            "color": quantitative(
                "rate",
                title="solved",
                scale={"domain": [0, 1], "scheme": "cividis"},
                legend={"format": "%", "orient": "top", "direction": "horizontal"},
            ),
            "tooltip": [
                nominal("task", title="task"),
                nominal("variant", title="variant"),
                quantitative("rate", title="solved", format=".0%"),
                quantitative("trials", title="trials"),
            ],
        },
    }
    row = nominal("variant", title=None, sort=_IN_ORDER, header={"labelOrient": "top"})
    return {"data": _data(rows, variants), "facet": {"row": row}, "spec": cells}


def distribution_chart(title: str, rows: Sequence[Row], *, variants: Sequence[str]) -> Spec:
    """Return the Vega-Lite specification of a chart of the cumulative distribution of a value, one line per variant.

    The chart can be zoomed.

    Args:
        title: the name of the value with its unit.
        rows: the points of the lines, as `{variant, value, share}`. `share` is the fraction (0 to 1) of trials with at
            most `value`.
        variants: the ids of all variants, in the order of the chart.
    """
    values = [row["value"] for row in rows]
    # A range from seconds to hours needs a logarithmic scale, or a symmetric one if there are zeros, to show both ends.
    wide = bool(values) and max(values) > 50 * max(min(values), 1e-9)
    kind = "linear" if not wide else "log" if min(values) > 0 else "symlog"
    # A logarithm has no zero.
    scale = {"type": kind, "nice": False} if kind == "log" else {"type": kind, "zero": False}
    return {
        "data": _data(rows, variants),
        "width": WIDTH,
        "height": 260,
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "params": [
            {"name": "chosen", "bind": "legend", "select": {"type": "point", "fields": ["variant"]}},
            {"name": "zoomed", "bind": "scales", "select": {"type": "interval", "encodings": ["x", "y"]}},
        ],
        "encoding": {
            "x": quantitative("value", title=plain(title), scale=scale),
            "y": quantitative("share", title="share of trials", axis={"format": "%"}),
            "color": _color(variants, title="variant"),
            "strokeDash": nominal("variant", title="variant", scale={"domain": list(variants)}),
            "opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.15},
            "tooltip": [
                nominal("variant", title="variant"),
                quantitative("share", title="share", format=".0%"),
                quantitative("value", title="at or below", format=".4~g"),
            ],
        },
    }


def _dots(rows: Sequence[Row], x: Mapping[str, Any], variants: Sequence[str]) -> Spec:
    both = {
        "y": nominal("variant", title=None, sort=_IN_ORDER),
        "color": _color(variants, legend=None),
        "tooltip": [
            nominal("variant", title="variant"),
            quantitative("mean", title="estimate", format=".4~g"),
            quantitative("low", title="lower end", format=".4~g"),
            quantitative("high", title="upper end", format=".4~g"),
        ],
    }
    ranges = {
        "transform": [{"filter": _HAS_INTERVAL}],
        "mark": {"type": "rule", "strokeWidth": 3},
        "encoding": {**both, "x": quantitative("low", **x), "x2": {"field": "high"}},
    }
    shape = nominal("variant", scale={"domain": list(variants)}, legend=None)
    points = {
        "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
        "encoding": {**both, "x": quantitative("mean", **x), "shape": shape},
    }
    return {"data": _data(rows, variants), "layer": [ranges, points]}


def _color(variants: Sequence[str], **more: Any) -> Spec:
    colors = [PALETTE[index % len(PALETTE)] for index in range(len(variants))]
    return nominal("variant", scale={"domain": list(variants), "range": colors}, **more)


def _sizes(lines: int) -> Spec:
    return {"width": WIDTH, "height": max(lines, 1) * _ROW_HEIGHT}


def _data(rows: Sequence[Row], variants: Sequence[str]) -> Spec:
    places = {variant: place for place, variant in enumerate(variants)}
    return {
        "values": [
            {key: finite(value) for key, value in row.items()} | {"place": places[row["variant"]]} for row in rows
        ]
    }
