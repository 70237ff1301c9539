"""Render a note (a report arranged for people) as one HTML page that needs no network access.

All texts of the run are escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from relab.charts import pages
from relab.rca.notes.charts import waterfall
from relab.rca.notes.markdown import STALE, after_text
from relab.rca.notes.models import RunNote

_TEMPLATES: Final = Path(__file__).parent


def render_note_page(note: RunNote, libraries: str | None = None) -> str:
    """Return a note (a report arranged for people) as HTML.

    Args:
        note: the note.
        libraries: the JavaScript of the chart libraries as one text; None for the libraries of
            `relab.charts`.
    """
    specs = [waterfall(note.rows, is_timed=note.is_timed)] if note.rows else []
    page = pages.template(_TEMPLATES, "note.html", after=after_text)
    return pages.render(page, specs, libraries=libraries, note=note, stale=STALE).html
