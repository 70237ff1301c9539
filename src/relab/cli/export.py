"""`lab agent-runs export`: runs, timelines or raw spans into a file, beside running servers."""

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

from relab.cli.output import _JSON_CONTROL as JSON_CONTROL
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json
from relab.cli.retention import parse_age_us

What = Literal["runs", "items", "spans"]
Format = Literal["jsonl", "parquet"]
_STDOUT = "-"


def export(
    output: Annotated[str, typer.Option("--output", "-o", help="The file to make, or - for stdout.")],
    format_: Annotated[Format, typer.Option("--format", help="JSON lines, or a Parquet table.")] = "jsonl",
    what: Annotated[
        What,
        typer.Option(help="Whole runs, as `ingest` takes them; their steps, calls and events; raw spans, as OTLP."),
    ] = "runs",
    agent: Annotated[str | None, typer.Option(help="Agent name.")] = None,
    version: Annotated[str | None, typer.Option(help="Agent version.")] = None,
    status: Annotated[
        Literal["success", "failure", "running", "cancelled"] | None, typer.Option(help="How runs ended.")
    ] = None,
    environment: Annotated[str | None, typer.Option()] = None,
    category: Annotated[str | None, typer.Option(help="The cause that RCA found.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Conversation or session id.")] = None,
    since: Annotated[str | None, typer.Option(help="Started at or after: 2024-01-15T10:30:00Z, or 7d ago.")] = None,
    until: Annotated[str | None, typer.Option(help="Started before: a time, or an age.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export runs, oldest first.

    Runs that match when it starts come once and whole; those deleted meanwhile are left out. The file
    appears when it is complete.
    """
    from relab.cli.context import open_services
    from relab.telemetry.models import RunFilter, RunStatus

    _check_target(output, format_, force=force, as_json=as_json)
    with open_services() as services:
        now_us = services.clock.now_us()
        run_filter = RunFilter(
            agent_name=agent,
            agent_version=version,
            status=RunStatus(status) if status else None,
            environment=environment,
            category=category,
            conversation_id=conversation,
            started_after_us=_moment_us("--since", since, now_us),
            started_before_us=_moment_us("--until", until, now_us),
        )
        try:
            with services.telemetry.export(run_filter, what) as runs:
                show = sys.stderr.isatty() and not as_json and output != _STDOUT
                with _progress(runs.total, show=show) as runs.on_progress, _target(output, force=force) as path:
                    if format_ == "parquet":
                        runs.write_parquet(path)
                    else:
                        _write_lines(runs.lines(), path if output != _STDOUT else None)
        except BrokenPipeError:
            # Whoever read has had enough (`| head`); Python must not try to write the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_FAILED) from None
        except OSError as error:
            raise _unwritable(output, error) from error
    if as_json:
        print_json("agent-runs export", output=output, format=format_, what=what, runs=runs.total)
        return
    _tell(runs.total, what, output)


def _check_target(output: str, format_: Format, *, force: bool, as_json: bool) -> None:
    """Refuse before any work what cannot end well.

    Raises:
        InvalidInputError: the output cannot be what is asked for.
        ConflictError: there is such a file.
    """
    from relab.core.errors import ConflictError, InvalidInputError

    if output == _STDOUT:
        if as_json:
            raise InvalidInputError("--json and --output - both write to stdout.", remedy="Name a file.")
        if format_ == "parquet" and sys.stdout.isatty():
            raise InvalidInputError("Parquet is not for a terminal.", remedy="Name a file, or pipe it.")
        return
    path = Path(output)
    try:
        if not path.parent.is_dir():
            raise InvalidInputError(f"There is no folder {path.parent}.", remedy="Make it first.")
        if path.exists():
            if not path.is_file():
                raise InvalidInputError(f"{path} is not a regular file.", remedy="Name a file, or - for stdout.")
            if not force:
                raise ConflictError(f"The file {path} exists.", remedy="Use --force to replace it.")
    except OSError as error:
        raise _unwritable(output, error) from error


def _moment_us(option: str, text: str | None, now_us: int) -> int | None:
    from relab.core.clock import parse_time
    from relab.core.errors import InvalidInputError

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        try:
            return max(now_us - parse_age_us(option, text), 0)
        except InvalidInputError:
            raise InvalidInputError(
                f"{option}: {error}.", remedy="Write such a time, or an age: 12h, 30d, 8w."
            ) from error


def _write_lines(lines: Iterable[str], path: Path | None) -> None:
    """Write lines to a file, or to stdout."""
    if path is not None:
        with path.open("wb", buffering=1_048_576) as file:
            file.writelines(line.encode() + b"\n" for line in lines)
        return
    for line in lines:
        # A terminal gets no control characters; the JSON says the same.
        sys.stdout.buffer.write(line.translate(JSON_CONTROL).encode() + b"\n")
    sys.stdout.buffer.flush()


@contextmanager
def _target(output: str, *, force: bool) -> Iterator[Path]:
    """Yield the path of a file to write; the output appears, whole and on disk, when the block ends well."""
    # Not followed, a link would be replaced by the file.
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
    from relab.core.errors import ConflictError

    with path.open("rb") as file:
        os.fsync(file.fileno())
    if not force:
        try:
            # Unlike a rename, this fails if the file has come into being meanwhile.
            os.link(path, final)
        except FileExistsError as error:
            raise ConflictError(f"The file {final} exists.", remedy="Use --force to replace it.") from error
        except OSError:
            # A file system without links.
            path.replace(final)
        return
    path.replace(final)


@contextmanager
def _progress(total: int, *, show: bool) -> Iterator[Callable[[int], object]]:
    """Yield what is to be told how many runs are done."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("Exporting", total=total)
        yield lambda done: progress.update(task, completed=done)


def _tell(total: int, what: What, output: str) -> None:
    whose = {"runs": "", "items": "The timelines of ", "spans": "The spans of "}[what]
    target, stream = ("", sys.stderr) if output == _STDOUT else (f" to {plain(output)}", sys.stdout)
    print(f"{whose}{total:,} agent run(s) exported{target}.", file=stream)


def _unwritable(output: str, error: OSError) -> Exception:
    from relab.core.errors import ConfigurationError

    reason = error.strerror or str(error)
    return ConfigurationError(
        f"The export to {output} cannot be written: {reason}.",
        remedy="Choose a folder that this user can write, on a disk with room.",
    )
