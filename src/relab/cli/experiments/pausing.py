"""`lab pause` and `lab resume`: stop running trials at a safe point, and continue them later."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.experiments.options import (
    DEFAULT_EXECUTOR,
    AddressOption,
    ExecutorOption,
    NoTelemetryOption,
    QuietOption,
)
from relab.cli.experiments.output import continue_run
from relab.cli.output import EXIT_FAILED, JsonOption, argument, plain, print_json

if TYPE_CHECKING:
    from relab.experiments.service import PauseAnswer

RunDirOption = Annotated[Path, typer.Option("--run-dir", help="The folder or the id of a run.")]


def pause(
    run_dir: RunDirOption,
    trial: Annotated[
        list[str] | None,
        typer.Option(
            "--trial", "--trial-id", help="A running trial; may be repeated. Without it, the whole run pauses."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for the checkpoint, which the harness gets.")] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            "--timeout-seconds",
            help="Seconds after which a harness that has not stopped is ended, and marked so.",
        ),
    ] = 60.0,
    json: JsonOption = False,
) -> int:
    """Pause running trials: each writes a checkpoint after its current step, acknowledges the checkpoint, and stops.

    `lab resume` continues the trials. Exit code: 0 if each trial has paused or has ended by itself; 1 if a harness had
    to be ended.
    """
    from relab.experiments.service import find_run, pause_trials

    def on_asked(trial_id: str) -> None:
        if not json:
            print(f"lab: asked {plain(trial_id)} for a checkpoint", file=sys.stderr)

    path = find_run(Path.cwd(), run_dir)
    answers = pause_trials(path, trial or (), label=label, timeout_s=timeout, on_asked=on_asked)
    code = EXIT_FAILED if any(answer.status == "stopped" for answer in answers) else 0
    if json:
        rows = [_row(answer) for answer in answers]
        print_json("pause", run_dir=str(path), label=label, trials=rows, exit_code=code)
        return code
    for answer in answers:
        print(_sentence(answer))
    if any(answer.paused is not None for answer in answers):
        print(f"next: lab resume --run-dir {argument(path)}")
    elif not answers:
        print("No trial was running; the run has stopped.")
    return code


def resume(
    run_dir: RunDirOption,
    trial: Annotated[
        list[str] | None,
        typer.Option("--trial", "--trial-id", help="A paused trial; may be repeated. Without it, all paused trials."),
    ] = None,
    allow_drift: Annotated[
        bool,
        typer.Option(
            "--allow-drift", help="Go on if the project was changed and its old snapshot is gone; the run records it."
        ),
    ] = False,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    address: AddressOption = None,
    quiet: QuietOption = False,
    no_telemetry: NoTelemetryOption = False,
    json: JsonOption = False,
) -> int:
    """Resume paused trials from their checkpoints.

    `lab run --continue` runs the other trials that have no result.
    """
    from relab.experiments.models import ContinueOptions

    options = ContinueOptions(executor, address, paused=trial or (), allow_drift=allow_drift)
    return continue_run("resume", run_dir, options, quiet=quiet, no_telemetry=no_telemetry, json=json)


def _row(answer: PauseAnswer) -> dict[str, Any]:
    paused = answer.paused
    return {
        "trial_id": answer.trial_id,
        "status": answer.status,
        "took_s": round(answer.took_s, 3),
        "acknowledged": paused is not None and paused.acknowledged,
        "reason": None if paused is None else paused.reason,
        "checkpoint": None
        if paused is None or paused.checkpoint is None
        else paused.checkpoint.model_dump(mode="json"),
    }


def _sentence(answer: PauseAnswer) -> str:
    name, paused = plain(answer.trial_id), answer.paused
    if paused is None:
        return f"{name}: has ended before it could be paused"
    if not paused.acknowledged:
        return f"{name}: {plain(paused.reason)}; it was ended, and will start again from its beginning"
    if paused.checkpoint is None:
        return f"{name}: paused after {answer.took_s:.1f} s; its harness named no checkpoint"
    step = "" if paused.checkpoint.step is None else f", step {paused.checkpoint.step}"
    where = paused.checkpoint.logical_name or paused.checkpoint.path
    return f"{name}: paused after {answer.took_s:.1f} s at the checkpoint {plain(where)}{step}"
