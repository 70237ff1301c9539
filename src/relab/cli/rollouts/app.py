"""`lab rollout`: change the flags of a service, measure what the change does, and keep it only if it is better."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import open_services, operator
from relab.cli.output import EXIT_FAILED, JsonOption, argument, plain, plain_lines, print_json, print_table, write_file
from relab.cli.rollouts.experiment import from_experiment
from relab.cli.rollouts.running import exit_code, recover, show_progress
from relab.cli.rollouts.search import search
from relab.cli.stopping import stoppable
from relab.core.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from relab.rollouts.service import Plan, RolloutRecord

app = typer.Typer(
    help="Rollouts: change flags, measure the effect, apply it only if it is better.", no_args_is_help=True
)

app.command("from-experiment")(from_experiment)
app.command("search")(search)

RolloutId = Annotated[str, typer.Argument(metavar="ID", help="The rollout's id.")]
Note = Annotated[str, typer.Option(help="Reason, for the audit.")]


@app.command()
def run(
    config: Annotated[Path | None, typer.Option(help="The plan file. Default: the shipped plan.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the health and show the changes; change and measure nothing.")
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Show no progress.")] = False,
    policy: Annotated[str | None, typer.Option(help="statistical | seed: overrides the plan's policy.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Overrides the plan's base_url.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Execute a rollout: measure the old and the new flags in turn, judge, and apply the new ones on a PASS.

    The verdict is PASS (the plan's thresholds are met), FAIL (too little improvement or too many errors), EDGE (in
    between: a person decides) or INVALID (the measurement cannot be used). The policy `seed` compares only the
    estimates with the thresholds. The policy `statistical` is stricter: the confidence interval of the effect must show
    an improvement, and the upper bound of the error rate must be below its limit.

    Exit code 0: PASS, applied. 1: FAIL, or the change was rolled back. 2: EDGE or INVALID. 64: the plan is invalid. 69:
    the target cannot be used. 130: interrupted. In every case but PASS the flags are as they were.
    """
    plan = _plan(config, policy, base_url)
    with open_services() as services:
        recover(services)
        with stoppable() as stop, show_progress(quiet=headless or as_json) as progress:
            record = services.rollouts.run(
                plan, by=operator(), stop=stop, on_progress=progress, root=Path.cwd(), is_dry_run=dry_run
            )
        summary = services.rollouts.summary(record.rollout_id)
    if as_json:
        print_json("rollout run", rollout=record.model_dump(mode="json"))
    elif dry_run:
        _print_changes(record)
    else:
        print(plain_lines(summary), end="")
    return exit_code(record)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the plan.")] = Path("plan.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a plan file for a rollout, with comments, to start from."""
    from relab.rollouts.service import starter_text

    try:
        write_file(path, starter_text(), overwrite=force)
    except FileExistsError:
        raise InvalidInputError(f"{path} exists already.", remedy="Give another path, or --force.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    print(f"Wrote {plain(path)}. Check it with: lab rollout run --config {argument(path)} --dry-run")


@app.command("list")
def list_rollouts(
    before: Annotated[str | None, typer.Option(help="Only rollouts before this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List rollouts, newest first."""
    from relab.core.clock import format_time

    with open_services() as services:
        recover(services)
        page = services.rollouts.list_rollouts(before=before, limit=limit)
    if as_json:
        print_json("rollout list", **page.model_dump(mode="json"))
        return
    rows = (
        (
            record.rollout_id,
            format_time(record.created_at),
            record.status.value,
            None if record.judgement is None else record.judgement.verdict.value,
            "yes" if record.application is not None and record.application.applied else "no",
            _change_text(record),
            record.target,
        )
        for record in page.items
    )
    columns = ("rollout", "created", "status", "verdict", "applied", "change", "target")
    print_table("Rollouts", columns, rows, empty="No rollouts found. To write a plan: lab rollout init plan.yaml")
    if page.next_before is not None:
        print(f"More rollouts: --before {plain(page.next_before)}")


@app.command()
def show(rollout_id: RolloutId, as_json: JsonOption = False) -> None:
    """Show a rollout: its verdict, its windows (periods of measurement), and the command to restore the flags."""
    with open_services() as services:
        recover(services)
        record = services.rollouts.get(rollout_id)
        summary = services.rollouts.summary(rollout_id)
    if as_json:
        print_json("rollout show", rollout=record.model_dump(mode="json"))
        return
    print(plain_lines(summary))
    if not record.status.is_over:
        print(f"status: {record.status.value}, phase: {record.phase.value}")
    rows = (
        (
            window.index + 1,
            window.round + 1,
            window.arm.value,
            window.completed,
            window.bad,
            window.dropped,
            window.metric,
        )
        for window in record.windows
    )
    print_table("Windows", ("window", "round", "arm", "completed requests", "failed", "not sent", "metric"), rows)
    for entry in record.audit:
        print(f"{entry.action} by {plain(entry.actor)}{': ' + plain(entry.note) if entry.note else ''}")


@app.command()
def comment(rollout_id: RolloutId, as_json: JsonOption = False) -> None:
    """Print a language model's commentary on a rollout.

    Only sentences whose figures are in the rollout's record are printed. The rollout and its verdict do not change.
    """
    with open_services() as services:
        found = services.rollouts.comment(rollout_id)
    if as_json:
        print_json("rollout comment", commentary=found.model_dump(mode="json"))
        return
    print("Commentary of a language model; the verdict does not depend on it.")
    for claim in found.claims:
        print(f"- {plain(claim.text)}")
        for fact_id in claim.fact_ids:
            print(f"    {plain(found.facts[fact_id])}")
    if not found.claims:
        print("No sentence passed the check.")
    if found.dropped:
        print(
            f"lab: {len(found.dropped)} sentences were dropped: {', '.join(sorted(set(found.dropped)))}",
            file=sys.stderr,
        )


