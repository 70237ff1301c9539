"""`lab incidents prune`: delete incidents that ended long ago. Servers may run meanwhile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.confirming import confirm
from relab.cli.context import open_services
from relab.cli.output import JsonOption, print_json
from relab.cli.retention import parse_age_us

if TYPE_CHECKING:
    from relab.bootstrap import Services


def prune(
    older_than: Annotated[
        str, typer.Option(help="Delete incidents that ended longer ago than this: 12h, 30d, 8w.", metavar="AGE")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many incidents would be deleted.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=500, help="Incidents per transaction.")] = 100,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old incidents with their timelines, actions, approval requests, alerts and checkpoints, oldest first.

    Only incidents that are over are deleted. What relab learnt from the incidents is kept. Servers may run meanwhile.
    The command may be stopped at any time. Started again, it continues.
    """
    from relab.core.clock import format_time

    age_us = parse_age_us("--older-than", older_than)
    with open_services() as services:
        before_us = max(services.clock.now_us() - age_us, 0)
        before = format_time(before_us)
        incidents = services.incidents.retention.count(before_us)
        if not dry_run:
            if not yes and incidents:
                confirm(f"Delete {incidents:,} incident(s) that ended before {before}?")
            incidents = _prune(services, before_us, batch)
    if as_json:
        print_json("incidents prune", before=before, dry_run=dry_run, incidents=incidents)
        return
    verb = "would be deleted" if dry_run else "deleted"
    print(f"{incidents:,} incidents that ended before {before} {verb}.")


def _prune(services: Services, before_us: int, batch: int) -> int:
    done = 0
    try:
        for number in services.incidents.retention.prune(before_us, batch=batch):
            done += number
    except KeyboardInterrupt:
        print(f"Stopped; {done:,} incidents were deleted. Run the command again to continue.", file=sys.stderr)
        raise
    return done
