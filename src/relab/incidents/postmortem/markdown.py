"""Render a postmortem as Markdown. All texts are escaped, for CommonMark and for GitHub's extensions of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from relab.charts.markdown import escaped
from relab.core.clock import format_time
from relab.incidents.event_labels import label_of
from relab.incidents.postmortem.models import Postmortem, SampleGap, SignalSeries

_MAX_GAPS: Final = 5

ACTION_COLUMNS: Final = ("time", "action", "parameters", "by", "reason", "figures before and after", "result")
DIAGNOSIS_COLUMNS: Final = ("time", "cause", "probability", "how it ended", "evidence")


def to_markdown(found: Postmortem) -> str:
    """Return a postmortem as Markdown."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Postmortem) -> Iterator[str]:
    yield f"# Postmortem: {escaped(found.title)}"
    yield ""
    if found.notice:
        yield f"**{found.notice}**"
        yield ""
    yield from _table(("", ""), found.overview)
    yield ""
    yield from (f"- {escaped(sentence)}" for sentence in found.summary)
    yield from _heading("What worked")
    yield escaped(found.worked)
    yield from _heading("Actions")
    yield from _table(ACTION_COLUMNS, action_rows(found), "No action was tried.")
    yield from _heading("Diagnoses")
    yield from _table(DIAGNOSIS_COLUMNS, diagnosis_rows(found), "No cause was named.")
    yield from _heading("Follow-ups")
    if not found.follow_ups:
        yield "There are no follow-ups."
    yield from (f"- [ ] {escaped(each.what)} ({escaped(each.ground)})" for each in found.follow_ups)
    yield from _heading("Timeline")
    if found.left_out:
        yield f"{found.left_out} events in the middle are left out."
        yield ""
    entries = [(_time(each.at), label_of(each.kind), each.message, ", ".join(each.evidence)) for each in found.timeline]
    yield from _table(("time", "event", "description", "evidence"), entries, "The timeline is empty.")
    yield from _heading("Evidence")
    cited = [(each.evidence_id, each.fact, each.value, each.request, each.verbatim) for each in found.evidence]
    yield from _table(("id", "fact", "value", "request", "quotation"), cited, "No evidence is cited.")
    yield from _heading("Signals")
    marks = [(_time(mark.at), mark.moment.value, mark.label) for mark in found.marks]
    yield from _table(("time", "moment", "description"), marks)
    yield ""
    ranges = [_range(figure) for figure in found.signals]
    yield from _table(
        ("signal", "first", "minimum", "maximum", "last", "no samples from"), ranges, "No signals were stored."
    )


def _heading(text: str) -> list[str]:
    return ["", f"## {text}", ""]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "") -> Iterator[str]:
    cells = [[escaped(cell) for cell in row] for row in rows]
    if not cells:
        yield empty
        return
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(row)} |" for row in cells)


def action_rows(found: Postmortem) -> list[tuple[str, ...]]:
    """Return the actions of the postmortem `found` as rows of a table with `ACTION_COLUMNS`."""
    return [
        (_time(each.at), each.action, each.parameters, each.by, each.why, each.measured, each.result)
        for each in found.actions
    ]


def diagnosis_rows(found: Postmortem) -> list[tuple[str, ...]]:
    """Return the diagnoses of the postmortem `found` as rows of a table with `DIAGNOSIS_COLUMNS`."""
    return [
        (
            _time(each.at),
            " and ".join(each.causes),
            "" if each.probability is None else f"{each.probability:.2f}",
            each.ended,
            ", ".join(each.evidence),
        )
        for each in found.diagnoses
    ]


def gap_row(gap: SampleGap) -> str:
    """Return the begin and the end of a period without samples as text: `<begin> to <end>`."""
    return f"{format_time(gap.begin)} to {format_time(gap.end)}"


def _range(figure: SignalSeries) -> tuple[str, ...]:
    values = [value for _, value in figure.points]
    figures = (f"{value:.4g}" for value in (values[0], min(values), max(values), values[-1]))
    unseen = [gap_row(gap) for gap in figure.gaps[:_MAX_GAPS]]
    more = len(figure.gaps) - len(unseen)
    return figure.name, *figures, "; ".join([*unseen, f"and {more} more"] if more else unseen)


def _time(at_us: int | None) -> str:
    return "" if at_us is None else format_time(at_us)
