"""Tables of short ASCII texts, which need no wrapping: they look as Rich draws them, and Rich is not loaded for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

_DECIDES_STYLES: Final = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS")
"""Environment variables by which Rich decides whether, and how, an output has styles."""
_WITHOUT_STYLES: Final = ("", "dumb", "unknown")
"""The values of TERM of terminals that show no styles."""
_EDGES: Final = 2


def can_draw() -> bool:
    """Return whether stdout shows a table of this module as it shows a table of Rich."""
    return (
        (sys.stdout.encoding or "").lower().startswith("utf")
        and not any(name in os.environ for name in _DECIDES_STYLES)
        and (not sys.stdout.isatty() or os.environ.get("TERM", "").lower() not in _WITHOUT_STYLES)
    )


def draw(
    title: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, has_styles: bool
) -> str | None:
    """Return a table as lines of text, or None if only Rich can draw it.

    Rich is needed for a table or title that is wider than `width`, and for cells with line ends or other characters than
    printable ASCII.

    Args:
        title: the line above the table.
        names: the headings of the columns.
        rows: the rows; each has a cell for each column.
        width: the maximum length of a line, in characters.
        has_styles: whether to print the title in italics and the headings in bold, by escape sequences.
    """
    texts = (title, *names, *(cell for row in rows for cell in row))
    if not all(text.isascii() and text.isprintable() for text in texts):
        return None
    widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
    # A cell has a space on both sides; between two cells is a divider of one character.
    length = sum(widths) + 2 * len(widths) + len(widths) - 1 + _EDGES
    if max(length, len(title)) > width or len(title) > length:
        return None
    heading = _line(names, widths)
    lines = [
        _styled(title.ljust(length), "3", has_styles),
        " " * length,
        _styled(heading, "1", has_styles),
        f" {'─' * (length - _EDGES)} ",
        *(_line(row, widths) for row in rows),
        " " * length,
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    return f"  {'   '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))}  "


def _styled(text: str, code: str, has_styles: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if has_styles else text
