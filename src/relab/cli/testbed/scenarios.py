"""`lab testbed run` and `lab testbed scenarios`: run planned series of faults and checks (scenarios) on a testbed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import read_settings
from relab.cli.output import (
    ERROR_INDENT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNDECIDED,
    JsonOption,
    check_writable,
    plain,
    plain_lines,
    print_json,
    print_table,
    write_text,
)
from relab.cli.stopping import stoppable
from relab.cli.testbed.start import start_testbed
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.load.models import LoadResult
    from relab.testbed.models import Addresses
    from relab.testbed.scenarios.service import Scenario, ScenarioResult, Section

_TOKEN_LABEL = "on-call"  # noqa: S105 the owner of the token in the records of actions


def list_scenarios(json: JsonOption = False) -> None:
    """List the scenarios that relab ships."""
    from relab.testbed.scenarios import service

    found = [service.find_scenario(name) for name in service.shipped_names()]
    if json:
        print_json("testbed scenarios", scenarios=[_described(scenario) for scenario in found])
        return
    rows = ((each.name, each.about.get("kind"), each.about.get("outcome"), each.experiment.title) for each in found)
    print_table("Scenarios", ("scenario", "kind", "outcome", "title"), rows)
    print("Run one with: lab testbed run SCENARIO. Each is a file in chaostoolkit's format.")


def run(
    scenario: Annotated[
        str, typer.Argument(help="A file (.yaml, .json), or a name that `lab testbed scenarios` lists.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the testbed.")] = "default",
    up: Annotated[bool, typer.Option("--up", help="Start the testbed before the run, and stop it afterwards.")] = False,
    port_base: Annotated[
        int | None, typer.Option("--port-base", help="With --up: the first of its three ports.")
    ] = None,
    load: Annotated[
        float, typer.Option("--load", min=0, max=10_000, help="Requests per second of the background load; 0 for none.")
    ] = 20.0,
    var: Annotated[
        list[str] | None,
        typer.Option("--var", help="NAME[:TYPE]=VALUE: a variable of its configuration; may be repeated."),
    ] = None,
    journal: Annotated[Path | None, typer.Option(help="Write chaostoolkit's journal to this file.")] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="The file may run commands and Python functions.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json: JsonOption = False,
) -> int:
    """Run a scenario: check the steady state, run the method, and check the steady state again.

    The rollbacks always run. Exit code 0: the steady state was met before and after the method. 1: it was met only
    before the method. 2: it was not met before the method, or a step failed. 130: interrupted.
    """
    from relab.testbed.scenarios import service

    found = service.find_scenario(scenario, allow_code=allow_code)
    overrides = service.read_overrides(var or [])
    _check_options(journal, up=up, port_base=port_base)
    with stoppable() as stop, _bed(name, is_own=up, port_base=port_base) as addresses:
        outcome = service.run_scenario(
            found,
            addresses,
            rate_per_s=load,
            stop=stop,
            report=_silent if quiet or json else _Lines(),
            overrides=overrides,
            make_token=partial(_make_token, name),
        )
    code = _exit_code(outcome)
    if journal is not None:
        _write(journal, outcome)
    _show(found, outcome, journal, code, as_json=json)
    return code


def _check_options(journal: Path | None, *, up: bool, port_base: int | None) -> None:

    if port_base is not None and not up:
        raise InvalidInputError("--port-base requires --up; a running testbed keeps its ports.")
    check_writable(journal)


def _make_token(name: str) -> str:
    from relab.testbed import service

    return service.make_token(read_settings().home, name, _TOKEN_LABEL, ["read", "act"], replace=True)


@contextmanager
def _bed(name: str, *, is_own: bool, port_base: int | None) -> Iterator[Addresses]:
    from relab.testbed import service

    home = read_settings().home
    if not is_own:
        yield service.status(home, name, hidden=True).state.addresses
        return
    status = start_testbed(home, name, port_base=port_base)
    try:
        yield status.state.addresses
    finally:
        service.down(home, name)


class _Lines:
    """Prints a line on stderr for each step of a scenario; several threads may call it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, section: Section, message: str) -> None:
        with self._lock:
            print(f"{time.monotonic() - self._began:7.1f} s  {section}: {plain(message)}", file=sys.stderr, flush=True)


def _silent(_section: Section, _message: str) -> None:
    """Print nothing about a step of a scenario; takes the place of `_Lines` with `--quiet`."""


def _exit_code(outcome: ScenarioResult) -> int:
    codes = {"held": 0, "deviated": EXIT_FAILED, "interrupted": EXIT_INTERRUPTED}
    return codes.get(outcome.conclusion.value, EXIT_UNDECIDED)


def _write(path: Path, outcome: ScenarioResult) -> None:
    import json

    write_text(path, json.dumps(outcome.journal, indent=2, ensure_ascii=False) + "\n", overwrite=True)


def _described(scenario: Scenario) -> dict[str, Any]:
    experiment = scenario.experiment
    about = {key: value for key, value in scenario.about.items() if key != "name"}
    return {"name": scenario.name, "title": experiment.title, "description": experiment.description, **about}


def _show(scenario: Scenario, outcome: ScenarioResult, journal: Path | None, code: int, *, as_json: bool) -> None:
    found = outcome.journal
    states = found["steady_states"]
    before, after = (
        None if state is None else state["steady_state_met"] for state in (states["before"], states["after"])
    )
    share = outcome.share_met_during
    if as_json:
        print_json(
            "testbed run",
            scenario=scenario.name,
            conclusion=outcome.conclusion.value,
            status=found["status"],
            deviated=found["deviated"],
            steady_state={"before": before, "during_share": share, "after": after},
            problems=list(outcome.problems),
            load=found["relab"]["load"],
            duration_s=round(found["duration"], 3),
            journal=None if journal is None else str(journal),
            exit_code=code,
        )
        return
    print(f"{plain(scenario.name)}: {outcome.conclusion} ({found['duration']:.1f} s)")
    during = "" if share is None else f", {share:.0%} of the checks between"
    print(f"steady state: {_word(before)} before{during}, {_word(after)} after")
    if outcome.load is not None:
        print(_users(outcome.load))
    if journal is not None:
        print(f"wrote: {plain(journal)}")
    for problem in outcome.problems:
        print(f"lab: {plain_lines(problem, ERROR_INDENT)}", file=sys.stderr)


def _users(load: LoadResult) -> str:
    p50, p99 = ("-" if value is None else f"{value:,.0f}" for value in (load.latency.p50_ms, load.latency.p99_ms))
    counts = load.counts
    return (
        f"users: {counts.offered:,} requests, {counts.bad:,} bad, {counts.dropped:,} dropped; P50 {p50}, P99 {p99} ms"
    )


def _word(met: bool | None) -> str:
    return "not checked" if met is None else "met" if met else "not met"
