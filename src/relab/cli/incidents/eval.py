"""`lab incidents eval`: measure responders on testbeds. An evaluation takes hours, and can be stopped and continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import read_settings
from relab.cli.experiments.context import open_experiments, stoppable_run
from relab.cli.experiments.options import QuietOption
from relab.cli.incidents.eval_output import show_report
from relab.cli.output import EXIT_INTERRUPTED, JsonOption, argument, print_json, write_text

if TYPE_CHECKING:
    from relab.experiments.models import StopSwitch
    from relab.incidents.evaluation.figures import EpisodeMetrics

_REPORT = "report.json"

FolderArgument = Annotated[Path, typer.Argument(help="The folder for the experiments, their runs and the report.")]
HealthyOption = Annotated[
    int, typer.Option(min=0, help="Additional episodes with noise and no fault, to measure false alarms.")
]
AfterEscalationOption = Annotated[
    int, typer.Option(min=0, help="Additional episodes with a second fault after the incident was escalated.")
]
BusyOption = Annotated[
    float, typer.Option(min=0, max=1, help="The share of the episodes with a busy loop beside the testbed.")
]
ResponderOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=COMMAND",
        help="The responder to measure instead of relab's own; more of them are compared with it.",
    ),
]


EpisodesOption = Annotated[
    int, typer.Option(min=0, max=100_000, help="The number of episodes for the measured responder.")
]
UnknownOption = Annotated[int, typer.Option(min=0, help="Additional episodes with causes for which it has no runbook.")]
WithModelOption = Annotated[
    bool,
    typer.Option("--with-model", help="Also compare relab's own responder with the configured language model."),
]
TimeoutOption = Annotated[
    float, typer.Option(min=5, max=3_600, help="The length of an episode after the onset, in seconds.")
]
ConcurrencyOption = Annotated[
    int, typer.Option(min=1, max=16, help="The number of concurrent episodes, each on its own testbed.")
]


def evaluate(
    folder: FolderArgument = Path("responders"),
    episodes: EpisodesOption = 100,
    compared: Annotated[int, typer.Option(min=0, help="The number of these episodes that every responder gets.")] = 30,
    unknown: UnknownOption = 31,
    healthy: HealthyOption = 0,
    at_once: Annotated[int, typer.Option(min=0, help="Additional episodes in which two faults begin together.")] = 0,
    after_escalation: AfterEscalationOption = 0,
    busy: BusyOption = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The random seed of the episodes.")] = 0,
    responder: ResponderOption = None,
    with_model: WithModelOption = False,
    fault: Annotated[list[str] | None, typer.Option(help="Only episodes with this fault; may be repeated.")] = None,
    timeout: TimeoutOption = 120.0,
    concurrency: ConcurrencyOption = 1,
    port_base: Annotated[int, typer.Option(min=1_024, max=60_000, help="The first port of the testbeds.")] = 23_000,
    go_on: Annotated[bool, typer.Option("--continue", help="Continue the evaluation in the folder.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only print the report of the finished episodes.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Measure responders (programs that react to incidents) on testbeds with faults.

    The report shows how well each responder detects, diagnoses and repairs the faults, and how much harm it does. For
    comparison, it also shows two simple responders: one that does nothing, and one that restarts everything.
    """
    from relab.cli.incidents.eval_model import model_access
    from relab.testbed.scoring import service

    if go_on or report:
        plan = service.read_plan(folder)
        _hand_on_key(plan, is_run=not report)
    else:
        wanted = service.EvaluationRequest(
            episodes=episodes,
            compared=min(compared, episodes),
            unknown=unknown,
            healthy=healthy,
            at_once=at_once,
            after_escalation=after_escalation,
            busy_share=busy,
            seed=seed,
            faults=fault,
            timeout_s=timeout,
            responders=dict(map(service.read_responder, responder or [])),
            concurrency=concurrency,
            model=model_access(read_settings()) if with_model else None,
        )
        plan = service.begin(folder, wanted, home=read_settings().home, port_base=port_base)
    finished = report or _run(folder, plan, quiet=quiet or as_json)
    found = _report(folder, plan)
    write_text(folder / _REPORT, json.dumps(found, indent=2), overwrite=True)
    if as_json:
        print_json("incidents eval", folder=str(folder), finished=finished, **found)
    else:
        show_report(found)
        if not finished:
            print(f"not finished; continue with: lab incidents eval {argument(folder)} --continue")
    return 0 if finished else EXIT_INTERRUPTED


