"""`lab agent-runs prune`: delete old agent runs. Servers may run meanwhile."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.confirming import confirm
from relab.cli.context import open_services, run_follow_ups
from relab.cli.output import JsonOption, print_json
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.bootstrap import Services

BATCHES_PER_FOLLOW_UP = 10
"""After this number of transactions, this command also deletes the analyses, if no worker is alive to do so."""

_UNITS_H = {"h": 1, "d": 24, "w": 7 * 24}
_AGE = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_HOUR_US = 3_600_000_000


def prune(
    older_than: Annotated[
        str, typer.Option(help="Delete runs that started longer ago than this: 12h, 30d, 8w.", metavar="AGE")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how much would be deleted.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=5_000, help="Runs per transaction.")] = 200,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old runs with their timelines, spans, log records and analyses, oldest first.

    Log records that belong to no run are deleted too, if they were received longer ago than the given age.

    Servers and workers may run meanwhile. The command may be stopped at any time. Started again, it continues.
    """
    from relab.core.clock import format_time

    age_us = parse_age_us("--older-than", older_than)
    with open_services() as services:
        before_us = max(services.clock.now_us() - age_us, 0)
        before = format_time(before_us)
        found = services.telemetry.count_prunable(before_us, with_spans=dry_run)
        counts = (found.runs, found.spans, found.logs)
        if not dry_run:
            if not yes and found.runs:
                confirm(f"Delete {found.runs:,} run(s) that started before {before}?")
            counts = _prune(services, before_us, batch, found.runs, show=not as_json and sys.stderr.isatty())
    runs, spans, logs = counts
    if as_json:
        print_json("agent-runs prune", before=before, dry_run=dry_run, runs=runs, spans=spans, log_records=logs)
        return
    verb = "would be deleted" if dry_run else "deleted"
    with_logs = f" and {logs:,} log records" if logs else ""
    print(f"{runs:,} runs with {spans:,} spans{with_logs} that started before {before} {verb}.")


def parse_age_us(option: str, text: str) -> int:
    """Convert an age such as 12h, 30d or 8w to microseconds.

    Args:
        option: the name of the option, for the message.
        text: the age.

    Raises:
        InvalidInputError: the text is not an age; the message names the option.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        # Months and minutes are not accepted: "6m" could mean either, and minutes would delete nearly everything.
        raise InvalidInputError(
            f"{option} {text[:40]!r} is not an age.",
            remedy="Write a whole number and a unit, h, d or w: 12h, 30d, 8w.",
        )
    return int(match[1]) * _UNITS_H[match[2]] * _HOUR_US


def _prune(services: Services, before_us: int, batch: int, expected: int, *, show: bool) -> tuple[int, int, int]:
    """Delete runs that started before a time, in batches.

    Args:
        services: the services of the command.
        before_us: the time, in microseconds since 1970.
        batch: the largest number of runs in one transaction.
        expected: the number of runs that will be deleted, for the progress bar.
        show: whether to show a progress bar on stderr.

    Returns:
        The numbers of deleted runs, spans and log records.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    runs = spans = logs = 0
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
            task = progress.add_task("Pruning", total=expected)
            for number, done in enumerate(services.telemetry.prune(before_us, batch=batch), start=1):
                runs += done.runs
                spans += done.spans
                logs += done.logs
                progress.update(task, advance=done.runs)
                if number % BATCHES_PER_FOLLOW_UP == 0:
                    run_follow_ups(services, at_most=2 * BATCHES_PER_FOLLOW_UP)
        run_follow_ups(services, at_most=2 * BATCHES_PER_FOLLOW_UP)
    except KeyboardInterrupt:
        print(f"Stopped; {runs:,} runs were deleted. Run the command again to continue.", file=sys.stderr)
        raise
    return runs, spans, logs
