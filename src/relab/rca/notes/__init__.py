"""Notes: reports arranged for people, with the times and the timeline of the run.

Input: a report and its run. Output: a `RunNote`, which commands print, and which can be rendered as Markdown or as a
page. All modules except `reader.py` are pure.
"""

from relab.rca.notes.models import NoteQuote, RunNote

__all__ = ["NoteQuote", "RunNote"]
