"""`lab agent-runs remap`: recompute stored runs by the rules of this version of relab."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relab.cli.agent_runs.filters import moment_us
from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, print_json


def remap(
    since: Annotated[
        str | None,
        typer.Option(help="Only runs that started at or after a time (2024-01-15T10:30:00Z) or an age (7d)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=5_000, help="Runs per transaction.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Update the stored runs that were last processed by an older version of relab, oldest first.

    The spans are converted to runs again, and the outcomes are decided again by the present rules. Servers and workers
    may run meanwhile. The command may be stopped at any time. Started again, it continues. Exit code 1: some runs could
    not be processed; the log names them.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    runs = projected = outcomes = skipped = 0
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    show = not as_json and sys.stderr.isatty()
    with open_services() as services:
        since_us = moment_us("--since", since, services.clock.now_us()) or 0
        try:
            with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
                task = progress.add_task("Remapping", total=services.telemetry.count_outdated(since_us))
                for done in services.telemetry.remap(since_us, batch=batch):
                    runs += done.counts.runs
                    projected += done.counts.projected
                    outcomes += done.counts.outcomes
                    skipped += done.counts.skipped
                    progress.update(task, advance=done.counts.runs + done.counts.skipped)
        except KeyboardInterrupt:
            print(f"Stopped; {runs:,} runs were examined. Run the command again to continue.", file=sys.stderr)
            raise
    if as_json:
        print_json("agent-runs remap", runs=runs, projected=projected, outcomes_changed=outcomes, skipped=skipped)
    else:
        failed = f" {skipped:,} could not be computed; the log names them." if skipped else ""
        print(f"{runs:,} outdated runs examined: {projected:,} have new content, {outcomes:,} another outcome.{failed}")
    if skipped:
        raise typer.Exit(EXIT_FAILED)