def _hand_on_key(plan: Mapping[str, Any], *, is_run: bool) -> None:
    """If a responder of the plan uses the language model, set the model's API key in this process's environment.

    The processes of the responders inherit the key. The files of the evaluation do not contain the key.

    Args:
        plan: the plan of the evaluation.
        is_run: whether episodes will be run; if False, nothing is done.

    Raises:
        ConfigurationError: a model is needed, but no model is configured or its package is not installed.
    """
    from relab.cli.incidents.eval_model import model_access
    from relab.testbed.scoring.service import wants_model

    if is_run and wants_model(plan):
        # Also for an evaluation that is continued, because its files do not contain the key.
        model_access(read_settings())


def _run(folder: Path, plan: Mapping[str, Any], *, quiet: bool) -> bool:
    """Run the unfinished parts of an evaluation, one after the other; return whether all parts are finished now.

    An episode is one test of a responder. A part is a group of episodes for some of the responders.

    Args:
        folder: the folder of the evaluation, with one folder for each part.
        plan: the plan of the evaluation; `parts` lists the parts.
        quiet: whether to show no progress.
    """
    from relab.testbed.scoring import service

    with stoppable_run() as stop, service.kept(plan):
        for part in plan["parts"]:
            if stop.finish.is_set() or not _run_part(folder / part["name"], stop, quiet=quiet):
                return False
    return True


def _run_part(folder: Path, stop: StopSwitch, *, quiet: bool) -> bool:
    from relab.cli.experiments.output import live_progress
    from relab.experiments.models import Keep, RunOptions
    from relab.testbed.scoring.service import runs

    # Without telemetry: the runs of responders are not the user's agent runs.
    with open_experiments(telemetry=False) as service:
        begun = runs(folder)
        if begun:
            total, done = service.runs.extent(begun[-1])
            if done >= total:
                return True
            with live_progress(total, done, quiet=quiet) as on_progress:
                return service.runs.continue_run(begun[-1], stop, on_progress).finished
        # The harness works elsewhere, so no workspace is kept.
        options = RunOptions(keep=Keep.NONE)
        resolved = service.runs.prepare(folder / ".lab" / "experiment.yaml", options)
        with live_progress(len(resolved.plan), 0, quiet=quiet) as on_progress:
            return service.runs.run(resolved, options, stop, on_progress).finished


def _report(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures (rates, times, comparisons) of an evaluation, from its finished episodes, as a JSON object."""
    from relab.incidents.evaluation.figures import by_kind, by_subject, compared, figures_of, read_episode
    from relab.testbed.scoring.service import COMPARED, UNKNOWN, outputs, runs

    known: dict[str, list[EpisodeMetrics]] = {}
    beside: dict[str, list[EpisodeMetrics]] = {}
    unknown: list[EpisodeMetrics] = []
    for part in plan["parts"]:
        for episode in map(read_episode, outputs(folder / part["name"])):
            if part["name"].startswith(UNKNOWN):
                unknown.append(episode)
                continue
            known.setdefault(episode.responder, []).append(episode)
            if part["name"] == COMPARED:
                beside.setdefault(episode.responder, []).append(episode)
    measured, seed = plan["parts"][0]["responders"][0], plan["seed"]
    others = ((name, found) for name, found in beside.items() if name != measured)
    differences = ((name, compared(beside.get(measured, []), found, seed=seed)) for name, found in others)
    return {
        "measured": measured,
        "seed": seed,
        "planned": sum(part["episodes"] * len(part["responders"]) for part in plan["parts"]),
        "responders": {name: figures_of(found) for name, found in known.items()},
        "compared": {name: found for name, found in differences if found is not None},
        "by_kind": by_kind(known.get(measured, [])),
        "by_subject": by_subject(known.get(measured, [])),
        "unknown": figures_of(unknown) if unknown else None,
        "runs": [str(run) for part in plan["parts"] for run in runs(folder / part["name"])],
    }
