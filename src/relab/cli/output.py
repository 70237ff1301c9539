"""The output of commands: tables for people, `--json` for programs, errors to stderr.

Untrusted text is printed literally. Rich markup in it has no effect. Control characters are escaped, because they could
move the cursor or change colours. The second and later lines are indented, or the line ends are escaped. Otherwise a line
of the text could look like output of the command itself.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import stat
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli import simple_tables
from relab.cli.streams import discard_stdout, is_stdout_readonly
from relab.core.control_characters import SURROGATES, escape_json, escape_text
from relab.core.errors import (
    ConfigurationError,
    ConflictError,
    ExtraMissingError,
    InUseError,
    InvalidInputError,
    NotConfiguredError,
    RelabError,
    UnavailableError,
)

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

PIPE_WIDTH = 240
READABLE = 8
"""The minimum width of a readable column, in characters; a narrower column splits most words."""

EXIT_FAILED = 1
EXIT_UNDECIDED = 2
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_INTERNAL = 70
EXIT_BUDGET = 75
"""A ceiling of the budget ended the run (EX_TEMPFAIL of sysexits.h: to be tried again, here with a higher ceiling)."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, SIGTERM or SIGHUP ended the command (128 + SIGINT, as shells report it)."""
EXIT_CLOSED_PIPE = 141
"""The reader of the output has closed its pipe (128 + SIGPIPE, as shells report it for other programs)."""

_CELL_INDENT = " " * 6
ERROR_INDENT = " " * 5
"""The indentation of the further lines of a message that begins with `lab: `."""

_NOT_REPLACEABLE = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY))


def plain(text: object) -> str:
    """Return the text as one line, with line ends and control characters escaped.

    A terminal would execute a control character. A second line could look like output of the command itself.
    """
    return plain_lines(text).replace("\n", "\\n")


def plain_lines(text: object, indent: str = "") -> str:
    """Return the text with control characters escaped, except line ends and tabs.

    Args:
        text: the text.
        indent: the text to put before each line except the first, so that no line looks like output of the command
            itself. Leave it empty only for a whole document, such as a file or a report.
    """
    return escape_text(str(text)).replace("\n", f"\n{indent}")


def argument(text: object) -> str:
    """Return the text as an argument for a shell command that people copy: quoted if necessary, on one line."""
    return plain(shlex.quote(str(text)))


def print_json(command: str, **fields: Any) -> None:
    """Print one JSON object with `ok` (true), `command` and `fields`."""
    text = json.dumps({"ok": True, "command": command, **fields}, ensure_ascii=False, indent=_indent())
    print(escape_json(text))


def _indent() -> int | None:
    """Return the indentation of JSON output: 2 in a terminal, otherwise None.

    None puts the JSON document on one line, for programs that read only the last line of the output.
    """
    return 2 if sys.stdout.isatty() else None


def print_json_line(command: str, *, is_ok: bool = True, **fields: Any) -> None:
    """Print one JSON object with `ok` (the value of `is_ok`), `command` and `fields` on one line, and flush stdout."""
    text = json.dumps({"ok": is_ok, "command": command, **fields}, ensure_ascii=False)
    print(escape_json(text), flush=True)


def print_table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], *, empty: str | None = None
) -> None:
    """Print a table below its title; each row has a cell for each column, and None is shown as a hyphen.

    The first column is never wrapped. If stdout is not a terminal, lines have at most 240 characters. In a terminal that
    is too narrow for the columns, each row is printed as a list of its cells.

    If there are no rows and `empty` is given, the sentence `empty` is printed instead of the table.
    """
    names = [plain(column) for column in columns]
    texts = [["-" if cell is None else _cell(cell, index) for index, cell in enumerate(row)] for row in rows]
    if not texts and empty is not None:
        # Unflushed, an error of a closed pipe would appear only at the end of the process.
        print(empty, flush=True)
        return
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else PIPE_WIDTH
    if texts and is_terminal and _readable_width(names, texts) > width:
        print("\n".join([plain(title), *(_as_list(names, row) for row in texts)]), flush=True)
        return
    drawn = None
    if simple_tables.can_draw():
        drawn = simple_tables.draw(plain(title), names, texts, width=width, has_styles=is_terminal)
    if drawn is None:
        _print_rich_table(plain(title), names, texts, width=width)
    else:
        print(drawn, flush=True)


