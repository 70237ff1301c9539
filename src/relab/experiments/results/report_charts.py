"""Make the charts of a run's report: convert figures to Vega-Lite specifications.

Text from outside (ids, names of metrics) is used only as values in the data, because Vega-Lite builds expressions from
titles and sort lists, and quotes them badly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from relab.charts.specs import PALETTE, WIDTH, finished, finite, plain, unchecked

TASK_COLUMNS: Final = 50
_ROW_HEIGHT = 34
_CELL = 11
_HAS_INTERVAL = "isValid(datum.low) && isValid(datum.high)"

Row = Mapping[str, Any]

_IN_ORDER = alt.EncodingSortField(field="place", op="min")


@unchecked
def means_chart(title: str, rows: Sequence[Row], *, variants: Sequence[str], is_rate: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart with a dot and its interval for each variant.

    Args:
        title: the name of the metric.
        rows: `{variant, mean, low, high}`; `low` and `high` may be None.
        variants: the ids of all variants, in the order of the chart.
        is_rate: whether values are shares, shown from 0 to 100 %.
    """
    scale = alt.Scale(domain=[0, 1]) if is_rate else alt.Scale(zero=False)
    axis = alt.Axis(format="%") if is_rate else alt.Axis()
    return _finished(_dots(rows, {"title": plain(title), "scale": scale, "axis": axis}, variants), len(variants))


@unchecked
def forest_chart(metric: str, rows: Sequence[Row], *, variants: Sequence[str]) -> dict[str, Any]:
    """Return the Vega-Lite specification of a forest plot of the differences from the baseline in one metric.

    It has a dot and its interval for each variant, and a line at 0.

    Args:
        metric: the name of the metric.
        rows: `{variant, mean, low, high}`, where `mean` is the difference; `low` and `high` may be None.
        variants: the ids of all variants, so that a variant has the same colour in every chart.
    """
    x: dict[str, Any] = {"title": plain(f"{metric}: variant less baseline"), "scale": alt.Scale(zero=True)}
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 3]).encode(x=alt.X("zero:Q", **x))
    return _finished(zero + _dots(rows, x, variants), len(rows))


@unchecked
def tasks_chart(rows: Sequence[Row], *, variants: Sequence[str]) -> dict[str, Any]:
    """Return the Vega-Lite specification of a heat map of each task's success rate.

    It has one block per variant, and a task has the same cell in every block.

    Args:
        rows: `{variant, task, rate, trials, column, line}`.
        variants: the ids of all variants, in the order of the chart.
    """
    lines = 1 + max((row["line"] for row in rows), default=0)
    chart = (
        alt.Chart(_data(rows, variants))
        .mark_rect()
        .encode(
            x=alt.X("column:O", axis=None),
            y=alt.Y("line:O", axis=None),
            color=alt.Color(
                "rate:Q",
                title="solved",
                scale=alt.Scale(domain=[0, 1], scheme="cividis"),
                legend=alt.Legend(format="%", orient="top"),
            ),
            tooltip=[
                alt.Tooltip("task:N", title="task"),
                alt.Tooltip("variant:N", title="variant"),
                alt.Tooltip("rate:Q", title="solved", format=".0%"),
                alt.Tooltip("trials:Q", title="trials"),
            ],
        )
        .properties(width=TASK_COLUMNS * _CELL, height=lines * _CELL)
        .facet(row=alt.Row("variant:N", title=None, sort=_IN_ORDER, header=alt.Header(labelOrient="top")))
    )
    return finished(chart)


@unchecked
def distribution_chart(title: str, rows: Sequence[Row], *, variants: Sequence[str]) -> dict[str, Any]:
    """Return the Vega-Lite specification of the cumulative distribution of a value over the trials, one line per variant.

    The chart can be zoomed.

    Args:
        title: the name of the value with its unit.
        rows: `{variant, value, share}`: so large a share (0 to 1) of the trials have at most this value.
        variants: the ids of all variants, in the order of the chart.
    """
    values = [row["value"] for row in rows]
    # A range from seconds to hours needs a logarithmic scale, or a symmetric one if there are zeros, to show both ends.
    wide = bool(values) and max(values) > 50 * max(min(values), 1e-9)
    kind: Any = "linear" if not wide else "log" if min(values) > 0 else "symlog"
    scale = (
        alt.Scale(type="log", nice=False) if kind == "log" else alt.Scale(type=kind, zero=False)
    )  # a logarithm has no zero
    chosen = alt.selection_point(fields=["variant"], bind="legend")
    chart = (
        alt.Chart(_data(rows, variants))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("value:Q", title=plain(title), scale=scale),
            y=alt.Y("share:Q", title="share of trials", axis=alt.Axis(format="%")),
            color=_color(variants),
            strokeDash=alt.StrokeDash("variant:N", title="variant", scale=alt.Scale(domain=list(variants))),
            opacity=alt.condition(chosen, alt.value(1), alt.value(0.15)),
            tooltip=[
                alt.Tooltip("variant:N", title="variant"),
                alt.Tooltip("share:Q", title="share", format=".0%"),
                alt.Tooltip("value:Q", title="at or below", format=".4~g"),
            ],
        )
        .add_params(chosen)
        .properties(width=WIDTH, height=260)
        .interactive()
    )
    return finished(chart)


def _dots(rows: Sequence[Row], x: Mapping[str, Any], variants: Sequence[str]) -> alt.LayerChart:
    base = alt.Chart(_data(rows, variants)).encode(y=alt.Y("variant:N", title=None, sort=_IN_ORDER))
    tooltip = [
        alt.Tooltip("variant:N", title="variant"),
        alt.Tooltip("mean:Q", title="estimate", format=".4~g"),
        alt.Tooltip("low:Q", title="lower end", format=".4~g"),
        alt.Tooltip("high:Q", title="upper end", format=".4~g"),
    ]
    color = _color(variants, legend=False)
    ranges = (
        base.transform_filter(_HAS_INTERVAL)
        .mark_rule(strokeWidth=3)
        .encode(x=alt.X("low:Q", **x), x2="high:Q", color=color, tooltip=tooltip)
    )
    shape = alt.Shape("variant:N", scale=alt.Scale(domain=list(variants)), legend=None)
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=alt.X("mean:Q", **x), color=color, shape=shape, tooltip=tooltip
    )
    return alt.LayerChart(layer=[ranges, points])


def _color(variants: Sequence[str], *, legend: bool = True) -> alt.Color:
    colors = [PALETTE[index % len(PALETTE)] for index in range(len(variants))]
    scale = alt.Scale(domain=list(variants), range=colors)
    return (
        alt.Color("variant:N", title="variant", scale=scale)
        if legend
        else alt.Color("variant:N", scale=scale, legend=None)
    )


def _finished(chart: alt.LayerChart, lines: int) -> dict[str, Any]:
    return finished(chart.properties(width=WIDTH, height=max(lines, 1) * _ROW_HEIGHT))


def _data(rows: Sequence[Row], variants: Sequence[str]) -> alt.InlineData:
    places = {variant: place for place, variant in enumerate(variants)}
    return alt.InlineData(
        values=[{key: finite(value) for key, value in row.items()} | {"place": places[row["variant"]]} for row in rows]
    )
