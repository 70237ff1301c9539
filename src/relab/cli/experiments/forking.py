"""`lab fork`: run trials again from one of their checkpoints, with changed bindings (values for the harness)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relab.cli.experiments.context import open_experiments, stoppable_run
from relab.cli.experiments.options import (
    DEFAULT_EXECUTOR,
    DEFAULT_KEEP,
    AddressOption,
    ExecutorOption,
    KeepOption,
    NoTelemetryOption,
    QuietOption,
    keep_of,
)
from relab.cli.experiments.output import report_run
from relab.cli.experiments.pausing import RunDirOption
from relab.cli.output import JsonOption

StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict", help="Reject harnesses without the integration level sdk_full, and trials without any checkpoint."
    ),
]
ControlOption = Annotated[
    bool,
    typer.Option(
        "--control", help="Fork each trial a second time with nothing changed, and compare with that, not the parents."
    ),
]


def fork(
    run_dir: RunDirOption,
    at: Annotated[
        str,
        typer.Option(
            help="The checkpoint to begin from: checkpoint:<logical name or path>, or the last one at or before step:<n> or event_seq:<n> (the event whose seq is n)."
        ),
    ],
    from_trial: Annotated[
        list[str] | None,
        typer.Option("--from-trial", help="A trial with a result; may be repeated for trials of one variant."),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Instead of --from-trial: all trials of this variant that have such a checkpoint."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A binding to change, name=value or outer.inner=value, with a JSON value or a text; may be repeated.",
        ),
    ] = None,
    strict: StrictOption = False,
    control: ControlOption = False,
    keep: KeepOption = DEFAULT_KEEP,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    address: AddressOption = None,
    allow_drift: Annotated[
        bool,
        typer.Option(
            "--allow-drift",
            help="Fork also from checkpoints that were changed after the end of their run; the new run records this.",
        ),
    ] = False,
    quiet: QuietOption = False,
    no_telemetry: NoTelemetryOption = False,
    json: JsonOption = False,
) -> int:
    """Run trials again from a checkpoint, as a new run, with changed bindings (values that the harness gets).

    Each new trial is a fork; the trial whose checkpoint it begins from is its parent. Parents and their run are not
    changed. `lab compare` pairs the forks with their parents.
    """
    from relab.cli.experiments.output import live_progress, warn
    from relab.experiments.models import ForkOptions
    from relab.experiments.service import find_run

    options = ForkOptions(
        at, from_trial or (), variant, changes or (), strict, control, keep_of(keep), executor, address, allow_drift
    )
    with open_experiments(telemetry=not no_telemetry) as service:
        planned = service.runs.plan_fork(find_run(Path.cwd(), run_dir), options)
        warn(planned.warnings)
        with stoppable_run() as stop, live_progress(planned.trials, 0, quiet=quiet or json) as on_result:
            summary = service.runs.fork(planned, options, stop, on_result)
    hidden = {"parents_digest", "parent_run_dir"}
    facts = {name: value for name, value in planned.facts.items() if name not in hidden}
    return report_run("fork", summary, json, {"fork": facts})
