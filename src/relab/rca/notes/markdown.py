"""Render a note (a report arranged for people) as Markdown; all texts of the run are escaped. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relab.charts.markdown import escaped
from relab.rca.notes.models import NoteQuote, RunNote

STALE: Final = "The run has changed since this analysis; the evidence has no times."


def to_markdown(note: RunNote) -> str:
    """Return a note as Markdown, with all evidence of its report."""
    return "\n".join(_lines(note)) + "\n"


def after_text(quote: NoteQuote) -> str:
    """Return the time of a quotation, counted from the start of the run, such as `+1.250 s`; "" if it is not known."""
    return "" if quote.after_ms is None else f"{quote.after_ms / 1_000:+.3f} s"


def _lines(note: RunNote) -> Iterator[str]:
    yield f"# Run {escaped(note.run_id)}: {escaped(note.headline)}"
    yield ""
    yield escaped(note.what)
    yield ""
    for text in (note.context, note.recurrence, STALE if note.is_stale else None):
        if text is not None:
            yield escaped(text)
            yield ""
    if note.where is not None:
        yield f"**Where:** {escaped(note.where)}"
        yield ""
    if note.candidates:
        yield "## Steps that may have gone wrong first (ranked guess)"
        yield ""
        yield from (f"{rank}. {escaped(text)}" for rank, text in enumerate(note.candidates, 1))
        yield ""
    if note.doubts:
        yield "## Steps that may have a problem, though no error shows it (ranked guess)"
        yield ""
        yield from (f"- {escaped(text)}" for text in note.doubts)
        yield ""
    if note.passing:
        yield "## Compared with runs that succeeded"
        yield ""
        yield from (f"- {escaped(sentence)}" for sentence in note.passing)
        yield ""
    if note.judge is not None:
        yield escaped(note.judge)
        yield ""
    if note.behaviours:
        yield f"**Behaviours seen:** {escaped('; '.join(note.behaviours))}"
        yield ""
    if note.not_judged:
        yield f"**Not judged:** {escaped('; '.join(note.not_judged))}"
        yield ""
    yield "## Evidence, in order of time (in bold: what the cause is based on)"
    yield ""
    if not note.quotes:
        yield "The run contains no evidence."
    for quote in note.quotes:
        mark = "**" if quote.is_key else ""
        place = escaped(f"{after_text(quote)} {quote.title}, {quote.field} [{quote.evidence_id}]")
        yield f"- {mark}{place}{mark}: {escaped(quote.snippet)}"
    yield ""
    yield "## What to change"
    yield ""
    yield from (
        f"{rank}. **{escaped(each.title)}** ({each.priority}): {escaped(each.description)}"
        for rank, each in enumerate(note.changes, 1)
    )
