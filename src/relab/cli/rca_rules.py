"""`lab rca rules`: behaviours of one's own, described in a YAML file."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json, print_table
from relab.cli.run_filters import RunFilterOptions, takes_run_filter

app = typer.Typer(help="Behaviours of one's own: lint, test, apply files of rules.", no_args_is_help=True)

RuleFile = Annotated[Path, typer.Argument(help="The file of rules.")]
MAX_SHOWN = 20


@app.command()
def lint(file: RuleFile, as_json: JsonOption = False) -> None:
    """Check a file of rules, and name each mistake with its line. Exit code 1 if there is one."""
    from relab.rca.service import RuleFileError, read_rules

    try:
        rules = read_rules(file).behaviours
    except RuleFileError as error:
        problems = error.problems or ((str(file), error.message),)
        if as_json:
            print_json(
                "rca rules lint", passed=False, problems=[{"place": at, "message": said} for at, said in problems]
            )
        else:
            for at, said in problems:
                print(f"{plain(at)}: {plain(said)}")
        raise typer.Exit(EXIT_FAILED) from error
    if as_json:
        print_json("rca rules lint", passed=True, behaviours=[rule.name for rule in rules])
    else:
        print(f"{plain(file)}: {len(rules)} behaviours, no mistakes.")


@app.command("test")
@takes_run_filter
def try_rules(
    options: RunFilterOptions,
    file: RuleFile,
    run: Annotated[str | None, typer.Option("--run", help="Only this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The most runs to search.")] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Search stored runs, failed or not, for the behaviours of a file, and print what shows them; nothing is stored."""
    _scan(options, file, run, limit, as_json=as_json, is_stored=False)


@app.command()
@takes_run_filter
def apply(
    options: RunFilterOptions,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The most runs to search.")] = 100_000,
    as_json: JsonOption = False,
) -> None:
    """Search stored runs for the behaviours of this installation's rules, and mark them for `lab agent-runs list --behaviour`.

    Failed runs are searched when they are analysed; this is for the others, and for new rules.
    """
    _scan(options, None, None, limit, as_json=as_json, is_stored=True)


def _scan(
    options: RunFilterOptions, file: Path | None, run: str | None, limit: int, *, as_json: bool, is_stored: bool
) -> None:
    from itertools import islice

    from rich.progress import track

    from relab.cli.context import open_services
    from relab.core.errors import ConfigurationError

    with open_services() as services:
        scanner = services.rca.behaviours
        rules = scanner.read(file).behaviours if file is not None else scanner.read(scanner.book.path).behaviours
        if not rules:
            raise ConfigurationError("There are no rules.")
        if run is not None:
            services.telemetry.get_content(run)
        ids = [run] if run else list(islice(scanner.matching(options.read(services.clock.now_us())), limit))
        found = []
        for scanned in track(
            scanner.scan(rules, ids), "Searching", total=len(ids), disable=as_json or not sys.stderr.isatty()
        ):
            found.append(scanned)
            if is_stored:
                scanner.mark(scanned)
    counts = Counter(each.name for scanned in found for each in scanned.shown)
    if as_json:
        runs = [
            {"run_id": each.run_id, "behaviours": [shown._asdict() for shown in each.shown]}
            for each in found
            if each.shown
        ]
        command = "rca rules apply" if is_stored else "rca rules test"
        print_json(command, searched=len(found), counts={rule.name: counts[rule.name] for rule in rules}, runs=runs)
        return
    print_table(
        f"Behaviours in {len(found)} runs",
        ("behaviour", "runs", "what"),
        ((r.name, counts[r.name], r.description) for r in rules),
    )
    if is_stored:
        return
    for scanned in [each for each in found if each.shown][:MAX_SHOWN]:
        print(plain(scanned.run_id))
        for shown in scanned.shown:
            print(f"  {shown.name}")
            for place in shown.places:
                print(f"    {plain(' '.join(place.split()))[:160]}")
