"""The group `lab cache` (`list`, `clear`): the stored results of this project's trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relab.cli.confirming import confirm
from relab.cli.experiments.context import open_experiments
from relab.cli.output import JsonOption, print_json, print_table
from relab.cli.retention import parse_age_us

app = typer.Typer(help="The result cache of this project: `list`, `clear`.", no_args_is_help=True)

_MEGABYTE = 1_000_000


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, help="The largest number of results to print.")] = 200,
    json: JsonOption = False,
) -> None:
    """List the cached results of this project's trials, the most recently used first."""
    with open_experiments(telemetry=False) as service:
        found = service.list_cache(Path.cwd())
    size_bytes = sum(entry["size_bytes"] for entry in found)
    if json:
        print_json("cache list", entries=found[:limit], total=len(found), size_bytes=size_bytes)
        return
    names = ("trial", "variant_id", "task_id", "repl_idx", "outcome", "stored_at", "used_at", "size_bytes")
    columns = ("trial", "variant", "task", "repeat", "outcome", "stored", "used", "bytes")
    title = f"Stored results ({len(found):,}, {size_bytes / _MEGABYTE:,.1f} MB)"
    print_table(title, columns, ([entry[name] for name in names] for entry in found[:limit]))


@app.command("clear")
def clear(
    older_than: Annotated[
        str | None, typer.Option(help="Delete results that were not used for so long: 12h, 30d, 8w.", metavar="AGE")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete the cached results of this project's trials. Without --yes, the command asks for confirmation."""
    older_than_us = 0 if older_than is None else parse_age_us("--older-than", older_than)
    if not yes:
        confirm("Delete stored results of this project?")
    with open_experiments(telemetry=False) as service:
        removed = service.clear_cache(Path.cwd(), older_than_us=older_than_us)
    if json:
        print_json("cache clear", removed=removed)
        return
    print(f"removed: {removed:,} stored results")
