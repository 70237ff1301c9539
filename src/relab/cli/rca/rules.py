"""`lab rca rules`: find behaviours of agents that you describe by rules in a YAML file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.agent_runs.filters import RunFilterOptions, takes_run_filter
from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json, print_table
from relab.core.errors import ConfigurationError

if TYPE_CHECKING:
    from relab.rca.service import BehaviourRule, BehaviourScore, ScannedRun

app = typer.Typer(help="Behaviours of one's own: lint, test, apply files of rules.", no_args_is_help=True)

RuleFile = Annotated[Path, typer.Argument(help="The file of rules.")]
AsksModel = Annotated[
    bool,
    typer.Option(
        "--judge",
        help="Ask the configured language model about sentences: it receives the runs, and each costs a call.",
    ),
]
MAX_SHOWN = 20


@app.command()
def lint(file: RuleFile, as_json: JsonOption = False) -> None:
    """Check a file of behaviour rules, and print each mistake with its line. Exit code 1 if the file has a mistake.

    A behaviour rule describes a pattern; relab uses the rule to find agent runs with this pattern.
    """
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
    judge: AsksModel = False,
    as_json: JsonOption = False,
) -> None:
    """Search stored runs, failed or not, for the behaviours that a rule file describes, and print what was found.

    Nothing is stored about the runs.
    """
    _scan(options, file, run, limit, asks_model=judge, as_json=as_json, is_stored=False)


@app.command()
@takes_run_filter
def apply(
    options: RunFilterOptions,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The most runs to search.")] = 100_000,
    judge: AsksModel = False,
    as_json: JsonOption = False,
) -> None:
    """Search stored runs for the behaviours of this installation's rules, and mark the runs that show them.

    Failed runs are searched when they are analysed. Use this command for other runs, and after a change of the rules.
    `lab agent-runs list --behaviour` lists the marked runs.
    """
    _scan(options, None, None, limit, asks_model=judge, as_json=as_json, is_stored=True)


def _scan(
    options: RunFilterOptions,
    file: Path | None,
    run: str | None,
    limit: int,
    *,
    asks_model: bool,
    as_json: bool,
    is_stored: bool,
) -> None:
    from itertools import islice

    from rich.progress import track

    with open_services() as services:
        scanner = services.rca.behaviours
        rules = scanner.read(file).behaviours if file is not None else scanner.read(scanner.book.path).behaviours
        if not rules:
            raise ConfigurationError("There are no rules.")
        if run is not None:
            services.telemetry.get_content(run)
        ids = [run] if run else list(islice(scanner.matching(options.read(services.clock.now_us())), limit))
        found = []
        for _, scanned in track(
            scanner.scan(rules, ids, asks_model=asks_model),
            "Searching",
            total=len(ids),
            disable=as_json or not sys.stderr.isatty(),
        ):
            found.append(scanned)
            if is_stored:
                scanner.mark(scanned)
        scores = scanner.scores(rules, found)
    if as_json:
        command = "rca rules apply" if is_stored else "rca rules test"
        labels = [each.model_dump(mode="json") for each in scores]
        print_json(command, **_summary(rules, found), labels=labels)
        return
    _print_summary(rules, found)
    _print_scores(scores)
    if not is_stored:
        _print_places(found)


def _summary(rules: Sequence[BehaviourRule], found: Sequence[ScannedRun]) -> dict[str, Any]:
    """Return the result of a search for behaviours as a JSON object. A behaviour is a pattern that a rule describes.

    Args:
        rules: the rules of the behaviours.
        found: the result for each searched run.

    Returns:
        `searched`: the number of searched runs.
        `counts`: `{behaviour: number of runs that show it}`.
        `not_judged`: `{behaviour: {reason: number of runs}}`, for runs that the language model should have judged but
        did not.
        `cost`: the cost of the calls of the language model.
        `runs`: the runs that show a behaviour, each with its behaviours.
    """
    from relab.rca.service import add_costs

    counts = Counter(each.name for scanned in found for each in scanned.shown)
    return {
        "searched": len(found),
        "counts": {rule.name: counts[rule.name] for rule in rules},
        "not_judged": {name: dict(reasons) for name, reasons in _not_judged(found).items()},
        "cost": add_costs(each.judgement for each in found if each.judgement is not None).model_dump(mode="json"),
        "runs": [
            {"run_id": each.run_id, "behaviours": [shown._asdict() for shown in each.shown]}
            for each in found
            if each.shown
        ],
    }


def _not_judged(found: Sequence[ScannedRun]) -> dict[str, Counter[str]]:
    """Return `{behaviour: {reason: number of runs}}`, for runs that the language model should have judged but did not.

    The model judges only behaviours whose rule contains a sentence.
    """
    reasons: dict[str, Counter[str]] = {}
    for scanned in found:
        for name, reason in scanned.not_judged.items():
            reasons.setdefault(name, Counter())[reason] += 1
    return reasons


def _print_summary(rules: Sequence[BehaviourRule], found: Sequence[ScannedRun]) -> None:
    from relab.rca.service import add_costs

    counts = Counter(each.name for scanned in found for each in scanned.shown)
    reasons = _not_judged(found)
    print_table(
        f"Behaviours in {len(found)} runs",
        ("behaviour", "runs", "not judged", "description"),
        (
            (r.name, counts[r.name], reasons[r.name].total() if r.name in reasons else None, r.description)
            for r in rules
        ),
    )
    for name, why in reasons.items():
        for reason, number in why.items():
            print(f"Not judged: {name} in {number} runs: {plain(reason)}")
    cost = add_costs(each.judgement for each in found if each.judgement is not None)
    if cost.calls or cost.cached_answers:
        print(f"Sentences judged{plain(cost.cost_line())}")
    if cost.dropped:
        print(f"Dropped: {cost.dropped_line()}")


def _print_scores(scores: Sequence[BehaviourScore]) -> None:
    if not scores:
        return
    columns = (
        "behaviour", "labelled runs", "precision (95 % interval)", "recall (95 % interval)", "not judged",
        "changed since",
    )  # fmt: skip
    rows = ((s.behaviour, s.labelled, s.precision.words(), s.recall.words(), s.not_judged, s.changed) for s in scores)
    print_table("Agreement with labels (lab rca label RUN --behaviour NAME)", columns, rows)


def _print_places(found: Sequence[ScannedRun]) -> None:
    for scanned in [each for each in found if each.shown][:MAX_SHOWN]:
        print(plain(scanned.run_id))
        for shown in scanned.shown:
            print(f"  {shown.name}{' (opinion of a model)' if shown.by_model else ''}")
            for place in shown.places:
                print(f"    {plain(' '.join(place.split()))[:160]}")
