"""`lab replay`: run a trial again from its stored artifacts, and compare the results."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relab.cli.experiments.context import open_experiments, stoppable_run
from relab.cli.experiments.pausing import RunDirOption
from relab.cli.experiments.trials import show_patch
from relab.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, JsonOption, plain, print_json, print_json_error


def replay(
    run_dir: RunDirOption,
    trial: Annotated[str, typer.Option("--trial-id", "--trial", help="A trial with a result.")],
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Reject a trial that was retried or paused, or whose harness does not have the integration level sdk_full.",
        ),
    ] = False,
    json: JsonOption = False,
) -> int:
    """Run a trial again from its stored artifacts, and show where its outcome, events or files differ.

    The digests of the artifacts are checked first. The run is not changed; the files of the replay are in .lab/replays.
    Exit code: 0 if the replay is identical, 1 if it differs.

    A harness of the level sdk_full (see --strict) writes events and checkpoints, and answers the control file (the
    runner's requests to continue, checkpoint or stop) after each step.
    """
    from relab.experiments.service import find_run

    with open_experiments(telemetry=False) as service, stoppable_run() as stop:
        path = find_run(Path.cwd(), run_dir)
        found = service.runs.replay(path, trial, stop, strict=strict)
    if found is None:
        if json:
            print_json_error("interrupted", "The replay was interrupted.")
        return EXIT_INTERRUPTED
    code = 0 if found.is_identical else EXIT_FAILED
    if json:
        differences = [asdict(each) for each in found.differences]
        print_json(
            "replay",
            trial=found.trial,
            replay_dir=str(found.replay_dir),
            identical=found.is_identical,
            differences=differences,
            events=found.events,
            exit_code=code,
        )
        return code
    for each in found.differences:
        print(f"{plain(each.where)} differs")
        print(f"  run:    {plain(each.before)}")
        print(f"  replay: {plain(each.after)}")
    show_patch("\n".join(found.events))
    count = len(found.differences)
    verdict = "the replay is identical" if not count else f"{count:,} difference{'' if count == 1 else 's'}"
    print(f"{plain(found.trial)}: {verdict}; its files are in {plain(found.replay_dir)}")
    return code
