"""Print the note (the summary) of a root cause analysis on one screen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from relab.cli.output import argument, plain, stdout_console

if TYPE_CHECKING:
    from relab.rca.service import NoteQuote, RunNote

WIDTH: Final = 120
HEIGHT: Final = 44
MIN_HEIGHT: Final = 24
_SUMMARY_LINES: Final = 5
_CONTEXT_LINES: Final = 3
_WHERE_LINES: Final = 2
_CANDIDATE_LINES: Final = 2
_DOUBTS: Final = 3
_QUOTE_LINES: Final = 3
_JUDGE_LINES: Final = 4
_NOT_JUDGED_LINES: Final = 3
_MIN_QUOTES: Final = 3
_MAX_QUOTES: Final = 8
_CHANGE_LINES: Final = 6
_OTHER_CHANGES: Final = 2
_OTHER_LINES: Final = 3
_NAME_CHARS: Final = 40


def print_note(note: RunNote, console: Console | None = None) -> None:
    """Print a note (the summary of a root cause analysis) on one screen; long texts are cut.

    The note has at most 44 lines and 120 columns. In a smaller terminal it is cut further, but not below 24 lines.

    Args:
        note: the note.
        console: the terminal to print to; None for stdout.
    """
    console = console or stdout_console(width=None if sys.stdout.isatty() else WIDTH)
    width = min(console.width, WIDTH)
    height = min(HEIGHT, max(MIN_HEIGHT, console.height - 1)) if console.is_terminal else HEIGHT
    lines = list(_lines(note, console, width, height))
    if len(lines) > height:
        lines = [*lines[: height - 1], lines[-1]]
    for line, style in lines:
        console.print(Text(line, style=style), no_wrap=True, crop=True, overflow="crop", width=width)


def _lines(note: RunNote, console: Console, width: int, height: int) -> Iterator[tuple[str, str]]:
    """Yield `(line, style)` for each line of a note (the summary of an analysis), cut to fit the terminal.

    Args:
        note: the note.
        console: the terminal; it measures the width of texts.
        width: the number of columns of the terminal.
        height: the number of lines of the terminal.
    """
    is_small = height < HEIGHT
    head = list(_head(note, console, width, is_small=is_small))
    # One line for the heading of the evidence, one for that of the changes, one for the footer.
    free = height - len(head) - min(len(note.quotes), _MAX_QUOTES) - 3
    changes = list(_changes(note, console, width, max(free, _CHANGE_LINES), is_small=is_small))
    footer = [(f"More: lab rca {argument(note.run_id)} --full, --markdown, --html FILE", "dim")]
    room = max(height - len(head) - len(changes) - len(footer) - 1, _MIN_QUOTES)
    yield from head
    quotes = _chosen(note.quotes, min(room, _MAX_QUOTES))
    if quotes:
        left_out = len(note.quotes) - len(quotes)
        more = f" ({left_out} more with --full)" if left_out else ""
        key = "; * marks what the cause is based on" if any(quote.is_key for quote in quotes) else ""
        yield f"Evidence, in order of time{key}{more}:", "bold"
        spare = room - len(quotes)
        for quote in quotes:
            most = 1 + min(spare, _QUOTE_LINES - 1) if quote.is_key else 1
            lines = _indented(_quote_line(quote), console, width, most)
            spare -= len(lines) - 1
            yield from ((line, "") for line in lines)
    yield from changes
    yield from ((_cut(text, width), style) for text, style in footer)


def _head(note: RunNote, console: Console, width: int, *, is_small: bool) -> Iterator[tuple[str, str]]:
    """Yield `(line, style)` for the first part of a note: all of it except the evidence and the recommended changes.

    This part says what failed and where, which steps may have gone wrong, and what else was seen or was not judged.

    Args:
        note: the note (the summary of an analysis).
        console: the terminal; it measures the width of texts.
        width: the largest number of columns of a line.
        is_small: whether the terminal is small; some parts then get fewer lines.
    """

    def wrapped(text: str, most: int, style: str = "") -> Iterator[tuple[str, str]]:
        yield from ((line, style) for line in _wrapped(text, console, width, most))

    yield from wrapped(f"Run {note.run_id}: {note.headline}", 1, "bold")
    yield from wrapped(note.what, _SUMMARY_LINES)
    context = "The run has changed since this analysis." if note.is_stale else note.context
    if context is not None:
        yield from wrapped(context, 1 if is_small else _CONTEXT_LINES, "dim")
    if note.recurrence is not None:
        yield from wrapped(f"{note.recurrence}.", 1)
    if note.where is not None:
        yield from wrapped(f"Where: {note.where}", _WHERE_LINES, "bold")
    if note.candidates:
        yield "Steps that may have gone wrong first (ranked guess):", "bold"
        most = 1 if is_small else _CANDIDATE_LINES
        for rank, text in enumerate(note.candidates, 1):
            yield from ((line, "") for line in _indented(f"  {rank}. {text}", console, width, most))
    if note.doubts:
        shown = note.doubts[: 1 if is_small else _DOUBTS]
        more = f" ({len(note.doubts) - len(shown)} more with --full)" if len(note.doubts) > len(shown) else ""
        yield _cut(f"Steps that may have a problem, though no error shows it (ranked guess){more}:", width), "bold"
        yield from ((_cut(f"  - {text}", width), "") for text in shown)
    if note.passing:
        more = f" ({len(note.passing) - 1} more with --full)" if len(note.passing) > 1 else ""
        yield _cut(f"Compared with successful runs: {note.passing[0]}{more}", width), ""
    if note.judge is not None:
        yield from wrapped(note.judge, 2 if is_small else _JUDGE_LINES)
    if note.behaviours:
        yield _cut(f"Behaviours seen: {'; '.join(note.behaviours)}", width), ""
    if note.not_judged:
        most = 1 if is_small else _NOT_JUDGED_LINES
        yield from wrapped(f"Not judged: {'; '.join(note.not_judged)}", most, "dim")


def _changes(note: RunNote, console: Console, width: int, left: int, *, is_small: bool) -> Iterator[tuple[str, str]]:
    """Yield `(line, style)` for the recommended changes of a note: a heading, then at most `left` lines.

    Without changes, nothing is yielded.

    Args:
        note: the note (the summary of an analysis).
        console: the terminal; it measures the width of texts.
        width: the largest number of columns of a line.
        left: the largest number of lines below the heading.
        is_small: whether the terminal is small; each change after the first then gets one line instead of up to three.
    """
    if not note.changes:
        return
    yield "What to change:", "bold"
    for rank, change in enumerate(note.changes, 1):
        # The first change gets all lines that the other changes do not need.
        others = max(left - min(len(note.changes) - 1, _OTHER_CHANGES), 1)
        most = others if rank == 1 else 1 if is_small else min(left, _OTHER_LINES)
        if left < 1:
            return
        lines = _wrapped(f"{rank}. {change.title}: {change.description}", console, width - 2, most)
        left -= len(lines)
        yield from ((f"  {line}", "") for line in lines)


def _chosen(quotes: Sequence[NoteQuote], most: int) -> list[NoteQuote]:
    """Return at most `most` quotes, in their original order.

    If several quotes are from the same field of the same object of the run, such as the output of a tool call, only one
    is returned. Quotes with `is_key` are preferred: the cause in the note is based on them.
    """
    by_field: dict[tuple[str, str], int] = {}
    for index in sorted(range(len(quotes)), key=lambda index: not quotes[index].is_key):
        by_field.setdefault((quotes[index].ref_id, quotes[index].field), index)
    ranked = list(by_field.values())
    return [quotes[index] for index in sorted(ranked[:most])]


def _quote_line(quote: NoteQuote) -> str:
    at = "" if quote.after_ms is None else f"{quote.after_ms / 1_000:+.3f} s"
    mark = "*" if quote.is_key else "-"
    # The kind of the object, such as "Failed tool call", would take the room of the quotation.
    name = quote.title.partition(": ")[2] or quote.title
    return f"  {mark} {at} {name[:_NAME_CHARS]}, {quote.field}: {quote.snippet}"


def _one_line(text: str) -> str:
    return plain(" ".join(text.split()))


def _cut(text: str, width: int) -> str:
    """Return a text on one line of at most `width` columns; a longer text is cut. Leading blanks are kept."""
    blanks = len(text) - len(text.lstrip(" "))
    line = " " * blanks + _one_line(text[: 8 * width])
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"


def _indented(text: str, console: Console, width: int, most: int) -> list[str]:
    """Return one entry of a printed list as at most `most` lines of at most `width` columns.

    Leading blanks are kept. The second and later lines are indented by two more blanks. `console` is the terminal; it
    measures the width of texts.
    """
    if most == 1:
        return [_cut(text, width)]
    blanks = len(text) - len(text.lstrip(" "))
    first, *rest = _wrapped(text, console, width - blanks - 2, most)
    return [f"{' ' * blanks}{first}", *(f"{' ' * (blanks + 2)}{line}" for line in rest)]


def _wrapped(text: str, console: Console, width: int, most: int) -> list[str]:
    """Return a text in at most `most` lines of at most `width` columns; a longer text ends with an ellipsis.

    `console` is the terminal, which measures the width of texts.
    """
    line = Text(_one_line(text[: 8 * width * most]))
    lines = [found.plain.rstrip() for found in line.wrap(console, width, overflow="fold")]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _cut(" ".join(lines[most - 1 : most + 1]), width)]
