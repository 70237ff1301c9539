"""Print a note of a root cause analysis so that it fits one screen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from relab.cli.output import plain

if TYPE_CHECKING:
    from relab.rca.service import NoteQuote, RunNote

WIDTH: Final = 100
HEIGHT: Final = 24
_SUMMARY_LINES: Final = 5
_WHERE_LINES: Final = 2
_JUDGE_LINES: Final = 2
_MIN_QUOTES: Final = 3
_MAX_QUOTES: Final = 8
_CHANGE_LINES: Final = 6
_OTHER_CHANGES: Final = 2
_NAME_CHARS: Final = 40


def print_note(note: RunNote, console: Console | None = None) -> None:
    """Print a note in at most 24 lines of at most 100 columns, or the width of a narrower terminal.

    Long texts are cut; `--full` prints all of them. Without a `console`, stdout is used.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    width = min(console.width, WIDTH)
    for line, style in _lines(note, console, width):
        console.print(Text(line, style=style), no_wrap=True, crop=True, overflow="crop", width=width)


def _lines(note: RunNote, console: Console, width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of a note, each with its style."""
    head = [(text, "bold") for text in _wrapped(f"Run {note.run_id}: {note.headline}", console, width, 1)]
    head += [(text, "") for text in _wrapped(note.what, console, width, _SUMMARY_LINES)]
    context = "The run has changed since this analysis." if note.is_stale else note.context
    if context is not None:
        head += [(text, "dim") for text in _wrapped(context, console, width, 1)]
    if note.recurrence is not None:
        head += [(text, "") for text in _wrapped(f"{note.recurrence}.", console, width, 1)]
    if note.where is not None:
        head += [(text, "bold") for text in _wrapped(f"Where: {note.where}", console, width, _WHERE_LINES)]
    if note.candidates:
        head.append(("Steps that may have gone wrong first (ranked guess):", "bold"))
        head += [(_cut(f"  {rank}. {text}", width), "") for rank, text in enumerate(note.candidates, 1)]
    if note.passing:
        more = f" ({len(note.passing) - 1} more with --full)" if len(note.passing) > 1 else ""
        head.append((_cut(f"Beside: {note.passing[0]}{more}", width), ""))
    if note.judge is not None:
        head += [(text, "") for text in _wrapped(note.judge, console, width, _JUDGE_LINES)]
    if note.behaviours:
        head.append((_cut(f"Also seen: {'; '.join(note.behaviours)}", width), ""))
    if note.not_judged:
        head.append((_cut(f"Not judged: {'; '.join(note.not_judged)}", width), "dim"))
    # One line for the heading of the evidence, one for that of the changes, one for the footer.
    free = HEIGHT - len(head) - min(len(note.quotes), _MAX_QUOTES) - 3
    changes = list(_changes(note, console, width, max(free, _CHANGE_LINES)))
    footer = [(f"More: lab rca {note.run_id} --full, --markdown, --html FILE", "dim")]
    room = max(HEIGHT - len(head) - len(changes) - len(footer) - 1, _MIN_QUOTES)
    yield from head
    quotes = _chosen(note.quotes, min(room, _MAX_QUOTES))
    if quotes:
        left_out = len(note.quotes) - len(quotes)
        more = f" ({left_out} more with --full)" if left_out else ""
        yield f"Evidence, in order of time{more}:", "bold"
        for quote in quotes:
            yield _cut(_quote_line(quote), width), ""
    yield from changes
    yield from ((_cut(text, width), style) for text, style in footer)


def _changes(note: RunNote, console: Console, width: int, left: int) -> Iterator[tuple[str, str]]:
    """Yield at most `left` lines below a heading: the first change is shown in full if it fits, the others in one line each."""
    if not note.changes:
        return
    yield "What to change:", "bold"
    for rank, change in enumerate(note.changes, 1):
        most = max(left - min(len(note.changes) - 1, _OTHER_CHANGES), 1) if rank == 1 else 1
        if left < 1:
            return
        lines = _wrapped(f"{rank}. {change.title}: {change.description}", console, width - 2, most)
        left -= len(lines)
        yield from ((f"  {line}", "") for line in lines)


def _chosen(quotes: Sequence[NoteQuote], most: int) -> list[NoteQuote]:
    """Return at most `most` pieces of evidence in their order: first those that the cause rests on."""
    ranked = sorted(range(len(quotes)), key=lambda index: not quotes[index].is_key)
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
    """Return a text on one line of at most `width` columns; leading blanks stay."""
    blanks = len(text) - len(text.lstrip(" "))
    line = " " * blanks + _one_line(text[: 8 * width])
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"


def _wrapped(text: str, console: Console, width: int, most: int) -> list[str]:
    """Return a text in at most `most` lines of at most `width` columns; a longer text ends with an ellipsis."""
    line = Text(_one_line(text[: 8 * width * most]))
    lines = [found.plain.rstrip() for found in line.wrap(console, width, overflow="fold")]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _cut(" ".join(lines[most - 1 : most + 1]), width)]
