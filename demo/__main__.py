"""`python -m demo`: start a lab, let real agents fail in front of it, and read its reports.

Exit codes: 0 every report agrees with what the tool server did, 1 one does not or the
lab failed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from demo.check import Expected
from demo.lab_client import LabClient, LabError
from demo.lab_server import LabServer, LabServerError, signals_as_exit
from demo.report_view import Outcome, as_data, next_steps, overview_panel, summary_table
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
"""What the tool server really did to each run. Read only after all reports are in."""

DATA = Path(".demo")
OVERVIEW_HOURS = 1
INTERRUPTED = 130


def main() -> int:
    """Run the tour and return its exit code."""
    console = Console(highlight=False)
    try:
        with signals_as_exit():
            return tour(console, new_home(DATA))
    except KeyboardInterrupt:
        console.print("\nStopped. The lab and the tool server are stopped too.")
        return INTERRUPTED
    except (LabError, LabServerError, httpx.TransportError, OSError) as error:
        console.print(as_data(f"The demo failed: {error}", "bold red"))
        return 1


def new_home(data: Path) -> Path:
    """Make a folder for this tour; earlier ones stay, as a server may still run on them."""
    home = data.absolute() / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.getpid()}"
    home.mkdir(parents=True)
    return home


def tour(console: Console, home: Path) -> int:
    """Start the servers, play all scenarios and judge the reports."""
    shown_home = Path(os.path.relpath(home))
    console.print(Text("relab: agents fail, the lab says why", style="bold"))
    console.print(as_data(f"Data of this tour: {shown_home}  (server log: {shown_home / 'server.log'})"))
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
    exit_code = judge(console, outcomes, disagreements)
    console.print()
    console.print(next_steps(shown_home, Path(os.path.relpath(Path(sys.executable).with_name("lab")))))
    return exit_code


def judge(console: Console, outcomes: list[Outcome], disagreements: list[str | None]) -> int:
    """Say whether every report is right; return the exit code."""
    wrong = [(outcome, text) for outcome, text in zip(outcomes, disagreements, strict=True) if text is not None]
    for outcome, text in wrong:
        console.print(as_data(f"The report on {outcome.run['run_id']} is wrong: {text}.", "bold red"))
    if not wrong:
        console.print(Text(f"All {len(outcomes)} reports name what the tool server really did.", style="bold green"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
