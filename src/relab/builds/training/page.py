"""Render the learning curve of a trained policy as an HTML page: one file that needs no network access."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import altair as alt

from relab.builds.optimizer.model_info import CurvePoint, PolicyModelInfo
from relab.charts import pages
from relab.charts.specs import PALETTE, WIDTH, finished, unchecked
from relab.core.clock import format_time

_TEMPLATES: Final = Path(__file__).parent / "templates"


def render_page(name: str, info: PolicyModelInfo) -> str:
    """Return the page about the training of a policy (rule that chooses build actions) as HTML.

    Args:
        name: the name of the policy's file.
        info: the facts about its training, with the learning curve.
    """
    return pages.render(
        pages.template(_TEMPLATES, "training.html"),
        [curve_chart(info.curve)],
        name=name,
        info=info,
        trained=format_time(info.trained_at),
    ).html


@unchecked
def curve_chart(curve: tuple[CurvePoint, ...]) -> dict[str, Any]:
    """Return the Vega-Lite specification of a learning curve: the mean reward after each number of simulated builds."""
    rows = [point.model_dump() for point in curve]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=True, color=PALETTE[0])
        .encode(
            x=alt.X("builds:Q", title="simulated builds"),
            y=alt.Y("reward:Q", title="mean reward", scale=alt.Scale(zero=True)),
            tooltip=[alt.Tooltip("builds:Q"), alt.Tooltip("reward:Q", format=".3f")],
        )
    )
    return finished(chart.properties(width=WIDTH, height=280))