def _print_rich_table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> None:
    """Print a table by Rich, which wraps cells where the table would be wider than `width`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # A title or a name of type `str` would be read as markup, and both may contain ids.
    table = Table(title=Text(title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(names):
        table.add_column(Text(name), overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    stdout_console(width=width).print(table)


def _cell(cell: object, index: int) -> str:
    """Return the text of a cell with control characters escaped; if `index` (the column) is 0, also line ends."""
    return plain_lines(cell) if index else plain(cell)


def stdout_console(**options: Any) -> Console:
    """Return Rich's console for stdout; `options` are the arguments of `Console`.

    If the reader of stdout has closed its pipe, printing raises BrokenPipeError, as `print` does. Rich's own console
    would end the process with 1, the code of a failed command.
    """
    from rich.console import Console

    class StdoutConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 Rich calls this method while it handles the BrokenPipeError

    return StdoutConsole(**options)


def _readable_width(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the minimum width of a readable table, in characters.

    The first column is never wrapped. Each other column needs the width of its longest text, but at most `READABLE`.
    """
    widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
    return widths[0] + sum(min(width, READABLE) for width in widths[1:]) + 2 * len(widths) + len(widths) - 1


def _as_list(names: Sequence[str], row: Sequence[str]) -> str:
    """Return a row of a table as text: one line `name of the column: cell` for each cell.

    The second and later lines of a cell are indented.
    """
    cells = (f"  {name}: {plain_lines(cell, _CELL_INDENT)}" for name, cell in zip(names[1:], row[1:], strict=True))
    return "\n".join([f"\n{names[0]}: {row[0]}", *cells])


def check_writable(*paths: Path | None) -> None:
    """Check, before the work begins, that these files of results can be written; None is skipped.

    Raises:
        InvalidInputError: a file cannot be written.
    """
    for path in filter(None, paths):
        if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            raise InvalidInputError(f"{path} cannot be written.", remedy="Choose a file in an existing folder.")


def write_text(path: Path, text: str, *, overwrite: bool, option: str = "--force") -> None:
    """Write a text to a file; an existing file is replaced only if `overwrite` is true.

    Args:
        path: the path of the file.
        text: the text.
        overwrite: whether to replace an existing file.
        option: the name of the command's option for `overwrite`, for the error message.

    Raises:
        ConflictError: the file exists, and `overwrite` is false.
        ConfigurationError: the file cannot be written. An existing file usually keeps its old text. But a file that
            cannot be replaced (such as a mount point) is overwritten in place, and may be incomplete.
    """
    try:
        write_file(path, text, overwrite=overwrite)
    except FileExistsError as error:
        raise ConflictError(f"The file {path} exists.", remedy=f"Use {option} to replace it.") from error
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or error}.",
            remedy="Choose a folder that this user can write to, on a disk with free space.",
        ) from error


