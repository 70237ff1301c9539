"""Render a postmortem as one HTML page that needs no network and escapes all texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Template

from relab.charts import pages
from relab.core.clock import format_time
from relab.incidents.event_labels import label_of
from relab.incidents.postmortem.charts import signal_chart
from relab.incidents.postmortem.markdown import ACTION_COLUMNS, DIAGNOSIS_COLUMNS, action_rows, diagnosis_rows, gap_row
from relab.incidents.postmortem.models import ChartMark, Postmortem, SignalSeries

_TEMPLATES: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Chart:
    name: str
    rows: Sequence[tuple[str, float | str]]


def render(found: Postmortem, libraries: str | None = None) -> pages.ChartPage:
    """Return a postmortem as an HTML page with charts.

    Args:
        found: the content of the postmortem.
        libraries: the chart libraries as one script; None for the libraries that `relab.charts` contains.
    """
    return pages.render(
        page_template(),
        [_spec(figure, found.marks) for figure in found.signals],
        libraries=libraries,
        found=found,
        marks=[(format_time(mark.at), mark.moment.value, mark.label) for mark in found.marks],
        charts=[_chart(figure) for figure in found.signals],
        actions=action_rows(found),
        action_columns=ACTION_COLUMNS,
        diagnoses=diagnosis_rows(found),
        diagnosis_columns=DIAGNOSIS_COLUMNS,
        timeline=[
            (format_time(each.at), label_of(each.kind), each.message, ", ".join(each.evidence))
            for each in found.timeline
        ],
        evidence=[(each.evidence_id, each.fact, each.value, each.request, each.verbatim) for each in found.evidence],
    )


def page_template() -> Template:
    """Return the template of a postmortem's HTML page."""
    return pages.template(_TEMPLATES, "page.html", number=_number)


def _chart(figure: SignalSeries) -> _Chart:
    rows: list[tuple[int, str, float | str]] = [(at_us, format_time(at_us), value) for at_us, value in figure.points]
    rows += [(gap.begin + 1, gap_row(gap), "no samples") for gap in figure.gaps]
    return _Chart(figure.name, [(row_value, value) for _, row_value, value in sorted(rows, key=lambda row: row[0])])


def _spec(figure: SignalSeries, marks: Sequence[ChartMark]) -> dict[str, Any]:
    shown = [(mark.at, mark.moment.value, pages.visible(mark.label)) for mark in marks]
    return signal_chart(figure, shown)


def _number(value: float) -> str:
    return f"{value:.4g}"
