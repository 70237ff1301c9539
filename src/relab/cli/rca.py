"""`lab rca`: analyse why an agent run failed."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.rca.models import RcaRun

POLL_S = 0.05
PATIENCE_S = 3.0
"""How long this command waits for a live worker to claim the job, in seconds; then it runs the job itself."""


def analyze(
    run_id: Annotated[str, typer.Argument(help="The agent run's id.")],
    follow: Annotated[bool, typer.Option(help="Print each stage when it begins.")] = False,
    force: Annotated[bool, typer.Option(help="Analyse again even if an analysis exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Analyse why an agent run failed, and print the report. Exit code 1 if the analysis itself failed."""
    from relab.cli.context import open_services, run_follow_ups
    from relab.rca.models import RcaStatus

    with open_services() as services:
        receipt = services.rca.request(run_id, force=force)
        rca_run = _wait(services, receipt.rca_run_id, show=follow and not as_json)
        run_follow_ups(services)
    if as_json:
        print_json("rca", **rca_run.model_dump(mode="json"))
    elif rca_run.report is not None:
        from relab.cli.report import print_report

        print_report(run_id, rca_run.report)
    else:
        print(f"lab: the analysis failed: {plain(rca_run.error)}", file=sys.stderr)
    if rca_run.status is not RcaStatus.DONE:
        raise typer.Exit(EXIT_FAILED)


def _wait(services: Services, rca_run_id: str, *, show: bool) -> RcaRun:
    """Wait until the analysis has ended, and return it; run its job here if no worker claims it."""
    from relab.rca.models import RcaStatus

    runner = services.runner()
    patience_ends = time.monotonic() + (PATIENCE_S if services.worker_lives() else 0.0)
    seen = 0
    while True:
        rca_run = services.rca.get(rca_run_id)
        if show:
            for event in services.progress.read_after(rca_run_id, seen):
                print(f"{event.pct:3d} %  {plain(event.message)}", flush=True)
                seen = event.seq
        if rca_run.status in {RcaStatus.DONE, RcaStatus.FAILED}:
            return rca_run
        # The job has the analysis's id; claiming it is safe even if a worker wakes up now.
        if time.monotonic() >= patience_ends and runner.run_next(rca_run_id):
            continue
        time.sleep(POLL_S)
