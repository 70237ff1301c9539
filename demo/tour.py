"""The tour of the first act: play each scenario, follow its analysis live, and show the report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from demo.lab_client import LabClient
from demo.recorder import RunJson
from demo.report_view import Outcome, as_data, report_panel
from demo.scenarios import Scenario, perform
from demo.tool_server import ToolServer
from relab.rca.models import Report
from relab.telemetry.outcome_models import RunOutcome


class Tour:
    """Plays scenarios against a tool server, and shows the lab's reports on them."""

    def __init__(self, console: Console, lab: LabClient, tools: ToolServer) -> None:
        self._console = console
        self._lab = lab
        self._tools = tools

    def play_all(self, scenarios: Iterable[Scenario]) -> list[Outcome]:
        """Play every scenario in turn, and return the outcomes.

        Raises:
            LabError: the lab rejected a request, or an analysis failed.
        """
        listed = list(scenarios)
        return [self._play(scenario, f"{number} of {len(listed)}") for number, scenario in enumerate(listed, start=1)]

    def _play(self, scenario: Scenario, place: str) -> Outcome:
        self._console.print(Text(f"\n{place}  {scenario.title}", style="bold"))
        columns = (
            TextColumn("{task.description:<20}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[trail]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("The agent works", total=None, trail="")
            runs = perform(scenario, self._tools.url)
            progress.update(task, description="Posting the run")
            for run in runs:
                self._lab.ingest(run)
            ended = [(run["agent_version"], self._lab.outcome(run["run_id"])) for run in runs]
            report, took_ms = self._analyse(runs[-1], progress, task)
        answered = self._tools.journal.outline(runs[-1]["run_id"])
        outcome = Outcome(scenario, runs[-1], ended[-1][1], answered, tally(ended), report, took_ms)
        self._console.print(report_panel(outcome))
        return outcome

    def _analyse(self, run: RunJson, progress: Progress, task: TaskID) -> tuple[Report, float]:
        """Request an analysis and show its progress; return the report, and the ms from request to report."""
        start = time.perf_counter()
        rca_run_id = self._lab.request_rca(run["run_id"])
        progress.update(task, description="Waiting for a worker")
        percentages: list[str] = []
        for stage in self._lab.follow(rca_run_id):
            percentages.append(f"{stage.pct:g}")
            trail = f"{' → '.join(percentages)} %"
            progress.update(task, description=as_data(stage.step).plain, total=100, completed=stage.pct, trail=trail)
        report = self._lab.report(rca_run_id)
        return report, (time.perf_counter() - start) * 1_000


def tally(runs: Sequence[tuple[str, RunOutcome]]) -> str | None:
    """Return a text with the successes per agent version, in order of first appearance; None for a single run.

    A run is given as its agent version and its outcome.
    """
    if len(runs) == 1:
        return None
    ended: dict[str, list[bool]] = {}
    for version, outcome in runs:
        ended.setdefault(version, []).append(outcome is RunOutcome.SUCCEEDED)
    return ", ".join(f"version {version}: {sum(ok)} of {len(ok)} succeeded" for version, ok in ended.items())
