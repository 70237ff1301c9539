"""How commands speak: tables for people, `--json` for programs, errors to stderr.

Text that came from outside is printed as text: Rich markup in it does nothing, and
control characters (which could move the cursor or change colours) are shown, not sent.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_INTERNAL = 70

_CONTROL = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


def plain(text: object) -> str:
    """Return text that a terminal shows and does not obey."""
    return str(text).translate(_CONTROL)


def print_json(command: str, **fields: Any) -> None:
    """Print one JSON object: `ok`, `command` and the fields."""
    print(json.dumps({"ok": True, "command": command, **fields}, ensure_ascii=False, indent=2))


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; None is shown as a hyphen."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else plain(cell)) for cell in row))
    Console().print(table)


def report_error(error: Exception) -> int:
    """Print what went wrong to stderr and return the exit code that says so."""
    from relab.core.errors import ConfigurationError, InvalidInputError, RelabError, UnavailableError

    if not isinstance(error, RelabError):
        traceback.print_exception(error)
        _print_error("internal", f"Internal error: {type(error).__name__}: {error}", {})
        return EXIT_INTERNAL
    details: dict[str, Any] = {}
    if isinstance(error, InvalidInputError) and error.problems:
        details["problems"] = [{"field": field, "message": message} for field, message in error.problems]
    _print_error(error.code, str(error), details)
    if isinstance(error, UnavailableError | ConfigurationError):
        return EXIT_UNAVAILABLE
    return EXIT_USAGE if isinstance(error, InvalidInputError) else EXIT_FAILED


def _print_error(code: str, message: str, details: dict[str, Any]) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"ok": False, "error": {"code": code, "message": message, "details": details}}, indent=2))
        return
    print(f"lab: {plain(message)}", file=sys.stderr)
    for problem in details.get("problems", []):
        print(f"  {plain(problem['field'])}: {plain(problem['message'])}", file=sys.stderr)
