"""Evaluate relab on real failures: convert, post, analyse, check, count. See `evals/README.md`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from evals.api_client import CONCURRENCY, REQUEST_TIMEOUT_S, Outcome, Stage, analyse, post_run, run_stage
from evals.datasets import tau_bench, trail, who_and_when
from evals.datasets.source import MissingDataError, bodies, find_data
from evals.lab_server import ServerStartError, running_server
from evals.real_summary import Summary, summarise
from evals.real_tables import print_summary

SOURCES = (trail.SOURCE, tau_bench.SOURCE, who_and_when.SOURCE)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation and return its exit code: 0 ok, 1 failed, 64 no data, 69 no server."""
    options = _parser().parse_args(arguments)
    progress_console = Console(stderr=True)
    try:
        data = find_data(options.data)
        with _progress(progress_console) as progress:
            outcomes = _convert(data, options.only, progress)
            if options.dry_run:
                return _dry_run(outcomes, as_json=options.json)
            outcomes.extend(_controls(outcomes))
            with nullcontext(options.url) if options.url else running_server() as url:
                summary = asyncio.run(_evaluate(url, outcomes, progress))
    except MissingDataError as error:
        progress_console.print(str(error), style="red", markup=False)
        return EXIT_USAGE
    except (ServerStartError, httpx.HTTPError) as error:
        progress_console.print(str(error), style="red", markup=False)
        return EXIT_UNAVAILABLE
    if options.json:
        print(json.dumps({**summary.as_json(), "runs": [_row(outcome) for outcome in outcomes]}, indent=2))
    else:
        print_summary(Console(), summary)
    return EXIT_OK if summary.ok else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evals.load_real", description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory (default: $RELAB_DATA, else ../shared/data)")
    parser.add_argument("--url", help="a running server (default: start one of its own, on the embedded default)")
    parser.add_argument("--only", choices=[source.name for source in SOURCES], help="one data set instead of all")
    parser.add_argument("--dry-run", action="store_true", help="convert and validate only, without a server")
    parser.add_argument("--json", action="store_true", help="print the summary and one row per run as JSON")
    return parser


@contextmanager
def _progress(console: Console) -> Generator[Progress]:
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield progress


def _convert(data: Path, only: str | None, progress: Progress) -> list[Outcome]:
    sources = [source for source in SOURCES if only in {None, source.name}]
    outcomes: list[Outcome] = []
    for source in progress.track(sources, description="converting"):
        outcomes.extend(Outcome(source.name, body) for body in bodies(source, data))
    return outcomes


def _controls(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return copies of the passed tau-bench runs with the status failure, which measure false alarms."""
    passed = (o.body for o in outcomes if o.dataset == tau_bench.NAME and o.body["status"] == "success")
    return [Outcome(tau_bench.CONTROL, tau_bench.report_failed(body)) for body in passed]


def _dry_run(outcomes: Sequence[Outcome], *, as_json: bool) -> int:
    """Validate every body against the schema of the API, offline."""
    from relab.core.errors import InvalidInputError  # noqa: PLC0415 - only this mode needs the package itself
    from relab.core.json import parse_json  # noqa: PLC0415 - as above
    from relab.telemetry.models import AgentRun  # noqa: PLC0415 - as above

    rejected: dict[str, str] = {}
    for outcome in outcomes:
        try:
            AgentRun.model_validate(parse_json(json.dumps(outcome.body).encode()))
        except (ValidationError, InvalidInputError) as error:
            rejected[outcome.run_id] = str(error)
    if as_json:
        print(json.dumps({"ok": not rejected, "runs": len(outcomes), "rejected": rejected}, indent=2))
    else:
        for run_id, reason in rejected.items():
            print(f"{run_id}: {reason}")
        print(f"{len(outcomes) - len(rejected)} of {len(outcomes)} bodies are valid agent runs")
    return EXIT_FAILED if rejected else EXIT_OK


async def _evaluate(url: str, outcomes: list[Outcome], progress: Progress) -> Summary:
    limits = httpx.Limits(max_connections=CONCURRENCY)
    seconds: dict[str, float] = {}
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_S, limits=limits) as client:

        async def timed(name: str, stage: Stage, chosen: list[Outcome]) -> None:
            task = progress.add_task(name, total=len(chosen))
            started = time.perf_counter()
            await run_stage(client, stage, chosen, lambda: progress.advance(task))
            seconds[name] = round(time.perf_counter() - started, 3)

        (await client.get("/readyz")).raise_for_status()
        await timed("posting", post_run, outcomes)
        await timed("analysing", analyse, [outcome for outcome in outcomes if outcome.accepted])
    return summarise(outcomes, seconds)


def _row(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome of one run as a row of the JSON output."""
    report = outcome.report or {}
    return {
        "dataset": outcome.dataset,
        "run_id": outcome.run_id,
        "status": outcome.body["status"],
        "accepted": outcome.accepted,
        "reason": outcome.reason,
        "crash": outcome.crash,
        "category": report.get("category"),
        "detail": report.get("detail"),
        "insufficient_evidence": report.get("insufficient_evidence"),
        "attribution": report.get("attribution"),
        "findings": report.get("findings"),
        "hypotheses": len(report.get("hypotheses", [])),
        "evidence": outcome.check.evidence,
        "problems": outcome.check.problems,
        "analysis_s": outcome.analysis_s,
    }


if __name__ == "__main__":
    sys.exit(main())
