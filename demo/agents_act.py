"""The first act: agents fail, and the lab's reports are compared with the real answers of the tool server."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.text import Text

from demo.check import Expected
from demo.lab_client import LabClient
from demo.lab_server import LabServer
from demo.report_view import Outcome, as_data, overview_panel, summary_table
from demo.scenarios import SCENARIOS
from demo.tool_server import ToolServer
from demo.tour import Tour
from relab.rca.models import Category

EXPECTED = {
    "invoice": Expected(Category.TOOL_SCHEMA_MISMATCH, quote="Missing required field: 'customer_id'"),
    "quota": Expected(Category.RATE_LIMITED, quote="Retry-After: 60"),
    "refund": Expected(Category.TOOL_PERMISSION, quote="refunds:write"),
    "stock": Expected(Category.TIMEOUT, quote="timed out"),
    "label": Expected(Category.PLANNER_LOOP, quote='"order_number": "5008"'),
    "help": Expected(Category.RETRIEVAL_EMPTY, quote='"hits": []'),
    "prompt": Expected(Category.PROMPT_REGRESSION),
    "points": Expected(Category.UNKNOWN, quote="out of balance"),
    "outside": Expected(Category.UNKNOWN, insufficient=True),
    "patience": Expected(Category.RATE_LIMITED, recovered=True),
}
"""The right report for each scenario, by its key, from the tool server's real behaviour.

It is read only after all reports are done.
"""

OVERVIEW_HOURS = 1


def play_agents(console: Console, home: Path) -> int:
    """Start the servers, play all scenarios and check the reports; return 0 if all are right, else 1.

    Raises:
        LabServerError: the lab cannot be started.
        LabError: the lab rejected a request, or an analysis failed.
    """
    console.print(Text("relab: agents fail, the lab says why", style="bold"))
    console.print(as_data(f"server log: {Path(os.path.relpath(home)) / 'server.log'}"))
    with ExitStack() as stack:
        with console.status("Starting the lab"):
            tools = stack.enter_context(ToolServer())
            server = stack.enter_context(LabServer(home))
        lab = stack.enter_context(LabClient(server.url))
        console.print(as_data(f"lab serve: {server.url}    tool server: {tools.url}"))
        outcomes = Tour(console, lab, tools).play_all(SCENARIOS)
        overview = lab.overview(OVERVIEW_HOURS)
    disagreements = [EXPECTED[outcome.scenario.key].disagreement(outcome.report) for outcome in outcomes]
    console.print()
    console.print(summary_table(outcomes, disagreements))
    console.print(overview_panel(overview, OVERVIEW_HOURS))
    return judge(console, outcomes, disagreements)


def judge(console: Console, outcomes: list[Outcome], disagreements: list[str | None]) -> int:
    """Print whether every report is right, and return the exit code: 0 if so, else 1.

    Args:
        console: the console for the output.
        outcomes: the played scenarios with their reports.
        disagreements: for each outcome, what is wrong with its report, or None.
    """
    wrong = [(outcome, text) for outcome, text in zip(outcomes, disagreements, strict=True) if text is not None]
    for outcome, text in wrong:
        console.print(as_data(f"The report on {outcome.run['run_id']} is wrong: {text}.", "bold red"))
    if not wrong:
        console.print(Text(f"All {len(outcomes)} reports name what the tool server really did.", style="bold green"))
    return 1 if wrong else 0
