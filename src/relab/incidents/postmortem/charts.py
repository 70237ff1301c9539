"""Make the Vega-Lite specification of the chart of a signal around an incident.

Names of signals and of actions are texts from outside. They are put into the chart's data and not into its code; see
`relab.charts.specs`.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, Final

import altair as alt

from relab.charts.specs import PALETTE, WIDTH, finished, plain, unchecked
from relab.core.clock import format_time
from relab.incidents.postmortem.models import MarkKind, SignalSeries

_HEIGHT: Final = 200
_BAND: Final = "#808080"
_WIDE: Final = 0.12
"""A gap that takes at least this share of the time axis gets a label; the label would not fit over a narrower one."""
_MOMENTS: Final = [moment.value for moment in MarkKind]
_COLORS: Final = [PALETTE[4], PALETTE[1], PALETTE[2], PALETTE[5], PALETTE[3]]
_DASHES: Final = [[2, 2], [1, 0], [6, 3], [4, 2], [8, 3, 2, 3]]
"""Dash patterns besides the colours, for readers who cannot distinguish all colours."""


@unchecked
def signal_chart(figure: SignalSeries, marks: Sequence[tuple[int, str, str]]) -> dict[str, Any]:
    """Return the Vega-Lite chart of a signal: a line with breaks at gaps, and a vertical rule for each mark.

    Args:
        figure: the signal, with its gaps.
        marks: `(time in microseconds since 1970, MarkKind value, label)` of the moments to mark.
    """
    # The default time format shows noon and midnight alike.
    axis = alt.Axis(format="%H:%M:%S", tickCount=8)
    time = alt.X("at:T", title="time, UTC", scale=alt.Scale(type="utc"), axis=axis)
    # A signal that is always 0 needs a fixed domain: otherwise it lies in the middle of an axis without a scale.
    scale = alt.Scale(zero=True) if any(value for _, value in figure.points) else alt.Scale(domain=[0, 1])
    ends = [gap.end for gap in figure.gaps]
    values = [
        {**_time(at_us), "value": value, "part": bisect.bisect_right(ends, at_us)} for at_us, value in figure.points
    ]
    line = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(color=PALETTE[0], strokeWidth=2, point={"size": 12})
        .encode(
            x=time,
            y=alt.Y("value:Q", title=plain(figure.name), scale=scale),
            detail=alt.Detail("part:N"),
            tooltip=[
                alt.Tooltip("shown_time:N", title="time"),
                alt.Tooltip("value:Q", title="value", format=".4~g"),
            ],
        )
    )
    rows = [{**_time(at_us), "moment": moment, "what": label} for at_us, moment, label in marks]
    rules = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_rule(strokeWidth=2)
        .encode(
            x=time,
            color=alt.Color("moment:N", title="moment", scale=alt.Scale(domain=_MOMENTS, range=_COLORS)),
            strokeDash=alt.StrokeDash("moment:N", title="moment", scale=alt.Scale(domain=_MOMENTS, range=_DASHES)),
            tooltip=[
                alt.Tooltip("moment:N", title="moment"),
                alt.Tooltip("what:N", title="what"),
                alt.Tooltip("shown_time:N", title="time"),
            ],
        )
    )
    return finished(alt.LayerChart(layer=[line, rules, *_bands(figure, time)]).properties(width=WIDTH, height=_HEIGHT))


def _bands(figure: SignalSeries, time: alt.X) -> list[alt.Chart]:
    """Return chart layers with a grey band over each gap (a time without samples); a wide gap has a label."""
    if not figure.gaps:
        return []
    whole_us = max(figure.points[-1][0] - figure.points[0][0], 1)
    rows = [
        {**_time(gap.begin), "until": gap.end / 1_000, "middle": (gap.begin + gap.end) / 2_000, "said": said}
        for gap in figure.gaps
        for said in ("no samples" if (gap.end - gap.begin) / whole_us >= _WIDE else "",)
    ]
    bands = alt.Chart(alt.InlineData(values=rows))
    return [
        bands.mark_rect(color=_BAND, opacity=0.25).encode(
            x=time, x2=alt.X2("until:T"), tooltip=[alt.Tooltip("shown_time:N", title="no samples from")]
        ),
        bands.mark_text(baseline="bottom", dy=-4, fontSize=11).encode(
            x=_of(time, "middle:T"), y=alt.value(_HEIGHT), text=alt.Text("said:N")
        ),
    ]


def _of(time: alt.X, shorthand: str) -> alt.X:
    """Return a copy of the axis `time` that shows another field of the data.

    `shorthand` is the field in Altair's notation, such as `until:T`.
    """
    # With a new axis instead of a copy, the chart would show the axis title twice.
    found = time.copy()
    found.shorthand = shorthand
    return found


def _time(at_us: int) -> dict[str, Any]:
    # A tooltip of a time would be in the reader's time zone, but the axis is in UTC.
    return {"at": at_us / 1_000, "shown_time": format_time(at_us)}
