"""Print the plan of an experiment, and the progress and the summary of a run; choose the exit code of the command."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.cli.output import EXIT_BUDGET, EXIT_FAILED, EXIT_INTERRUPTED, argument, plain, print_json, print_table

if TYPE_CHECKING:
    from relab.experiments.models import ContinueOptions, ExperimentRunSummary, RunProgress, TrialResult

_PLAIN_EVERY_S = 10.0


def warn(warnings: Sequence[str]) -> None:
    """Print the warnings about a run on standard error."""
    for warning in warnings:
        print(f"lab: warning: {plain(warning)}", file=sys.stderr)


def show_plan(summary: Mapping[str, Any]) -> None:
    """Print the plan of an experiment (`summary`, from `ExperimentRuns.describe`), and its warnings on standard error."""
    hidden = {
        "power",
        "first_trials",
        "overrides",
        "warnings",
        "variants",
        "primary_metrics",
        "allowed_hosts",
        "harness_problem",
    }
    for name, value in summary.items():
        if name not in hidden:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{name}: {plain(_word(shown))}")
    print(f"variants: {plain(', '.join(summary['variants']))}")
    print(f"primary_metrics: {plain(', '.join(summary['primary_metrics']))}")
    if summary["allowed_hosts"]:
        print(f"allowed_hosts: {plain(', '.join(summary['allowed_hosts']))}")
    for override in summary["overrides"]:
        print(f"override: {plain(override['id'])} = {plain(override['value'])} (was {plain(override['previous'])})")
    _show_power(summary["power"])
    print_table(
        "First trials",
        ("trial", "variant", "task", "repeat"),
        (
            [trial["trial_id"], trial["variant_id"], trial["task_id"], trial["repl_idx"]]
            for trial in summary["first_trials"]
        ),
    )
    if summary["harness_problem"] is not None:
        print(f"lab: {plain(summary['harness_problem'])} Every trial would fail.", file=sys.stderr)
    warn(summary["warnings"])


def _word(value: object) -> object:
    return (
        {True: "true", False: "false", None: "-"}.get(value, value) if isinstance(value, (bool, type(None))) else value
    )


def _show_power(power: Mapping[str, Any]) -> None:
    def said(case: str) -> str:
        effect = power[case]["minimum_detectable_effect"]
        return "no difference is detectable" if effect is None else f"{effect * 100:.1f} points"

    cases = said("worst_case"), said("half_of_the_variance_between_tasks")
    found = cases[0] if len(set(cases)) == 1 else f"{cases[0]}; {cases[1]} if half of the variance is between tasks"
    print(f"minimum detectable difference of success (80 % power, {power['pairs']} pairs): {found}")
    for gate in power["gates"]:
        print(plain(gate["summary"]))


@contextmanager
def live_progress(total: int, done: int, *, quiet: bool) -> Iterator[Callable[[TrialResult, RunProgress], None]]:
    """Yield a function to call after each trial; it shows the progress of a run on standard error.

    In a terminal, it shows a bar. Otherwise, it prints a line at most every 10 s.

    Args:
        total: the number of trials.
        done: the number of trials that were finished before this command.
        quiet: whether to show nothing.
    """
    if quiet:
        yield lambda _result, _progress: None
    elif sys.stderr.isatty():
        with _bars(total, done) as show:
            yield show
    else:
        yield _Lines()


@contextmanager
def _bars(total: int, done: int) -> Iterator[Callable[[TrialResult, RunProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("trials"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[outcomes]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("trials", total=total, completed=done, rate="", outcomes="")
        started = time.monotonic()

        def show(_: TrialResult, progress: RunProgress) -> None:
            rate = (progress.done - done) / max(time.monotonic() - started, 1e-9)
            bar.update(task, completed=progress.done, rate=f"{rate:.1f}/s", outcomes=_outcomes(progress))

        yield show


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + _PLAIN_EVERY_S

    def __call__(self, _: TrialResult, progress: RunProgress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_EVERY_S
            print(f"{progress.done:,} of {progress.total:,} trials; {_outcomes(progress)}", file=sys.stderr)


def _outcomes(progress: RunProgress) -> str:
    return "; ".join(
        f"{plain(variant)} {counts['success']}/{counts.total()}"
        for variant, counts in sorted(progress.outcomes.items())
    )


def show_run(summary: ExperimentRunSummary) -> None:
    """Print the outcomes and the problems of a run, and the paths of its results."""
    rows = [
        [variant, *(counts.get(outcome, 0) for outcome in ("success", "failure", "error", "missing"))]
        for variant, counts in summary.outcomes.items()
    ]
    print_table(f"{summary.run_id}: {summary.done:,} of {summary.total:,} trials", _OUTCOME_COLUMNS, rows)
    for problem in summary.problems:
        print(
            f"{plain(problem.kind)} in {problem.trials:,} trial(s), first in {plain(problem.trial_dir)}: "
            f"{plain(problem.message)[:_PROBLEM_CHARS]}"
        )
    _warn_of_errors(summary)
    warn(summary.end_warnings)
    print(f"run_dir: {plain(summary.run_dir)}")
    if summary.agent_runs_failed:
        print(
            f"lab: {summary.agent_runs_failed:,} agent runs could not be stored in telemetry: {plain(summary.agent_run_error)}",
            file=sys.stderr,
        )
    if summary.retried:
        print(
            f"retried: {summary.retried:,} trials; the files of their earlier attempts are in {plain(summary.run_dir / 'retries')}"
        )
    if summary.cached:
        print(
            f"cached: {summary.cached:,} of {summary.done:,} trials are from the result cache, and cost nothing again"
        )
    for decision in summary.decisions:
        print(f"decided: {plain(decision['reason'])}")
    if summary.finished and summary.not_needed:
        print(f"stopped early: {summary.not_needed:,} of {summary.total:,} planned trials were not needed")
    if summary.finished:
        print(f"report: {plain(summary.run_dir / 'analysis' / 'report.html')}")
        print(f"next: lab compare {argument(summary.run_dir)}")
        return
    if summary.paused:
        names, more = summary.paused[:_SHOWN_PAUSED], len(summary.paused) - _SHOWN_PAUSED
        others = f" and {more:,} more" if more > 0 else ""
        print(
            f"lab: paused: {plain(', '.join(names))}{others}; to resume, run: lab resume --run-dir {argument(summary.run_dir)}",
            file=sys.stderr,
        )
    if summary.ceiling is not None:
        # Without any result, the errors have to be corrected and run again first.
        has_result = len(summary.variants_without_result) < len(summary.outcomes)
        how = "with a higher ceiling" if has_result else "--retry-errors after the cause is corrected"
        print(
            f"lab: {plain(summary.ceiling)}; to continue, run: lab run --continue {argument(summary.run_dir)} {how}",
            file=sys.stderr,
        )
    elif summary.done + len(summary.paused) < summary.total:
        print(
            f"lab: the run is not finished; to continue it, run: lab run --continue {argument(summary.run_dir)}",
            file=sys.stderr,
        )


def _warn_of_errors(summary: ExperimentRunSummary) -> None:
    errors = sum(counts.get("error", 0) for counts in summary.outcomes.values())
    if errors:
        print(f"lab: warning: {errors:,} of {summary.done:,} trials ended in an error", file=sys.stderr)
    if summary.variants_without_result:
        names = plain(", ".join(map(repr, summary.variants_without_result)))
        print(f"lab: no trial of {names} has a result: each ended in an error or was not run", file=sys.stderr)


_PROBLEM_CHARS = 300
_SHOWN_PAUSED = 5
_OUTCOME_COLUMNS = ("variant", "success", "failure", "error", "missing")


def run_json(summary: ExperimentRunSummary) -> dict[str, Any]:
    """Return the summary of a run as the fields of the JSON document that `--json` prints."""
    evidence = summary.run_dir / "evidence"
    return {
        "run": {"run_id": summary.run_id, "run_dir": str(summary.run_dir)},
        "finished": summary.finished,
        "trials": {"total": summary.total, "done": summary.done},
        "outcomes": {variant: dict(counts) for variant, counts in summary.outcomes.items()},
        "problems": [asdict(problem) for problem in summary.problems],
        "variants_without_result": summary.variants_without_result,
        "agent_runs": {"stored": summary.agent_runs, "failed": summary.agent_runs_failed},
        "artifacts": {
            "evidence_records_path": str(evidence / "evidence_records.jsonl"),
            "task_chain_states_path": str(evidence / "task_chain_states.jsonl"),
            "report_path": str(summary.run_dir / "analysis" / "report.html"),
        },
        "warnings": [*summary.warnings, *summary.end_warnings],
        "paused": list(summary.paused),
        "stopping": {"decisions": list(summary.decisions), "trials_not_needed": summary.not_needed},
        "budget_reached": summary.ceiling,
        "retried": summary.retried,
        "cached": summary.cached,
    }


def exit_code_of(summary: ExperimentRunSummary) -> int:
    """Return the exit code of a command that executed this run.

    - 0: the run is finished, and every variant has a trial that ended in success or failure.
    - 1: the run is finished, but all trials of a variant ended in another way, such as an error.
    - 75: the run reached a ceiling (a limit, such as on its cost), and was stopped.
    - 130: the run was interrupted or paused.
    """
    if not summary.finished:
        return EXIT_INTERRUPTED if summary.ceiling is None else EXIT_BUDGET
    return EXIT_FAILED if summary.variants_without_result else 0


def continue_run(
    command: str, run_dir: Path, options: ContinueOptions, *, quiet: bool, no_telemetry: bool, json: bool
) -> int:
    """Continue a run, print its summary, and return the exit code of the command."""
    from relab.cli.experiments.context import open_experiments, stoppable_run
    from relab.experiments.service import find_run

    with open_experiments(telemetry=not no_telemetry) as service:
        path = find_run(Path.cwd(), run_dir)
        with stoppable_run() as stop, live_progress(*service.runs.extent(path), quiet=quiet or json) as on_result:
            summary = service.runs.continue_run(path, stop, on_result, options)
        if options.allow_drift:
            warn(summary.warnings)
    return report_run(command, summary, json, {"continued": True})


def report_run(command: str, summary: ExperimentRunSummary, json: bool, extra: dict[str, object]) -> int:
    """Print the summary of a run, and return the exit code of the command that executed the run.

    With `json`, print one JSON object: the name of the `command`, the summary and the `extra` fields.
    """
    code = exit_code_of(summary)
    if json:
        print_json(command, **run_json(summary), **extra, exit_code=code)
    else:
        show_run(summary)
    return code
