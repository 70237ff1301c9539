"""`lab rca --all`: analyse all failed runs that match the options."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from relab.cli.context import run_follow_ups
from relab.cli.output import EXIT_FAILED, plain, print_json, print_table

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.rca.models import RcaSummary
    from relab.telemetry.models import RunFilter

WINDOW: Final = 50
"""The number of analyses of a batch that wait in the queue at once. It is half of the limit for automatic analyses, so
that these continue."""
POLL_S: Final = 0.05
PATIENCE_S: Final = 3.0
"""How long this command waits for a live worker to finish an analysis of the batch, in seconds; then it runs one itself."""


def analyze_all(services: Services, run_filter: RunFilter, *, force: bool, as_json: bool) -> int:
    """Analyse the failed runs that match the filter, newest first; print the result, and return the exit code.

    The exit code is 1 if an analysis itself failed, else 0.

    Args:
        services: the services of the command.
        run_filter: the filter.
        force: whether to analyse runs again that have an analysis already.
        as_json: whether to print JSON.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = services.telemetry.failed.count(run_filter)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=Console(stderr=True), disable=as_json or not sys.stderr.isatty())
    items: list[dict[str, Any]] = []
    with shown:
        task = shown.add_task("Analysing", total=total)
        after = None
        while page := services.telemetry.failed.list(run_filter, after=after, limit=WINDOW):
            after = page[-1]
            # They are queued in the lane `background`, so a requested analysis waits for at most one. After Ctrl-C,
            # workers run the rest.
            receipts = services.rca.request_batch({run.run_id: run.content for run in page}, force=force)
            ended = _wait(services, {receipt.rca_run_id for receipt in receipts.values()}, lambda: shown.advance(task))
            run_follow_ups(services, at_most=2 * WINDOW)
            for run_id, receipt in receipts.items():
                summary = ended.get(receipt.rca_run_id)
                items.append(
                    {
                        "run_id": run_id,
                        "rca_run_id": receipt.rca_run_id,
                        "created": receipt.created,
                        "status": str(summary.status) if summary is not None else "deleted",
                        "category": summary.category if summary is not None else None,
                    }
                )
    return _print(items, as_json=as_json)


def _wait(services: Services, rca_run_ids: set[str], advance: Callable[[], object]) -> dict[str, RcaSummary]:
    """Wait until the analyses have ended, and return `{id: summary}`.

    A deleted analysis is missing in the result. If no worker runs the jobs of the analyses, this process does.

    Args:
        services: the services of the command.
        rca_run_ids: the ids of the analyses.
        advance: called once for each analysis that has ended.
    """
    from relab.rca.models import RcaStatus

    runner = services.runner()
    patience_s = PATIENCE_S if services.queue.worker_lives() else 0.0
    ended: dict[str, RcaSummary] = {}
    left = sorted(rca_run_ids)
    heard = time.monotonic()
    while left:
        found = services.rca.summaries(left)
        # An analysis that is missing was deleted together with its run.
        done = {each for each in left if each not in found or found[each].status in {RcaStatus.DONE, RcaStatus.FAILED}}
        ended |= {each: found[each] for each in done if each in found}
        left = [each for each in left if each not in done]
        for _ in done:
            advance()
        if done:
            heard = time.monotonic()
        # The jobs have the ids of the analyses; claiming one is safe even if a worker wakes up now.
        elif time.monotonic() - heard < patience_s or not any(runner.run_next(each) for each in left):
            time.sleep(POLL_S)
    return ended


def _print(items: list[dict[str, Any]], *, as_json: bool) -> int:
    failed = [item for item in items if item["status"] == "failed"]
    new = sum(item["created"] for item in items)
    if as_json:
        print_json("rca", runs=len(items), new=new, failed=len(failed), items=items)
    else:
        counts = Counter(item["category"] or item["status"] for item in items)
        print_table("Causes of failed runs", ("category", "runs"), counts.most_common())
        print(f"{len(items)} failed runs, {new} analysed now, {len(failed)} analyses failed.")
        for item in failed:
            print(f"failed: {plain(item['run_id'])} (analysis {item['rca_run_id']})", file=sys.stderr)
        if len(items) > 1:
            print("Failures that share a cause: lab rca clusters")
    return EXIT_FAILED if failed else 0
