"""Write, describe and run experiments (`lab init`, `describe`, `run`, …), and list, show and verify their runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.experiments.context import open_experiments, stoppable_run
from relab.cli.experiments.options import (
    DEFAULT_EXECUTOR,
    DEFAULT_EXPERIMENT,
    DEFAULT_KEEP,
    AddressOption,
    ContinueOption,
    ExecutorOption,
    ExperimentArgument,
    KeepOption,
    MaxCostOption,
    MaxFirstErrorsOption,
    MaxSecondsOption,
    MaxTrialsOption,
    NoTelemetryOption,
    OverridesOption,
    QuietOption,
    ResultCacheOption,
    RetryErrorsOption,
    ceilings_of,
    keep_of,
)
from relab.cli.output import EXIT_FAILED, EXIT_USAGE, JsonOption, plain, print_json, print_json_error, print_table
from relab.core.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from relab.experiments.models import RunOptions

app = typer.Typer(help="Experiments of this project: `list`, `show` and `verify`.", no_args_is_help=True)


def init(
    workload_type: Annotated[str, typer.Option(help="agent_harness | trainer")] = "agent_harness",
    container: Annotated[bool, typer.Option("--container", help="Configure trials in containers.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a commented example of .lab/experiment.yaml, and its JSON Schema, which editors use for completion."""
    from relab.experiments.service import write_experiment

    if workload_type not in {"agent_harness", "trainer"}:
        raise InvalidInputError(f"--workload-type must be agent_harness or trainer, not {workload_type!r}.")
    files = write_experiment(Path.cwd(), workload_type=workload_type, container=container)
    if json:
        print_json("init", written=[str(path) for path in files])
        return
    for path in files:
        print(f"wrote: {plain(path)}")
    print("next: fill in the fields marked REQUIRED, then run: lab describe .lab/experiment.yaml")


