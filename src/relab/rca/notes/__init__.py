"""Notes: a report with the times and the course of its run, for people.

In: a report and its run. Out: a `RunNote`, which commands, Markdown and a page show. Pure, except `reader.py`.
"""

from relab.rca.notes.models import NoteChange, NoteQuote, RunNote, WaterfallRow

__all__ = ["NoteChange", "NoteQuote", "RunNote", "WaterfallRow"]
