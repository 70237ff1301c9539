"""`lab agent-runs`: ingest runs from files, list, show, replay and delete them."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from relab.cli.agent_runs.export import export
from relab.cli.agent_runs.filters import RunFilterOptions, takes_run_filter
from relab.cli.agent_runs.remapping import remap
from relab.cli.agent_runs.views import TIMELINE_COLUMNS, cause_cell, field_rows, summary_rows, timeline_rows
from relab.cli.confirming import confirm
from relab.cli.context import open_services, run_follow_ups
from relab.cli.logs import logs
from relab.cli.output import EXIT_FAILED, JsonOption, argument, plain, print_json, print_table
from relab.cli.retention import prune
from relab.core.errors import ConflictError, InvalidInputError, MalformedBodyError, TooLargeError

if TYPE_CHECKING:
    from relab.telemetry.models import RunFilter, RunPage
    from relab.telemetry.service import TelemetryService

app = typer.Typer(
    help="Agent runs: ingest, list, show, timeline, logs, delete, prune, remap, export.", no_args_is_help=True
)

# The start of every OTLP request in JSON; no agent run has such a field.
_OTLP_SIGN = re.compile(rb'^\s*\{\s*"resource_?(?:[sS]pans|(?P<logs>[lL]ogs))"\s*:')

MAX_NAMED_ITEMS: Final = 10_000
_NO_RUNS: Final = "No agent runs found. To store runs: lab agent-runs ingest FILE, or send them to lab serve."
"""Items of a run whose titles `show` reads; evidence of a later item is named by its kind."""

RunId = Annotated[str, typer.Argument(help="The run's id.")]


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="A .json or .jsonl file, a folder of such files, or - for stdin.")],
    as_json: JsonOption = False,
) -> None:
    """Ingest agent runs. A file contains one run, a list of runs, or one run per line.

    A line may also be an OTLP request of traces or logs in JSON, as the OpenTelemetry collector's file exporter writes
    it. A rejected run, span or log record does not affect the others. Exit code 1 if any of them was rejected.
    """
    from rich.progress import track

    with open_services() as services:
        documents = list(_documents(source))
        shown = track(documents, description="Ingesting", disable=as_json or not sys.stderr.isatty())
        results = [_ingest_one(services.telemetry, origin, raw) for origin, raw in shown]
    rejected = [result for result in results if result["outcome"] == "rejected"]
    if as_json:
        print_json("agent-runs ingest", rejected=len(rejected), items=results)
    else:
        for result in rejected:
            print(f"rejected {plain(result['origin'])}: {plain(result['reason'])}", file=sys.stderr)
        counts = Counter(result["outcome"] for result in results)
        spans, logs = (sum(result.get(name, 0) for result in results) for name in ("spans", "log_records"))
        stored = f", {spans:,} spans stored" if spans else ""
        stored += f", {logs:,} log records stored" if logs else ""
        print(f"{counts['created']} created, {counts['updated']} updated{stored}, {len(rejected)} rejected.")
    if rejected:
        raise typer.Exit(EXIT_FAILED)


@app.command("list")
@takes_run_filter
def list_runs(
    options: RunFilterOptions,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of runs to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the runs that match all given options, newest first."""
    from relab.core.clock import format_time

    with open_services() as services:
        wanted = options.read(services.clock.now_us())
        page = services.telemetry.list_runs(wanted, limit=limit)
        left_out = 0 if as_json or wanted.all_traces else _count_left_out(services.telemetry, wanted, page)
        max_counted = services.telemetry.no_agent_activity.max_counted
    if as_json:
        print_json("agent-runs list", **page.model_dump(mode="json"))
        return
    rows = (
        (
            run.run_id,
            run.agent_name,
            run.agent_version,
            run.status,
            run.outcome.label,
            cause_cell(run),
            format_time(run.started_at),
            f"{run.counts.steps}/{run.counts.tool_calls}",
        )
        for run in page.items
    )
    columns = ("run", "agent", "version", "status", "outcome", "cause", "started", "steps/tool calls")
    print_table("Agent runs", columns, rows, empty=_NO_RUNS)
    if page.items:
        print("One run: lab agent-runs timeline RUN. Why it failed: lab rca RUN")
    if page.next_cursor:
        print(f"More runs match. Show more with --limit {limit * 2}.")
    if left_out:
        print(
            f"{_traces(left_out, max_counted)} without an agent, workflow, model call or tool call left out. Show them with --all-traces."
        )


