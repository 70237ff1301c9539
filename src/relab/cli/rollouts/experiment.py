"""`lab rollout from-experiment`: change flags if a variant was better than the baseline in a run of an experiment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import open_services, operator
from relab.cli.output import JsonOption, plain, plain_lines, print_json
from relab.cli.rollouts.running import exit_code, recover, show_progress
from relab.cli.stopping import stoppable
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.rollouts.service import Plan


def from_experiment(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="The folder or the id of a run.")],
    variant: Annotated[
        str | None, typer.Option(help="The variant to apply. Default: the only one besides the baseline.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A plan file that names the target and its flags.")] = None,
    flag: Annotated[str | None, typer.Option(help="Instead of a plan: the key of a flag of this product.")] = None,
    a: Annotated[str | None, typer.Option("--a", help="The flag's variant before the rollout.")] = None,
    b: Annotated[str | None, typer.Option("--b", help="The flag's variant to apply on a PASS.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Compare with this variant instead of the baseline.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric that must be better; may be repeated. Default: the primary metrics."),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="A bound on a difference, such as success>=-0.02 or latency_ms<=5%; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Judge, check the target and show the changes; change nothing.")
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Show no progress.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Judge a variant of a run as `lab compare` does; on a PASS, change the flags as --config or --flag says.

    Any other verdict changes nothing. If an earlier call already decided the same change by the same comparison,
    nothing is done. The exit codes are the same as for `lab rollout run`. In addition, 64 means that the run is not
    finished, is damaged, or has no such variant.
    """
    from relab.rollouts.models import ExperimentQuestion

    plan = _plan(config, flag, a, b)
    question = ExperimentQuestion(Path.cwd(), run_dir, variant, baseline, tuple(metric or ()), tuple(gate or ()))
    with open_services() as services:
        recover(services)
        with stoppable() as stop, show_progress(quiet=headless or as_json) as progress:
            found = services.rollouts.run_from_experiment(
                plan, question, by=operator(), stop=stop, on_progress=progress, root=Path.cwd(), is_dry_run=dry_run
            )
        summary = services.rollouts.summary(found.record.rollout_id)
    if as_json:
        rollout = found.record.model_dump(mode="json")
        print_json("rollout from-experiment", rollout=rollout, is_repeat=found.is_repeat)
    else:
        print(plain_lines(summary), end="")
        if found.is_repeat:
            print(
                f"lab: this was decided by rollout {plain(found.record.rollout_id)}; nothing was done", file=sys.stderr
            )
    return exit_code(found.record)


def _plan(path: Path | None, flag: str | None, a: str | None, b: str | None) -> Plan:
    """Return the plan in a file; or, without a file, a plan that changes a flag of relab from its variant `a` to `b`.

    Raises:
        InvalidInputError: the options name neither a file nor a flag, or both, or the plan is invalid.
    """
    from relab.rollouts.service import flag_plan, read_plan

    if path is not None and flag is a is b is None:
        return read_plan(path)
    if path is None and flag is not None and a is not None and b is not None:
        return flag_plan(flag, a=a, b=b)
    raise InvalidInputError("Give the flags to apply: either --config PLAN, or --flag KEY --a VARIANT --b VARIANT.")
