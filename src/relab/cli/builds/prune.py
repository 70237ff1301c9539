"""`lab builds prune`: delete old builds, decisions and suggestions. Servers and builds may run meanwhile."""

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
    from relab.builds.models import KeptFiles
    from relab.builds.service import PrunedBuilds

_MB = 1_048_576


def prune(
    older_than: Annotated[
        str, typer.Option(help="Delete builds that started longer ago than this: 12h, 30d, 8w.", metavar="AGE")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how much would be deleted.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=5_000, help="Builds per transaction.")] = 200,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old builds with their logs, oldest first, and old decisions of the build optimizer and suggested fixes.

    The command also removes the caches and workspaces of projects whose last build on this machine is older than AGE.
    If all other caches and workspaces exceed RELAB_BUILDS__MAX_KEPT_GB, the least recently used ones are removed too.
    Running builds, the counters of /metrics, and agent runs of builds are kept.

    The command may be stopped at any time. Started again, it continues.
    """
    from dataclasses import asdict

    from relab.core.clock import format_time

    age_us = parse_age_us("--older-than", older_than)
    with open_services() as services:
        before_us = max(services.clock.now_us() - age_us, 0)
        before = format_time(before_us)
        found = services.builds.retention.count(before_us)
        kept = services.builds.kept.total(unused_since_us=before_us)
        if not dry_run:
            if not yes and (any(asdict(found).values()) or kept.removed_folders):
                confirm(f"Delete {_numbers(found)} from before {before}{_more(kept)}?")
            found = _prune(services, before_us, batch)
            kept = services.builds.kept.enforce(unused_since_us=before_us)
    if as_json:
        print_json("builds prune", before=before, dry_run=dry_run, **asdict(found), kept=asdict(kept))
        return
    verb = "would be deleted" if dry_run else "deleted"
    print(f"{_numbers(found)} from before {before} {verb}.")
    shown = f"of {kept.removed_folders:,} project(s), {kept.removed_bytes / _MB:,.1f} MB, {verb}"
    print(f"Caches and workspaces {shown}; {kept.folders:,} project(s) keep {kept.size_bytes / _MB:,.1f} MB.")


def _more(kept: KeptFiles) -> str:
    if not kept.removed_folders:
        return ""
    return f", and the caches and workspaces of {kept.removed_folders:,} project(s), {kept.removed_bytes / _MB:,.1f} MB"


def _numbers(found: PrunedBuilds) -> str:
    return f"{found.builds:,} builds, {found.decisions:,} decisions and {found.suggestions:,} suggestions"


def _prune(services: Services, before_us: int, batch: int) -> PrunedBuilds:
    from relab.builds.service import PrunedBuilds

    total = PrunedBuilds()
    try:
        for done in services.builds.retention.prune(before_us, batch=batch):
            total += done
    except KeyboardInterrupt:
        print(f"Stopped; {total.builds:,} builds were deleted. Run the command again to continue.", file=sys.stderr)
        raise
    return total
