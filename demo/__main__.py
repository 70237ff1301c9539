"""`python -m demo [ACT ...]`: agents fail, a responder repairs a shop, a rollout improves it, builds are made to succeed.

Exit codes: 0 all acts went as expected, 1 an act did not or failed, 2 there is no such act, 130 stopped by Ctrl-C. If
the shop of the second and third act cannot be started here, or the example of the fourth one cannot be built, they are
skipped with a message, and the other acts decide the exit code; with RELAB_REQUIRE_ALL=1, as in CI, no act may be skipped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console, Group
from rich.panel import Panel

from demo.agents_act import play_agents
from demo.build_act import PROJECT, check_build_tools, play_builds
from demo.lab_client import LabError
from demo.lab_server import LabServerError, interrupt_once, signals_as_exit
from demo.needs import check_needs
from demo.report_view import as_data, next_steps
from relab.core.errors import RelabError
from relab.testbed.errors import MissingProgramError

ACTS = ("agents", "incident", "rollout", "builds")
DATA = Path(".demo")
RESPONDER_HOME = "responder"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the acts and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo")
    parser.add_argument("acts", nargs="*", metavar="ACT", help=f"{', '.join(ACTS)}; all by default")
    acts = parser.parse_args(arguments).acts or list(ACTS)
    if unknown := sorted(set(acts) - set(ACTS)):
        parser.error(f"there is no act {unknown[0]!r}")
    console = Console(highlight=False)
    try:
        with signals_as_exit():
            return play(console, acts, new_home(DATA))
    except KeyboardInterrupt:
        console.print("\nStopped. What the demo had started is stopped too.")
        return INTERRUPTED
    except (LabError, LabServerError, RelabError, httpx.HTTPError, OSError) as error:
        console.print(as_data(f"The demo failed: {error}", "bold red"))
        return 1


def new_home(data: Path) -> Path:
    """Create and return a new folder for this tour; earlier folders stay, because a server may still use them."""
    home = data.absolute() / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.getpid()}"
    home.mkdir(parents=True)
    return home


def play(console: Console, acts: Sequence[str], home: Path) -> int:
    """Play the acts in turn; return the exit code, which is 0 if all of them went as expected."""
    console.print(as_data(f"Data of this tour: {os.path.relpath(home)}"))
    codes = []
    if "agents" in acts:
        codes.append(play_agents(console, home))
    if "incident" in acts or "rollout" in acts:
        codes.append(_on_the_shop(console, home, acts))
    if "builds" in acts:
        codes.append(_builds(console, home))
    console.print()
    lab = Path(os.path.relpath(Path(sys.executable).with_name("lab")))
    own = Path(os.path.relpath(home / RESPONDER_HOME))
    has_rollout = (home / "rollout.yaml").is_file()
    responder = own if own.is_dir() else None
    has_builds = (home / PROJECT).is_dir()
    shown = Path(os.path.relpath(home))
    console.print(next_steps(shown, lab, responder=responder, has_rollout=has_rollout, has_builds=has_builds))
    return max(codes)


def _on_the_shop(console: Console, home: Path, acts: Sequence[str]) -> int:
    """Play the second act, the third, or both on one shop; return the exit code."""
    try:
        check_needs()
    except MissingProgramError as error:
        return _skipped(console, error, "the acts with a shop, which a responder mends and a rollout makes better")
    # The shop's libraries are an optional extra, so they are imported only after the check that they are installed.
    from demo.incident_act import play_incident  # noqa: PLC0415
    from demo.rollout_act import play_rollout, play_rollout_alone  # noqa: PLC0415

    if "incident" not in acts:
        return play_rollout_alone(console, home)
    then = partial(play_rollout, console, home=home) if "rollout" in acts else None
    return play_incident(console, home, home / RESPONDER_HOME, then=then)


def _builds(console: Console, home: Path) -> int:
    """Play the fourth act; return the exit code."""
    try:
        check_build_tools()
    except MissingProgramError as error:
        return _skipped(console, error, "the act in which builds fail and are made to succeed")
    return play_builds(console, home)


def _skipped(console: Console, why: MissingProgramError, what: str) -> int:
    text_group = Group(as_data(why.message, "bold yellow"), as_data(f"What to do: {why.remedy}"))
    console.print()
    console.print(Panel(text_group, title=f"SKIPPED: {what}", border_style="yellow"))
    return 1 if os.environ.get("RELAB_REQUIRE_ALL") == "1" else 0


if __name__ == "__main__":
    interrupt_once()
    sys.exit(main())
