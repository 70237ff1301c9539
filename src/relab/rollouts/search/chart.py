"""The chart of a search's candidates as a Vega-Lite specification. Its texts are ours; only data come from outside."""

from __future__ import annotations

from typing import Any

import altair as alt

from relab.charts.specs import PALETTE, WIDTH, finished, finite, unchecked
from relab.rollouts.search.candidates import SearchResult


@unchecked
def candidates_chart(search: SearchResult) -> dict[str, Any]:
    """Return the chart of the screened change of each candidate, in order, with its interval; the chosen one stands out."""
    confirmed = {found.candidate for found in search.confirmations}
    rows = [
        {
            "candidate": one.number,
            "label": one.label,
            "estimate": finite(one.estimate_pct),
            "low": finite(one.low_pct),
            "high": finite(one.high_pct),
            "state": _state(one.number, one.problem, search.chosen, confirmed),
        }
        for one in search.candidates
    ]
    states = ["screened", "confirmed", "chosen", "unusable"]
    x = alt.X("candidate:Q", title="candidate", scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(tickMinStep=1))
    # Intervals of few rounds are many times wider than the differences between the candidates.
    estimates = [row["estimate"] for row in rows if isinstance(row["estimate"], float)]
    room = max(10.0, 0.2 * (max(estimates, default=0.0) - min(estimates, default=0.0)))
    domain = [min([0.0, *estimates]) - room, max([0.0, *estimates]) + room]
    scale = alt.Scale(domain=domain, clamp=True)
    y = alt.Y("estimate:Q", title="change against arm A, %", scale=scale)
    tooltip = [
        alt.Tooltip("label:N", title="values"),
        alt.Tooltip("estimate:Q", title="change, %", format="+.1f"),
        alt.Tooltip("low:Q", title="lower end, %", format="+.1f"),
        alt.Tooltip("high:Q", title="upper end, %", format="+.1f"),
    ]
    colour = alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(domain=states, range=[PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[4]]),
        legend=alt.Legend(orient="top"),
    )
    base = alt.Chart(alt.InlineData(values=rows)).transform_filter("isValid(datum.estimate)")
    bands = base.mark_rule(strokeWidth=2, opacity=0.5).encode(
        x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=colour
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x, y=y, color=colour, shape=alt.Shape("state:N", scale=alt.Scale(domain=states)), tooltip=tooltip
    )
    zero = (
        alt.Chart(alt.InlineData(values=[{"at": 0}])).mark_rule(strokeDash=[4, 3]).encode(y=alt.Y("at:Q", scale=scale))
    )
    return finished(alt.LayerChart(layer=[zero, bands, points]).properties(width=WIDTH, height=280))


def _state(number: int, problem: str | None, chosen: int | None, confirmed: set[int]) -> str:
    if problem is not None:
        return "unusable"
    return "chosen" if number == chosen else "confirmed" if number in confirmed else "screened"