@app.command()
def history(
    config: Annotated[
        Path | None, typer.Option(help="The plan that names the history. Default: the shipped plan.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of newest lines.")] = 20,
    as_json: JsonOption = False,
) -> int:
    """Show the history of the rollouts in this folder, newest last.

    The history is the file that the plan's `report.history_path` names. Exit code 1 if a line of the file was changed
    after it was written.
    """
    plan = _plan(config, None, None)
    with open_services() as services:
        recover(services)
        entries, problem = services.rollouts.history(plan, Path.cwd())
    if as_json:
        print_json("rollout history", entries=entries[-limit:], problem=problem)
        return 0 if problem is None else EXIT_FAILED
    rows = (
        (entry.get("rollout_id"), entry.get("timestamp"), entry.get("verdict"), _applied_text(entry))
        for entry in entries[-limit:]
    )
    print_table("History", ("rollout", "time", "verdict", "applied"), rows, empty="The history has no rollouts.")
    if problem is not None:
        print(f"lab: the history is not as it was written: {plain(problem)}", file=sys.stderr)
    return 0 if problem is None else EXIT_FAILED


@app.command()
def stop(
    rollout_id: RolloutId,
    note: Note = "",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, max=3_600, help="Seconds to wait for its end.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> int:
    """Stop a rollout, whichever process executes it, and restore its flags.

    Exit code 1 if the rollout has not ended within --timeout. The request to stop is stored, so the rollout still ends
    later.
    """
    from time import monotonic, sleep

    with open_services() as services:
        recover(services)
        record = services.rollouts.stop(rollout_id, by=operator(), note=note)
        ends_s = monotonic() + timeout_s
        while not record.status.is_over and monotonic() < ends_s:
            sleep(0.2)
            record = services.rollouts.get(rollout_id)
    if as_json:
        print_json("rollout stop", rollout=record.model_dump(mode="json"))
    elif not record.status.is_over:
        print(
            f"lab: the rollout is still {record.status.value}; it reads the request as soon as it can.", file=sys.stderr
        )
    else:
        is_applied = record.application is not None and record.application.applied
        print(
            plain(
                record.error or f"The rollout ended before the request reached it; its status is {record.status.value}."
            )
        )
        if is_applied:
            print(
                f"Its new flags are in force. Restore the earlier ones with: lab rollout rollback {argument(rollout_id)}"
            )
        elif record.flags_restored is not False:
            print("The flags are as before.")
    return 0 if record.status.is_over else EXIT_FAILED


@app.command()
def apply(rollout_id: RolloutId, note: Note = "", as_json: JsonOption = False) -> None:
    """Apply the change of a rollout that had the verdict EDGE (between PASS and FAIL), or a PASS that was not applied.

    The rollout's audit log names you.
    """
    _decide("apply", rollout_id, note, as_json=as_json)


@app.command()
def rollback(rollout_id: RolloutId, note: Note = "", as_json: JsonOption = False) -> None:
    """Undo a rollout whose change is in force: set the flags to their values from before the rollout."""
    _decide("rollback", rollout_id, note, as_json=as_json)


def _decide(command: str, rollout_id: str, note: str, *, as_json: bool) -> None:

    with open_services() as services:
        recover(services)
        decide = services.rollouts.apply if command == "apply" else services.rollouts.roll_back
        record = decide(rollout_id, by=operator(), note=note)
    if as_json:
        print_json(f"rollout {command}", rollout=record.model_dump(mode="json"))
    else:
        assert record.application is not None
        print(plain(record.application.message))


def _plan(path: Path | None, policy: str | None, base_url: str | None) -> Plan:
    """Return the plan in a file, or the shipped plan if `path` is None.

    `policy` and `base_url` replace the plan's values unless they are None.

    Raises:
        PlanInvalidError: the file or an override is invalid.
    """
    from relab.rollouts.service import default_plan, override_plan, read_plan

    plan = default_plan() if path is None else read_plan(path)
    given = {"policy": policy, "base_url": base_url}
    return override_plan(plan, {name: value for name, value in given.items() if value is not None})


def _applied_text(entry: dict[str, Any]) -> str | None:
    """Return "yes" or "no" for a line of the history: whether the change was applied. None if the line does not say."""
    result = entry.get("result")
    application = result.get("application") if isinstance(result, dict) else None
    return None if not isinstance(application, dict) else "yes" if application.get("applied") else "no"


def _change_text(record: RolloutRecord) -> str | None:
    found = None if record.judgement is None else record.judgement.delta_p95
    return None if found is None else f"{found.estimate_pct:+.1f} %"


def _print_changes(record: RolloutRecord) -> None:
    """Print the result of a dry run: the change for each arm (set of flags), the planned time, and warnings."""
    from json import dumps

    from relab.rollouts.service import blind_spots, pass_obstacles, planned_time

    print(f"Dry run on {plain(record.target)}: the target is healthy.")
    for arm, change in sorted(record.changes.items()):
        print(f"Arm {arm.value}: {plain(dumps(change))}")
    print(f"{planned_time(record.plan).sentence()}. Nothing was changed or measured.")
    for obstacle in pass_obstacles(record.plan):
        print(f"This plan can never pass: {obstacle}")
    for warning in blind_spots(record.plan):
        print(f"Warning: {warning}")