def describe(
    experiment: ExperimentArgument = DEFAULT_EXPERIMENT,
    overrides: OverridesOption = None,
    container: Annotated[
        bool, typer.Option("--container", help="Describe the experiment as `lab run --container` would run it.")
    ] = False,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Report the chance of the plan to decide this gate of `lab compare`; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Show the harness, the plan, the isolation in effect and the statistical power of an experiment; run nothing.

    Exit code: 0 if the experiment is valid and its harness can be executed; 64 if the harness does not exist or cannot
    be executed.
    """
    from relab.cli.experiments.output import show_plan

    with open_experiments(telemetry=False) as service:
        summary = service.runs.describe(experiment, overrides, container=container, gates=gate or ())
    problem = summary["harness_problem"]
    if json and problem is not None:
        print_json_error("experiment_invalid", problem, command="describe", summary=summary)
    elif json:
        print_json("describe", summary=summary)
    else:
        show_plan(summary)
    return 0 if problem is None else EXIT_USAGE


def run(
    experiment: Annotated[
        list[Path] | None, typer.Argument(help="The experiment file; several, or a list, are a set.")
    ] = None,
    go_on: ContinueOption = None,
    retry_errors: RetryErrorsOption = False,
    container: Annotated[
        bool, typer.Option("--container", help="Run trials in containers of the configured image.")
    ] = False,
    overrides: OverridesOption = None,
    keep: KeepOption = DEFAULT_KEEP,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    address: AddressOption = None,
    max_trials: MaxTrialsOption = None,
    max_cost_usd: MaxCostOption = None,
    max_seconds: MaxSecondsOption = None,
    max_first_errors: MaxFirstErrorsOption = None,
    result_cache: ResultCacheOption = None,
    set_id: Annotated[
        str | None, typer.Option("--set", help="The id of the set; the same command continues it.")
    ] = None,
    quiet: QuietOption = False,
    no_telemetry: NoTelemetryOption = False,
    json: JsonOption = False,
) -> int:
    """Run the trials of an experiment, with the network access and the sandbox that it configures."""
    from relab.cli.experiments.output import continue_run
    from relab.cli.experiments.sets import continue_set, run_set
    from relab.experiments.models import Command, ContinueOptions, RunOptions
    from relab.experiments.sets import find_set, is_set_file

    ceilings = ceilings_of(max_trials, max_cost_usd, max_seconds, max_first_errors)
    if go_on is None and retry_errors:
        raise InvalidInputError("--retry-errors needs --continue RUN: only a run that exists has errors to retry.")
    if go_on is None:
        options = RunOptions(
            Command.RUN,
            container,
            overrides,
            keep=keep_of(keep),
            executor=executor,
            address=address,
            ceilings=ceilings,
            result_cache=result_cache,
        )
        files = experiment or [DEFAULT_EXPERIMENT]
        if len(files) > 1 or set_id is not None or is_set_file(files[0]):
            return run_set(files, set_id, options, quiet, no_telemetry, json)
        return _run(files[0], options, quiet, no_telemetry, json)
    if experiment or container or keep != DEFAULT_KEEP or (set_id, overrides, result_cache) != (None, None, None):
        raise InvalidInputError(
            "--continue uses the settings that the run was started with: give no experiment, --container, --overrides, --set, "
            "--keep-workspaces or --result-cache."
        )
    again = ContinueOptions(executor, address, ceilings=ceilings, retry_errors=retry_errors)
    if (folder := find_set(Path.cwd(), go_on)) is not None:
        if retry_errors:
            raise InvalidInputError("--retry-errors needs a single run, not a set: give one of its runs to --continue.")
        return continue_set(folder, again, quiet, no_telemetry, json)
    return continue_run("run", go_on, again, quiet=quiet, no_telemetry=no_telemetry, json=json)


def run_dev(
    experiment: ExperimentArgument = DEFAULT_EXPERIMENT,
    setup: Annotated[str | None, typer.Option(help="A shell command that runs once before the trials.")] = None,
    overrides: OverridesOption = None,
    keep: KeepOption = DEFAULT_KEEP,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    address: AddressOption = None,
    max_trials: MaxTrialsOption = None,
    max_cost_usd: MaxCostOption = None,
    max_seconds: MaxSecondsOption = None,
    max_first_errors: MaxFirstErrorsOption = None,
    result_cache: ResultCacheOption = None,
    quiet: QuietOption = False,
    no_telemetry: NoTelemetryOption = False,
    json: JsonOption = False,
) -> int:
    """Run the trials of an experiment in containers or bubblewrap with full network access, for development.

    The option `--keep-workspaces` says which workspaces (each trial's copy of the project) are kept afterwards.
    """
    from relab.experiments.models import Command, RunOptions

    options = RunOptions(
        Command.RUN_DEV,
        overrides=overrides,
        setup=setup,
        keep=keep_of(keep),
        executor=executor,
        address=address,
        ceilings=ceilings_of(max_trials, max_cost_usd, max_seconds, max_first_errors),
        result_cache=result_cache,
    )
    return _run(experiment, options, quiet, no_telemetry, json)


def run_experiment(
    experiment: ExperimentArgument = DEFAULT_EXPERIMENT,
    overrides: OverridesOption = None,
    keep: KeepOption = DEFAULT_KEEP,
    executor: ExecutorOption = DEFAULT_EXECUTOR,
    address: AddressOption = None,
    max_trials: MaxTrialsOption = None,
    max_cost_usd: MaxCostOption = None,
    max_seconds: MaxSecondsOption = None,
    max_first_errors: MaxFirstErrorsOption = None,
    result_cache: ResultCacheOption = None,
    quiet: QuietOption = False,
    no_telemetry: NoTelemetryOption = False,
    json: JsonOption = False,
) -> int:
    """Run an experiment like `lab run`, but isolated: in containers or bubblewrap, without network access.

    Use this command for results to publish. An experiment that configures network access is rejected.
    """
    from relab.experiments.models import Command, RunOptions

    options = RunOptions(
        Command.RUN_EXPERIMENT,
        overrides=overrides,
        keep=keep_of(keep),
        executor=executor,
        address=address,
        ceilings=ceilings_of(max_trials, max_cost_usd, max_seconds, max_first_errors),
        result_cache=result_cache,
    )
    return _run(experiment, options, quiet, no_telemetry, json)


@app.command("list")
def list_runs(json: JsonOption = False) -> None:
    """List the runs of this project, newest first."""
    from relab.experiments.service import list_runs as runs_of

    found = runs_of(Path.cwd())
    if json:
        print_json("experiments list", runs=found)
        return
    print_table(
        "Runs",
        ("run", "experiment", "command", "status", "trials", "created"),
        (
            [row["run_id"], row["experiment"], row["command"], row["status"], row["trials"], row["created_at"]]
            for row in found
        ),
        empty="No runs found in this project. To start one: lab run",
    )


@app.command("show")
def show(
    run_dir: Annotated[Path, typer.Argument(help="The folder or the id of a run.")], json: JsonOption = False
) -> None:
    """Show the settings of a run, its outcomes by variant, and its unsuccessful trials."""
    from relab.experiments.service import show_run

    found = show_run(Path.cwd(), run_dir)
    if json:
        print_json("experiments show", run=found)
        return
    for name, value in found.items():
        if not isinstance(value, (dict, list)):
            print(f"{name}: {plain(value)}")
    rows = [
        [variant, counts.get("success", 0), counts.get("failure", 0), counts.get("error", 0), counts.get("missing", 0)]
        for variant, counts in found["outcomes"].items()
    ]
    print_table("Trials", ("variant", "success", "failure", "error", "missing"), rows)
    print_table(
        "Unsuccessful trials",
        ("trial", "variant", "task", "outcome", "error", "agent run"),
        (
            [row[name] for name in ("trial_id", "variant_id", "task_id", "outcome", "error_type", "agent_run_id")]
            for row in found["failed_trials"]
        ),
        empty="All trials that ran were successful.",
    )


@app.command("verify")
def verify(
    run_dir: Annotated[Path, typer.Argument(help="The folder or the id of a run.")], json: JsonOption = False
) -> int:
    """Check every file of a run against its recorded digest.

    Exit code: 0 if all are unchanged, 1 if the run is damaged, 64 if there is no such run.
    """
    from relab.cli.output import report_error

    with open_experiments(telemetry=False) as service:
        try:
            path, problems = service.damage_of_run(Path.cwd(), run_dir)
        except NotFoundError as error:
            # Not the usual exit code 1, which means damaged here.
            report_error(error)
            return EXIT_USAGE
    if json:
        print_json("experiments verify", run_dir=str(path), whole=not problems, problems=problems)
    else:
        for problem in problems:
            print(plain(problem))
        print(f"{plain(path)}: {f'{len(problems):,} problems' if problems else 'every file is unchanged'}")
    return EXIT_FAILED if problems else 0


def _run(experiment: Path, options: RunOptions, quiet: bool, no_telemetry: bool, json: bool) -> int:
    from relab.cli.experiments.output import live_progress, report_run, warn

    with open_experiments(telemetry=not no_telemetry) as service:
        resolved = service.runs.prepare(experiment, options)
        warn(resolved.warnings)
        with stoppable_run() as stop, live_progress(len(resolved.plan), 0, quiet=quiet or json) as on_result:
            summary = service.runs.run(resolved, options, stop, on_result)
    extra: dict[str, object] = {"container": resolved.config.runtime.sandbox.mode.kind.runs_image}
    if options.command.value == "run-dev":
        extra |= {"dev_setup": options.setup, "dev_network_mode": "full"}
    return report_run(options.command.value, summary, json, extra)
