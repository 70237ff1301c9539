"""`lab rca`: analyse why agent runs failed."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.agent_runs.filters import RunFilterOptions, takes_run_filter
from relab.cli.context import open_services, run_follow_ups
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json, write_text
from relab.cli.rca.batch import analyze_all
from relab.cli.rca.clusters import clusters
from relab.cli.rca.labels import label, labels
from relab.cli.rca.rules import app as rules
from relab.cli.rca.train import train
from relab.rca.judge_method import JudgeMethod

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.rca.models import RcaRun

POLL_S = 0.05
PATIENCE_S = 3.0
"""How long this command waits for a live worker to claim the job, in seconds; then it runs the job itself."""

app = typer.Typer(help="Root causes of failed agent runs: lab rca RUN, and groups of commands.", no_args_is_help=True)


app.command("clusters")(clusters)
app.command("label")(label)
app.add_typer(rules, name="rules")
app.command("labels")(labels)
app.command("train")(train)


@app.command("run")
@takes_run_filter
def analyze(
    options: RunFilterOptions,
    run_id: Annotated[str | None, typer.Argument(help="The agent run's id.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Analyse all failed runs that match the options, such as --since 24h.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Print each stage when it begins.")] = False,
    force: Annotated[bool, typer.Option(help="Analyse again even if an analysis exists.")] = False,
    judge: Annotated[
        JudgeMethod | None,
        typer.Option(
            help="Let the configured language model name the first wrong step, and judge the sentences of behaviours."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file of --html.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Print the whole report, not only one screen.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the report as Markdown.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as a page that needs no network to this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse why an agent run failed, and print the report. The short form of the command is `lab rca RUN`.

    With --all, the failed runs that match all given options are analysed one after the other. Analyses that people
    request one by one are done first. Exit code 1 if an analysis itself failed.

    A rule of a behaviour may contain a sentence, for what only a language model can recognise in a run. With --judge,
    the model judges these sentences, too.
    """
    from relab.rca.models import RcaStatus

    if everything:
        if run_id is not None or follow or full or markdown or html is not None or judge is not None:
            raise typer.BadParameter(
                "--all takes no run, asks no judge and prints no reports: use --since, --agent and such, --force, --json."
            )
        with open_services() as services:
            raise typer.Exit(analyze_all(services, options.read(services.clock.now_us()), force=force, as_json=as_json))
    if run_id is None or options != RunFilterOptions():
        raise typer.BadParameter("Name one run, or use --all with the options that select runs.")
    with open_services() as services:
        receipt = services.rca.request(run_id, force=force, judge=judge)
        rca_run = _wait(services, receipt.rca_run_id, show=follow and not as_json)
        run_follow_ups(services)
        if rca_run.report is not None and html is not None:
            write_text(html, services.rca.notes.page(rca_run.rca_run_id), overwrite=overwrite, option="--overwrite")
        if rca_run.report is not None and not as_json:
            _print_report(services, rca_run, full=full, markdown=markdown, html=html)
    if as_json:
        print_json("rca", **rca_run.model_dump(mode="json"))
    elif rca_run.report is None:
        print(f"lab: the analysis failed: {plain(rca_run.error)}", file=sys.stderr)
    if rca_run.status is not RcaStatus.DONE:
        raise typer.Exit(EXIT_FAILED)


def _print_report(services: Services, rca_run: RcaRun, *, full: bool, markdown: bool, html: Path | None) -> None:
    """Print the report of a finished analysis, by default as a summary on one screen.

    Args:
        services: the services of the command.
        rca_run: the analysis, with its report.
        full: print the whole report as text instead.
        markdown: print the whole report as Markdown instead.
        html: the file that contains the report as a page; only its path is printed. None: there is no such file.
    """
    assert rca_run.report is not None
    if markdown:
        print(services.rca.notes.markdown(rca_run.rca_run_id), end="")
    if full:
        from relab.cli.rca.report import print_report

        print_report(rca_run.run_id, rca_run.report)
    if html is not None:
        print(f"Written: {plain(html.resolve())}", file=sys.stderr if markdown else sys.stdout)
    elif not (full or markdown):
        from relab.cli.rca.note import print_note

        print_note(services.rca.notes.of(rca_run.rca_run_id))


def _wait(services: Services, rca_run_id: str, *, show: bool) -> RcaRun:
    """Wait until an analysis has ended, and return it; run its job in this process if no worker claims the job.

    With `show`, print each stage of the analysis when it begins.
    """
    from relab.rca.models import RcaStatus

    runner = services.runner()
    patience_ends = time.monotonic() + (PATIENCE_S if services.queue.worker_lives() else 0.0)
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