def write_file(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text to a file; a symbolic link is followed.

    A replaced file keeps its permissions and, if possible, its owner.

    Args:
        path: the path of the file.
        text: the text.
        overwrite: whether to replace an existing file.

    Raises:
        FileExistsError: the file exists, and `overwrite` is false.
        OSError: the file cannot be written. A new file is deleted. An existing file usually keeps its old text. But a
            file that cannot be replaced (such as a mount point or a named pipe) is overwritten in place, and may be
            incomplete.
    """
    content = text.encode(errors="replace")
    if not overwrite:
        _write_new(path, content)
    elif path.exists() and not path.is_file():
        # For example a named pipe.
        path.write_bytes(content)
    else:
        # Not `Path.resolve`, which raises RuntimeError for a link to itself.
        target = Path(os.path.realpath(path))
        # The file is replaced, so other hard links to it keep the old text.
        (_replace if target.exists() else _write_new)(target, content)


def _write_new(path: Path, content: bytes) -> None:
    """Write a new file; after an error or an interruption, no part of the file is left."""
    path.touch(exist_ok=False)
    try:
        path.write_bytes(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _replace(path: Path, content: bytes) -> None:
    """Replace an existing regular file atomically; its permissions and, if possible, its owner stay.

    A file that cannot be replaced, such as a mount point, is overwritten in place.
    """
    from relab.core.atomic_files import replacing

    old = path.stat()
    try:
        with replacing(path) as fresh:
            # Without permissions for others until the owner is set.
            fresh.touch(mode=0o600, exist_ok=False)
            fresh.write_bytes(content)
            with suppress(OSError):
                os.chown(fresh, old.st_uid, old.st_gid)
            fresh.chmod(stat.S_IMODE(old.st_mode))
    except OSError as error:
        if error.errno not in _NOT_REPLACEABLE:
            raise
        path.write_bytes(content)


def report_error(error: Exception) -> int:
    """Print an error to stderr, or with `--json` as JSON to stdout, and return the exit code for it."""
    from relab.core.atomic_files import is_disk_full

    if isinstance(error, OSError) and is_disk_full(error):
        place = error.filename or "A file or the output"
        message = f"{place} cannot be written: {error.strerror}. Free space on its disk, then try again."
        print_error("disk_full", message)
        _flush_or_discard_stdout()
        return EXIT_UNAVAILABLE
    if isinstance(error, OSError) and error.errno == errno.EBADF and is_stdout_readonly():
        message = f"The standard output cannot be written: {error.strerror}. Give the command one, such as /dev/null."
        print_error("stdout_unwritable", message)
        _flush_or_discard_stdout()
        return EXIT_UNAVAILABLE
    if (problem := _usage_problem(error)) is not None:
        print_error("usage", problem)
        return EXIT_USAGE
    if not isinstance(error, RelabError):
        traceback.print_exception(error)
        message = f"Internal error: {type(error).__name__}: {error}"
        if "--json" not in sys.argv:
            # The traceback names the error already.
            message = "Internal error: please report the traceback above."
        print_error("internal", message)
        return EXIT_INTERNAL
    details: dict[str, Any] = {}
    if isinstance(error, InvalidInputError) and error.problems:
        details["problems"] = [{"field": field, "message": message} for field, message in error.problems]
    print_error(error.code, str(error), details)
    if isinstance(error, UnavailableError | ConfigurationError | InUseError | ExtraMissingError | NotConfiguredError):
        return EXIT_UNAVAILABLE
    return EXIT_USAGE if isinstance(error, InvalidInputError) else EXIT_FAILED


def _flush_or_discard_stdout() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()


def _usage_problem(error: Exception) -> str | None:
    """Return a message if an argument or the working directory of the command caused the error; otherwise None."""
    if isinstance(error, UnicodeEncodeError) and (argument := _undecodable_argument(error.object)) is not None:
        return f"The argument '{plain(argument)}' is not valid UTF-8."
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        # Only an argument can contain such a name, because relab's own file names are short.
        return f"A name is too long for a file: {str(error.filename)[:100]}… Give a shorter one."
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return "The working directory does not exist any more. Change to an existing folder, then try again."
    return None


def _has_working_directory() -> bool:
    """Return whether the working directory of this process still exists."""
    try:
        os.getcwd()  # noqa: PTH109 the call that fails
    except FileNotFoundError:
        return False
    return True


def _undecodable_argument(text: str) -> str | None:
    """Return the command-line argument with invalid UTF-8 that caused an error; None if no argument caused it.

    Args:
        text: the message of the error, which contains the invalid bytes.
    """
    invalid = {letter for letter in text if ord(letter) in SURROGATES}
    return next((each for each in sys.argv[1:] if invalid & set(each)), None)


def print_json_error(code: str, message: str, details: dict[str, Any] | None = None, **fields: Any) -> None:
    """Print one JSON object with `ok` (false), the error and `fields`.

    Args:
        code: the name of the error, for programs.
        message: the message for people.
        details: further data about the error, such as the invalid fields; None if there are none.
        fields: other fields of the object.
    """
    error = {"code": code, "message": message, "details": details or {}}
    print(json.dumps({"ok": False, **fields, "error": error}, indent=_indent()))


def print_error(code: str, message: str, details: dict[str, Any] | None = None) -> None:
    """Print an error: with `--json` as JSON to stdout, otherwise, or if stdout cannot be written, as text to stderr.

    The arguments are those of `print_json_error`. On stderr, the message is followed by the problems in `details`.
    """
    if "--json" in sys.argv:
        try:
            print_json_error(code, message, details)
            sys.stdout.flush()
        except OSError:
            discard_stdout()
        else:
            return
    print(f"lab: {plain_lines(message, ERROR_INDENT)}", file=sys.stderr)
    for problem in (details or {}).get("problems", []):
        said = f"{problem['field']}: {problem['message']}"
        # Most messages quote the first problem.
        if said not in message:
            print(f"  {plain_lines(said, ERROR_INDENT)}", file=sys.stderr)
