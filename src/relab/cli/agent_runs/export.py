"""`lab agent-runs export`: write runs, timelines, raw spans or log records to a file. Servers may run meanwhile."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from relab.cli.agent_runs.filters import RunFilterOptions, takes_run_filter
from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json
from relab.core.control_characters import escape_json
from relab.core.errors import ConfigurationError, ConflictError, InvalidInputError

What = Literal["runs", "items", "spans", "logs"]
Format = Literal["jsonl", "parquet"]
_STDOUT = "-"


@takes_run_filter
def export(
    options: RunFilterOptions,
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write, or - for stdout.")],
    format_: Annotated[Format, typer.Option("--format", help="JSON lines, or a Parquet table.")] = "jsonl",
    what: Annotated[
        What,
        typer.Option(
            help="Complete runs, in the format of `ingest`; their steps, calls and events; or raw spans or log records, as OTLP."
        ),
    ] = "runs",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export runs, oldest first.

    Each run that matches the options when the command starts is exported once, with its whole timeline. Runs that are
    deleted during the export are left out. The output file appears under its name only when it is complete.
    """
    _check_target(output, format_, force=force, as_json=as_json)
    with open_services() as services:
        run_filter = options.read(services.clock.now_us())
        try:
            with services.telemetry.export(run_filter, what) as runs:
                show = sys.stderr.isatty() and not as_json and output != _STDOUT
                with _progress(runs.total, show=show) as runs.on_progress, _target(output, force=force) as path:
                    if format_ == "parquet":
                        runs.write_parquet(path)
                    else:
                        _write_lines(runs.lines(), path if output != _STDOUT else None)
        except BrokenPipeError:
            # The reader of the standard output has closed the pipe (`| head`).
            raise
        except OSError as error:
            raise _unwritable(output, error) from error
    if as_json:
        print_json("agent-runs export", output=output, format=format_, what=what, runs=runs.total)
        return
    _report(runs.total, what, output)


def _check_target(output: str, format_: Format, *, force: bool, as_json: bool) -> None:
    """Check that the output can be written, before any run is exported.

    Raises:
        InvalidInputError: the folder of the output file does not exist, or the path exists but is not a regular file.
            For stdout: `as_json` also writes to stdout, or the format is Parquet and stdout is a terminal.
        ConflictError: the output file exists, and `force` is false.
        ConfigurationError: the output file cannot be accessed.
    """
    if output == _STDOUT:
        if as_json:
            raise InvalidInputError("--json and --output - both write to stdout.", remedy="Name a file after --output.")
        if format_ == "parquet" and sys.stdout.isatty():
            raise InvalidInputError(
                "Parquet cannot be written to a terminal.", remedy="Name a file, or redirect the output."
            )
        return
    path = Path(output)
    try:
        if not path.parent.is_dir():
            raise InvalidInputError(f"There is no folder {path.parent}.", remedy="Create it first.")
        if path.exists():
            if not path.is_file():
                raise InvalidInputError(f"{path} is not a regular file.", remedy="Name a file, or - for stdout.")
            if not force:
                raise ConflictError(f"The file {path} exists already.", remedy="Use --force to replace it.")
    except OSError as error:
        raise _unwritable(output, error) from error


def _write_lines(lines: Iterable[str], path: Path | None) -> None:
    """Write lines to a file; if `path` is None, to stdout."""
    if path is not None:
        with path.open("wb", buffering=1_048_576) as file:
            file.writelines(line.encode() + b"\n" for line in lines)
        return
    for line in lines:
        # Escaped, because control characters could change what a terminal shows; the JSON has the same meaning.
        sys.stdout.buffer.write(escape_json(line).encode() + b"\n")
    sys.stdout.buffer.flush()


@contextmanager
def _target(output: str, *, force: bool) -> Iterator[Path]:
    """Yield the path of a temporary file to write to. After the block, the temporary file becomes the output file.

    After an error in the block, the output file is not changed.

    Args:
        output: the path of the output file; `-` copies the content to stdout instead.
        force: whether to replace an existing output file.

    Raises:
        ConflictError: the output file exists, and `force` is false.
    """
    # Resolved, so that a link is followed and not replaced by the file.
    final = Path(output).resolve() if output != _STDOUT else None
    with tempfile.TemporaryDirectory(prefix=".lab-export-", dir=final.parent if final else None) as folder:
        path = Path(folder) / "exported"
        yield path
        if final is not None:
            _publish(path, final, force=force)
        elif path.exists():
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, 1_048_576)
            sys.stdout.buffer.flush()


def _publish(path: Path, final: Path, *, force: bool) -> None:

    with path.open("rb") as file:
        os.fsync(file.fileno())
    if not force:
        try:
            # Unlike a rename, this fails if another process has created the file meanwhile.
            os.link(path, final)
        except FileExistsError as error:
            raise ConflictError(f"The file {final} exists already.", remedy="Use --force to replace it.") from error
        except OSError:
            # The file system has no links.
            path.replace(final)
        return
    path.replace(final)


@contextmanager
def _progress(total: int, *, show: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of runs exported so far; it updates a progress bar on stderr.

    `total` is the number of runs to export. If `show` is false, there is no bar.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("Exporting", total=total)
        yield lambda done: progress.update(task, completed=done)


def _report(total: int, what: What, output: str) -> None:
    subject = {"runs": "", "items": "The timelines of ", "spans": "The spans of ", "logs": "The log records of "}[what]
    target, stream = ("", sys.stderr) if output == _STDOUT else (f" to {plain(output)}", sys.stdout)
    print(f"{subject}{total:,} agent run(s) exported{target}.", file=stream)


def _unwritable(output: str, error: OSError) -> Exception:

    reason = error.strerror or str(error)
    return ConfigurationError(
        f"The export to {output} cannot be written: {reason}.",
        remedy="Choose a folder that this user can write to, on a disk with enough space.",
    )
