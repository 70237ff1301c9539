"""The chart of a run's timeline (a waterfall), as a Vega-Lite specification.

Texts of the run are values in the chart's data, never part of its code; see `relab.charts.specs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt

from relab.charts.pages import visible
from relab.charts.specs import PALETTE, WIDTH, finished, unchecked
from relab.rca.notes.models import WaterfallRow

_ROW_HEIGHT: Final = 18
_LABEL_CHARS: Final = 48
_STATES: Final = ("cause", "candidate", "failed", "other")
_COLORS: Final = (PALETTE[4], PALETTE[1], PALETTE[3], PALETTE[0])
_NARROWEST: Final = 0.004
"""The shortest bar that can be seen, as a share of the whole time."""


@unchecked
def waterfall(rows: Sequence[WaterfallRow], *, is_timed: bool) -> dict[str, Any]:
    """Return a Vega-Lite chart with one horizontal bar for each row, in the order of the rows.

    If `is_timed` is false, the rows have no times, and the axis shows their position in the run.
    """
    whole = max((row.end_ms for row in rows), default=0.0) - min((row.begin_ms for row in rows), default=0.0)
    scale = 1_000.0 if is_timed and whole >= 2_000 else 1.0
    values = [
        {
            "row": f"{number:03d}",
            "label": _label(row),
            "begin": row.begin_ms / scale,
            "end": max(row.end_ms, row.begin_ms + _NARROWEST * whole) / scale,
            "state": row.state,
            "kind": row.kind,
            "what": visible(f"{row.label} [{row.ref_id}]"),
            "status": row.status or "",
        }
        for number, row in enumerate(rows)
    ]
    # The rows are numbered, because two may have one label; the axis shows the labels of the numbers.
    labels = "labels[datum.value]"
    axis = alt.Axis(
        title=None,
        labelLimit=330,
        labelAlign="left",
        labelPadding=335,
        ticks=False,
        domain=False,
        labelExpr=labels,
    )
    unit = ("seconds" if scale > 1 else "milliseconds") + " after the start"
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar(cornerRadius=2, height=_ROW_HEIGHT - 6)
        .encode(
            y=alt.Y("row:N", axis=axis, sort=None),
            x=alt.X("begin:Q", title=unit if is_timed else "position in the run", scale=alt.Scale(zero=False)),
            x2=alt.X2("end:Q"),
            color=alt.Color("state:N", title="item", scale=alt.Scale(domain=list(_STATES), range=list(_COLORS))),
            tooltip=[alt.Tooltip("what:N"), alt.Tooltip("kind:N"), alt.Tooltip("status:N"), alt.Tooltip("state:N")],
        )
    )
    # A parameter holds the labels as data: Vega-Lite would read the texts of an axis as parts of expressions.
    chart = chart.add_params(alt.param(name="labels", value={each["row"]: each["label"] for each in values}))
    return finished(chart.properties(width=WIDTH, height=_ROW_HEIGHT * max(len(rows), 1)))


def _label(row: WaterfallRow) -> str:
    mark = "▶ " if row.state == "cause" else ""
    # Vega removes blanks at the beginning of a label.
    text = "· " * row.depth + mark + " ".join(visible(row.label).split())
    return text if len(text) <= _LABEL_CHARS else f"{text[: _LABEL_CHARS - 1]}…"
