"""`lab rescore`: score the finished trials of a run by another scorer, without running them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from relab.cli.experiments.context import open_experiments
from relab.cli.output import EXIT_FAILED, JsonOption, argument, plain, print_json, print_table
from relab.cli.stopping import at_hangup, stop_signals
from relab.core.errors import InvalidInputError


def rescore(
    run_dir: Annotated[Path, typer.Argument(help="The folder or the id of a run.")],
    scorer: Annotated[str, typer.Option(help="The command of the scorer, such as `python /path/score.py --strict`.")],
    name: Annotated[str, typer.Option(help="The name of the scores, for `lab compare --scores`.")],
    timeout: Annotated[float, typer.Option(help="Seconds for one trial.")] = 60.0,
    jobs: Annotated[int, typer.Option(help="The number of trials that are scored at the same time.")] = 1,
    json: JsonOption = False,
) -> int:
    """Score the trials of a run again by a scorer, a command of your own.

    The scorer gets the output and files of each trial, and prints an outcome and metrics as JSON. Exit code: 0 if every
    trial was scored, 1 if the scorer failed for at least one.
    """
    from relab.experiments.models import StopSwitch
    from relab.experiments.service import Scorer

    stop = StopSwitch()

    def pressed() -> None:
        print("lab: ending the scorers; no scores are stored", file=sys.stderr)
        stop.press()

    try:
        command = shlex.split(scorer)
    except ValueError as error:
        raise InvalidInputError(f"--scorer cannot be split into arguments: {error}.") from error
    with open_experiments(telemetry=False) as service, stop_signals(pressed), at_hangup(pressed):
        found = service.rescore(Path.cwd(), run_dir, Scorer(name, command, timeout, jobs), stop)
    code = EXIT_FAILED if found.failed else 0
    outcomes = {variant: dict(counts) for variant, counts in found.outcomes.items()}
    if json:
        print_json(
            "rescore", run_id=found.run_id, name=found.name, folder=str(found.folder), outcomes=outcomes,
            changed=found.changed, failed=found.failed, first_error=found.first_error, exit_code=code,
        )  # fmt: skip
        return code
    columns = ("success", "failure", "error", "missing")
    rows = [[variant, *(counts.get(each, 0) for each in columns)] for variant, counts in outcomes.items()]
    print_table(f"{found.run_id} by {found.name}", ("variant", *columns), rows)
    print(f"{found.changed:,} trials have another outcome than in the run")
    if found.failed:
        print(f"the scorer failed for {found.failed:,} trials, first: {plain(found.first_error)}")
    print(f"next: lab compare {argument(found.run_id)} --scores {argument(found.name)}")
    return code
