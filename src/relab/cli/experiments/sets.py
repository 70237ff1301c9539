"""`lab run` with several experiments, and `lab run --continue SET`: run the experiments of a set in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.cli.experiments.context import open_experiments, stoppable_run
from relab.cli.output import (
    ERROR_INDENT,
    EXIT_BUDGET,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    argument,
    plain,
    plain_lines,
    print_json,
    print_table,
)
from relab.core.errors import RelabError

if TYPE_CHECKING:
    from relab.experiments.models import ContinueOptions, ExperimentRunSummary, RunOptions, StopSwitch
    from relab.experiments.service import ExperimentService
    from relab.experiments.sets import ExperimentSet, SetEntry

_OUTCOMES = ("success", "failure", "error", "missing")


@dataclass(frozen=True)
class _Ran:
    """The result of one experiment of a set: the `summary` of its run, or the `error` that prevented the run.

    Both are None if the command was stopped before this experiment.
    """

    entry: SetEntry
    summary: ExperimentRunSummary | None = None
    error: str | None = None

    @property
    def code(self) -> int:
        from relab.cli.experiments.output import exit_code_of

        if self.summary is None:
            return EXIT_INTERRUPTED if self.error is None else EXIT_FAILED
        return exit_code_of(self.summary)


def run_set(
    files: Sequence[Path], set_id: str | None, options: RunOptions, quiet: bool, no_telemetry: bool, json: bool
) -> int:
    """Run the experiments of these files one after the other as one set, and return the exit code of the command.

    Args:
        files: the paths of experiment files, or of files that list experiment files.
        set_id: the id of the set; None for a new id.
        options: how the trials of all experiments are run.
        quiet: whether to show no progress.
        no_telemetry: whether to skip recording trials as agent runs.
        json: whether to print one JSON object instead of tables.
    """
    from relab.experiments.models import ContinueOptions

    again = ContinueOptions(options.executor, options.address, ceilings=options.ceilings)
    return _run(
        lambda service: service.sets.open(files, options, set_id),
        again,
        quiet,
        no_telemetry,
        json,
    )


def continue_set(folder: Path, options: ContinueOptions, quiet: bool, no_telemetry: bool, json: bool) -> int:
    """Run the unfinished experiments of a set that was begun earlier; return the exit code of the command.

    Args:
        folder: the folder of the set.
        options: how the trials of all experiments are run.
        quiet: whether to show no progress.
        no_telemetry: whether to skip recording trials as agent runs.
        json: whether to print one JSON object instead of tables.
    """
    return _run(lambda service: service.sets.find(folder, folder), options, quiet, no_telemetry, json)


def _run(
    opened: Callable[[ExperimentService], ExperimentSet],
    options: ContinueOptions,
    quiet: bool,
    no_telemetry: bool,
    json: bool,
) -> int:
    with open_experiments(telemetry=not no_telemetry) as service:
        found = opened(service)
        with service.sets.locked(found), stoppable_run() as stop:
            ran = [_run_one(service, found, entry, stop, options, quiet or json) for entry in found.entries]
    codes = {each.code for each in ran}
    code = EXIT_INTERRUPTED if EXIT_INTERRUPTED in codes else max(codes)
    if json:
        runs = [_json_of(each) for each in ran]
        print_json("run", set={"set_id": found.set_id, "set_dir": str(found.folder)}, runs=runs, exit_code=code)
        return code
    _show(found, ran)
    return code


def _run_one(
    service: ExperimentService,
    found: ExperimentSet,
    entry: SetEntry,
    stop: StopSwitch,
    options: ContinueOptions,
    quiet: bool,
) -> _Ran:
    """Run one experiment of a set, and return its result.

    A RelabError is returned in the result, not raised. A finished experiment is not run again. If a stop was requested,
    no experiment is begun.
    """
    from relab.cli.experiments.output import live_progress, warn

    if stop.finish.is_set() and not entry.is_finished:
        return _Ran(entry)
    if not quiet:
        state = "finished before" if entry.is_finished else "running"
        print(f"lab: {entry.index + 1} of {len(found.entries)}: {plain(entry.experiment)}: {state}", file=sys.stderr)
    try:
        warn(service.sets.warnings(found, entry))
        with live_progress(*service.sets.extent(found, entry), quiet=quiet or entry.is_finished) as on_result:
            return _Ran(entry, service.sets.run(found, entry, stop, on_result, options))
    except RelabError as error:
        return _Ran(entry, error=str(error))


def _json_of(ran: _Ran) -> dict[str, Any]:
    from relab.cli.experiments.output import run_json

    of_run = {"finished": False} if ran.summary is None else run_json(ran.summary)
    return {"experiment": ran.entry.experiment, "path": str(ran.entry.path), "error": ran.error, **of_run}


def _show(found: ExperimentSet, ran: Sequence[_Ran]) -> None:
    from relab.cli.experiments.output import warn

    rows: list[list[object]] = []
    for each in ran:
        if each.summary is None:
            rows.append([each.entry.experiment, "not run", *[None] * (len(_OUTCOMES) + 2)])
            continue
        done = f"{each.summary.done:,} of {each.summary.total:,}"
        for variant, counts in each.summary.outcomes.items():
            counted = [counts.get(outcome, 0) for outcome in _OUTCOMES]
            rows.append([each.entry.experiment, each.summary.run_id, done, variant, *counted])
    print_table(f"Set {found.set_id}", ("experiment", "run", "trials", "variant", *_OUTCOMES), rows)
    warn([warning for each in ran if each.summary is not None for warning in each.summary.end_warnings])
    for each in ran:
        if each.error is not None:
            print(f"lab: {plain(each.entry.experiment)}: {plain_lines(each.error, ERROR_INDENT)}", file=sys.stderr)
        elif each.summary is not None and each.summary.variants_without_result:
            names = plain(", ".join(each.summary.variants_without_result))
            print(f"lab: {plain(each.entry.experiment)}: no trial of {names} has a result", file=sys.stderr)
    if any(each.code in (EXIT_INTERRUPTED, EXIT_BUDGET) for each in ran) or any(each.error for each in ran):
        print(
            f"lab: the set is not finished; to continue it, run: lab run --continue {argument(found.set_id)}",
            file=sys.stderr,
        )
    else:
        print(f"next: lab compare {argument(found.set_id)}")
