"""The group `lab inspect` (`import`, `export`): convert logs of Inspect AI to runs, and runs to logs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, print_table

app = typer.Typer(help="Logs of Inspect AI: `import` and `export`.", no_args_is_help=True)

_MB = 1_048_576


@app.command("import")
def import_logs(
    logs: Annotated[list[Path], typer.Argument(help="The .eval files. Logs of one task become variants of one run.")],
    scorer: Annotated[
        str | None,
        typer.Option(help="The score that decides about success, as in the log, or scorer.key. Default: the first."),
    ] = None,
    success_at: Annotated[float, typer.Option(help="The least score of a success. C is 1, P 0.5, I and N 0.")] = 1.0,
    baseline: Annotated[
        str | None, typer.Option(help="The variant to compare with. Default: the model of the first log.")
    ] = None,
    max_entry_mb: Annotated[int, typer.Option(min=1, help="The largest size of one sample, in MB.")] = 128,
    no_telemetry: Annotated[bool, typer.Option("--no-telemetry", help="Do not record samples as agent runs.")] = False,
    json: JsonOption = False,
) -> None:
    """Import logs of Inspect (an evaluation framework) as runs of this project.

    Each log becomes a variant, each sample a task, and each epoch a repeat of the tasks. `lab trials`, `lab compare`
    and `lab rca` can read the runs. Inspect's grades count as numbers: C (correct) 1, P (partial) 0.5, I (incorrect)
    and N (no answer) 0.
    """
    from relab.core.clock import SystemClock
    from relab.experiments.inspect_logs.service import ImportOptions, InspectLogService

    options = ImportOptions(scorer, success_at, baseline, max_entry_mb * _MB)
    if no_telemetry:
        found = InspectLogService(SystemClock()).import_logs(Path.cwd(), logs, options)
    else:
        with open_services() as services:
            found = InspectLogService(services.clock, services.telemetry).import_logs(Path.cwd(), logs, options)
    for warning in [warning for item in found for warning in item.warnings]:
        print(f"lab: warning: {plain(warning)}", file=sys.stderr)
    if json:
        print_json("inspect import", runs=[asdict(item) | {"run_dir": str(item.run_dir)} for item in found])
        return
    for item in found:
        print_table(
            f"{item.run_id}: {item.task}, success by {item.scorer or 'no scorer'}",
            ("variant", "success", "failure", "error", "missing", "log"),
            (
                [name, *(counts.get(key, 0) for key in ("success", "failure", "error", "missing")), item.logs[name]]
                for name, counts in item.outcomes.items()
            ),
        )
        print(f"run: {plain(item.run_dir)}")


@app.command("export")
def export(
    run_dir: Annotated[Path, typer.Argument(help="The folder or the id of a run.")],
    out: Annotated[Path, typer.Option(help="The folder that the logs are written to.")] = Path("logs"),
    json: JsonOption = False,
) -> None:
    """Write a run as logs of Inspect (an evaluation framework): one .eval file for each variant."""
    from relab.core.clock import SystemClock
    from relab.experiments.inspect_logs.service import InspectLogService

    found = InspectLogService(SystemClock()).export_run(Path.cwd(), run_dir, out)
    if json:
        print_json("inspect export", run_id=found.run_id, logs={name: str(path) for name, path in found.logs.items()})
        return
    for name, path in found.logs.items():
        print(f"{plain(name)}: {plain(path)}")