def _traces(number: int, max_counted: int) -> str:
    """Return a number of traces as text, such as "3 traces"; "At least …" if it is `max_counted`, where counting stops."""
    if number >= max_counted:
        return f"At least {max_counted:,} traces"
    return "1 trace" if number == 1 else f"{number:,} traces"


def _count_left_out(telemetry: TelemetryService, wanted: RunFilter, page: RunPage) -> int:
    """Return how many traces without agent activity are left out of `page`, the first page of a list of runs.

    Counting stops at `telemetry.no_agent_activity.max_counted`.
    """
    if page.next_cursor:
        oldest_us = min(run.started_at for run in page.items)
        wanted = wanted.model_copy(update={"started_after_us": max(oldest_us, wanted.started_after_us or 0)})
    return telemetry.no_agent_activity.count(wanted)


@app.command()
def show(run_id: RunId, as_json: JsonOption = False) -> None:
    """Show the question, the answer and the outcome of a run, and its root cause analyses."""
    from relab.core.clock import format_time

    with open_services() as services:
        run = services.telemetry.get(run_id)
        analyses = services.rca.list_for_run(run_id)
        names_items = run.outcome_evidence and not as_json
        items = services.telemetry.timeline(run_id, limit=MAX_NAMED_ITEMS).items if names_items else []
    if as_json:
        fields = run.model_dump(mode="json")
        print_json("agent-runs show", run=fields, rca_runs=[item.model_dump(mode="json") for item in analyses])
        return
    print_table(f"Agent run {plain(run_id)}", ("summary", "value"), summary_rows(run, items))
    print_table("Fields", ("field", "value"), field_rows(run))
    if analyses:
        rows = ((item.rca_run_id, item.status, format_time(item.created_at), item.error) for item in analyses)
        print_table("Analyses", ("id", "status", "created", "error"), rows)
    else:
        print(f"No analysis yet. To find out why the run failed: lab rca {argument(run_id)}")


