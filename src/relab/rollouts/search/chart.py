"""Make the chart of a search's candidates as a Vega-Lite specification.

Values from the search file are only in the chart's data; all other texts are constants of relab.
"""

from __future__ import annotations

from typing import Any

from relab.charts.specs import PALETTE, WIDTH, finite, nominal, quantitative
from relab.rollouts.search.candidates import SearchResult


def candidates_chart(search: SearchResult) -> dict[str, Any]:
    """Return a Vega-Lite chart of a search: the measured effect of each candidate with its interval.

    A candidate is a set of flag values. Its effect is the change, in percent, of the judged figure (the P95 latency, or
    the plan's metric) against the old flags. The chosen candidate has its own colour and shape.
    """
    rows = _rows(search)
    states = ["screened", "confirmed", "chosen", "unusable"]
    x = quantitative("candidate", title="candidate", scale={"zero": False, "padding": 12}, axis={"tickMinStep": 1})
    # Intervals of few rounds are many times wider than the differences between the candidates.
    estimates = [row["estimate"] for row in rows if isinstance(row["estimate"], float)]
    room = max(10.0, 0.2 * (max(estimates, default=0.0) - min(estimates, default=0.0)))
    domain = [min([0.0, *estimates]) - room, max([0.0, *estimates]) + room]
    scale = {"domain": domain, "clamp": True}
    tooltip = [
        nominal("label", title="values"),
        quantitative("estimate", title="change, %", format="+.1f"),
        quantitative("low", title="lower end, %", format="+.1f"),
        quantitative("high", title="upper end, %", format="+.1f"),
    ]
    colour = {
        "field": "state",
        "type": "nominal",
        "title": None,
        "scale": {"domain": states, "range": [PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[4]]},
        "legend": {"orient": "top"},
    }
    bands = {
        "transform": [{"filter": "isValid(datum.estimate)"}],
        "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
        "encoding": {
            "x": x,
            "y": quantitative("low", scale=scale),
            "y2": {"field": "high"},
            "color": colour,
        },
    }
    points = {
        "transform": [{"filter": "isValid(datum.estimate)"}],
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
        "encoding": {
            "x": x,
            "y": quantitative("estimate", title="change against arm A, %", scale=scale),
            "color": colour,
            "shape": nominal("state", scale={"domain": states}),
            "tooltip": tooltip,
        },
    }
    zero = {
        "data": {"values": [{"at": 0}]},
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "encoding": {"y": quantitative("at", scale=scale)},
    }
    return {"data": {"values": rows}, "layer": [zero, bands, points], "width": WIDTH, "height": 280}


def _rows(search: SearchResult) -> list[dict[str, Any]]:
    confirmed = {found.candidate for found in search.confirmations}
    return [
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


def _state(number: int, problem: str | None, chosen: int | None, confirmed: set[int]) -> str:
    if problem is not None:
        return "unusable"
    return "chosen" if number == chosen else "confirmed" if number in confirmed else "screened"
