"""`lab clean`: delete files that `lab` created in a project, after a confirmation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.confirming import confirm
from relab.cli.experiments.context import open_experiments
from relab.cli.output import JsonOption, plain, print_json
from relab.cli.retention import parse_age_us

if TYPE_CHECKING:
    from relab.experiments.service import Cleaning

_MEGABYTE = 1_000_000


def clean(
    run: Annotated[list[Path] | None, typer.Argument(help="Runs to delete, by id or folder.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Delete runs older than this: 12h, 30d, 8w.", metavar="AGE")
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="Delete all runs of this project, and the cache.")] = False,
    init: Annotated[
        bool, typer.Option("--init", help="Delete .lab/experiment.yaml, its JSON Schema and the folder .lab/knobs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete runs, or the files of `lab init`, in this project. Without --yes, the command asks for confirmation."""
    from relab.experiments.service import clean

    older_than_us = None if older_than is None else parse_age_us("--older-than", older_than)
    with open_experiments(telemetry=False) as service:
        planned = service.plan_cleaning(Path.cwd(), run or (), init=init, runs=runs, older_than_us=older_than_us)
        for path in planned.damaged:
            print(
                f"lab: {plain(path)} cannot be read, so its age is unknown; it is kept unless you name it.",
                file=sys.stderr,
            )
        if planned.paths and not dry_run:
            if not yes:
                confirm(f"Delete {_describe(planned)} of {plain(Path.cwd())}?")
            clean(planned)
    if json:
        print_json("clean", removed=[str(path) for path in planned.paths], dry_run=dry_run)
        return
    for path in planned.paths:
        print(f"{'would be removed' if dry_run else 'removed'}: {plain(path)}")
    if not planned.paths:
        print("There is nothing to delete.")


def _describe(planned: Cleaning) -> str:
    """Return a text about the files to delete, such as "3 run(s) and 1 other file(s) or folder(s) (12.5 MB)"."""
    parts = [f"{len(planned.runs)} run(s)"] if planned.runs else []
    parts += [f"{len(planned.others)} other file(s) or folder(s)"] if planned.others else []
    return f"{' and '.join(parts)} ({planned.size_bytes / _MEGABYTE:,.1f} MB)"