@app.command()
def timeline(
    run_id: RunId,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum number of items.")] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Show the timeline of a run as a tree: its steps, tool calls and guardrail events."""
    with open_services() as services:
        page = services.telemetry.timeline(run_id, limit=limit)
        started_at = services.telemetry.get(run_id).started_at
    if as_json:
        print_json("agent-runs timeline", **page.model_dump(mode="json"))
        return
    print_table(
        f"Timeline of {plain(run_id)} ({len(page.items)} of {page.total})",
        TIMELINE_COLUMNS,
        timeline_rows(page.items, started_at),
    )


@app.command()
def delete(
    run_ids: Annotated[list[str], typer.Argument(help="Ids of the runs.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete runs with their timelines and analyses. If one of the runs does not exist, none is deleted."""
    run_ids = list(dict.fromkeys(run_ids))
    with open_services() as services:
        # An unknown id is an error before anything is deleted.
        for run_id in run_ids:
            services.telemetry.get_content(run_id)
        if not yes:
            confirm(f"Delete {len(run_ids)} run(s)?")
        for run_id in run_ids:
            services.telemetry.delete(run_id)
        run_follow_ups(services, at_most=len(run_ids) + 10)
    if as_json:
        print_json("agent-runs delete", run_ids=run_ids)
    else:
        print(f"{len(run_ids)} deleted.")


app.command()(logs)
app.command()(prune)
app.command()(remap)
app.command()(export)


def _documents(source: str) -> Iterator[tuple[str, bytes]]:
    """Yield `(origin, bytes of one run)` for every run in a file, a folder of files, or standard input.

    `origin` names the run in error messages: the name of its file and, if the file has several runs, its line or index.

    Raises:
        InvalidInputError: the source does not exist, cannot be read, or contains no .json or .jsonl files.
    """
    if source == "-":
        yield from _split("stdin", sys.stdin.buffer.read(), lines=False)
        return
    path = Path(source)
    # Unlike `Path.is_dir`, this is False for a name that is too long.
    if os.path.isdir(source):  # noqa: PTH112
        files = sorted(file for file in path.rglob("*") if file.suffix in {".json", ".jsonl"} and file.is_file())
        if not files:
            raise InvalidInputError(f"The folder {source} contains no .json or .jsonl file.")
    elif os.path.lexists(source):
        # Also a pipe, such as a shell's <(command).
        files = [path]
    else:
        raise InvalidInputError(f"There is no file or folder {source}.")
    for file in files:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise InvalidInputError(f"The file {file} cannot be read: {error.strerror}.") from error
        yield from _split(str(file), raw, lines=file.suffix == ".jsonl")


def _split(origin: str, raw: bytes, *, lines: bool) -> Iterator[tuple[str, bytes]]:
    """Yield `(place, bytes of one run)` for each run in a file.

    The place is the name of the file, with the line number if each line is a run, or the index if the file is a list.

    Args:
        origin: the name of the file.
        raw: the content of the file. If it is neither JSON nor JSON Lines, it is yielded as one run, which ingestion
            then rejects.
        lines: whether each line is a run; if false, the content shows it.
    """
    from relab.core.json import canonical_json, parse_json

    value = None
    if not lines:
        try:
            value = parse_json(raw)
        except MalformedBodyError:
            lines = _is_json_lines(raw)
    if lines:
        for number, line in enumerate(raw.splitlines(), 1):
            if line.strip():
                yield f"{origin}:{number}", line
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{origin}[{index}]", canonical_json(item).encode()
    else:
        yield origin, raw


def _is_json_lines(raw: bytes) -> bool:
    """Return whether a text that is not one JSON document is JSON Lines: its first line is an object, others follow."""
    # The collector's file exporter writes lines, whatever the name of its file.
    from relab.core.json import parse_json

    first, *others = [line for line in raw.splitlines() if line.strip()] or [b""]
    try:
        return bool(others) and isinstance(parse_json(first), dict)
    except MalformedBodyError:
        return False


def _ingest_one(telemetry: TelemetryService, origin: str, raw: bytes) -> dict[str, Any]:
    from relab.telemetry.ingest.reading import read_agent_run

    try:
        if sign := _OTLP_SIGN.search(raw):
            return _ingest_otlp(telemetry, origin, raw, "logs" if sign["logs"] else "traces")
        receipt = telemetry.ingest(read_agent_run(raw))
    except (InvalidInputError, TooLargeError, ConflictError) as error:
        return {"origin": origin, "outcome": "rejected", "reason": str(error)}
    outcome = "created" if receipt.created else "updated"
    return {"origin": origin, "outcome": outcome, "run_id": receipt.run_id}


def _ingest_otlp(
    telemetry: TelemetryService, origin: str, raw: bytes, signal: Literal["traces", "logs"]
) -> dict[str, Any]:
    receipt = telemetry.ingest_otlp(signal, raw, "json")
    field, noun = ("spans", "spans") if signal == "traces" else ("log_records", "log records")
    if receipt.rejected:
        reason = f"{receipt.rejected} {noun} ({receipt.accepted} were stored): {receipt.message}"
        return {"origin": origin, "outcome": "rejected", "reason": reason, field: receipt.accepted}
    return {"origin": origin, "outcome": "stored", field: receipt.accepted}
