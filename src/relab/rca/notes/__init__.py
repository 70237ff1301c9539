"""Notes: a report for people, with the times and the course of its run.

In: a report and its run. Out: a `RunNote`, which is shown by commands, as Markdown and as a page. Pure, except
`reader.py`.
"""

from relab.rca.notes.models import NoteChange, NoteQuote, RunNote, WaterfallRow

__all__ = ["NoteChange", "NoteQuote", "RunNote", "WaterfallRow"]
