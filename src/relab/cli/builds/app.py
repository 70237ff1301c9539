"""`lab builds`: run builds with chosen knobs (adjustable values), show their results, and explain failures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.builds.explain import explain
from relab.cli.builds.groups import groups, print_recurrence, recurrence_text
from relab.cli.builds.ingest import ingest
from relab.cli.builds.output import knob_values, print_monitor, print_optimizer, print_pass_facts, print_responder
from relab.cli.builds.projects import check_project
from relab.cli.builds.promote import promote
from relab.cli.builds.prune import prune
from relab.cli.builds.suggestions import accept, reject, suggestions
from relab.cli.builds.tests import evidence_text, list_tests, print_tests
from relab.cli.builds.train import train
from relab.cli.builds.watch import KnobsOption, PolicyOption, ProjectArgument, watch
from relab.cli.choices import choice_of
from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, JsonOption, plain, plain_lines, print_json, print_table
from relab.cli.stopping import stoppable

if TYPE_CHECKING:
    from relab.builds.service import Build, BuildTestCounts, PolicyEvaluation

app = typer.Typer(help="Builds: run them, choose their configuration, explain failures.", no_args_is_help=True)
app.command()(explain)
app.command()(train)
app.command()(groups)
app.command()(ingest)
app.command()(promote)
app.command()(prune)
app.command("tests")(list_tests)
app.command()(watch)
app.command()(suggestions)
app.command()(accept)
app.command()(reject)

BuildId = Annotated[str, typer.Argument(metavar="ID", help="The build's id.")]


@app.command()
def run(
    project: ProjectArgument = Path(),
    knobs: KnobsOption = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> int:
    """Build a project in the sandbox. After a failure, build it again with a change that the optimizer chooses.

    The knob `retries` limits the number of further builds; its default is in build.yaml. If the last build fails too,
    the command suggests a fix and quotes the lines of the log that show the failure.

    Exit code 0: the build succeeded. 1: it failed. 64: the build file or a knob is invalid. 69: the sandbox cannot be
    used, or the policy needs an extra that is not installed. 130: interrupted.
    """
    from relab.builds.service import BuildStatus, agent_run_id, override, read_project

    read = read_project(project)
    configuration = override(read.file.defaults, knob_values(knobs or []))
    with open_services() as services, stoppable() as stop:
        done = services.builds.run(
            read,
            configuration,
            stop=stop,
            policy=policy or services.build_promotion.policy_of(read.file.name),
            on_build=(lambda _build: None) if as_json else print_monitor,
            on_decision=(lambda _decision: None) if as_json else print_optimizer,
            on_suggestion=(lambda _suggestion: None) if as_json else print_responder,
        )
        failing = services.builds.history.failing_tests(done.builds[-1].build_id)
        if not as_json:
            print_recurrence(services.builds, done.builds[-1])
    last = done.builds[-1].result.status
    if as_json:
        builds = [build.model_dump(mode="json") for build in done.builds]
        decisions = [decision.model_dump(mode="json") for decision in done.decisions]
        fix = None if done.fix is None else done.fix.model_dump(mode="json")
        facts = {"fix": fix, "is_flaky": done.is_flaky, "agent_run_id": agent_run_id(done.builds[0].build_id)}
        tests = [test.model_dump(mode="json") for test in failing]
        print_json("builds run", builds=builds, decisions=decisions, failing_tests=tests, **facts)
    else:
        print_tests(failing)
        print_pass_facts(done)
    if last is BuildStatus.INTERRUPTED or done.is_stopped:
        return EXIT_INTERRUPTED
    return 0 if last is BuildStatus.SUCCESS else EXIT_FAILED


@app.command("list")
def list_builds(
    project: Annotated[str | None, typer.Option(help="Only builds of this project.")] = None,
    status: Annotated[str | None, typer.Option(help="running | success | failed | interrupted | unknown")] = None,
    before: Annotated[str | None, typer.Option(help="Only builds before this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List builds, newest first."""
    from relab.builds.service import BuildStatus
    from relab.core.clock import format_time

    wanted = choice_of(BuildStatus, "--status", "a status", status)
    with open_services() as services:
        page = services.builds.list_builds(project=project, status=wanted, before=before, limit=limit)
        check_project(services.builds, project, page.items)
    if as_json:
        print_json("builds list", **page.model_dump(mode="json"))
        return
    rows = (
        (
            build.build_id,
            build.project,
            format_time(build.started_at),
            build.result.status.value,
            None if build.result.failure is None else build.result.failure.value,
            _number(build.result.duration_s, 2),
            _number(build.result.peak_memory_mb, 0),
            build.sandbox,
        )
        for build in page.items
    )
    columns = ("build", "project", "started", "status", "failure", "duration, s", "peak memory, MB", "sandbox")
    print_table("Builds", columns, rows, empty="No builds found. To run one: lab builds run PROJECT")
    if page.next_before is not None:
        print(f"More builds: --before {plain(page.next_before)}")


@app.command()
def show(
    build_id: BuildId,
    log: Annotated[bool, typer.Option("--log", help="Print the log too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a build: its configuration, its result, and with --log its log."""
    from relab.builds.service import agent_run_id
    from relab.core.clock import format_time

    with open_services() as services:
        build = services.builds.get(build_id)
        failing = services.builds.history.failing_tests(build_id)
        recurrence = recurrence_text(services.builds, build)
        text = services.builds.log(build_id) if log else None
    if as_json:
        tests_json = [test.model_dump(mode="json") for test in failing]
        shown = {"build": build.model_dump(mode="json"), "failing_tests": tests_json}
        print_json("builds show", **shown, **({"log": text} if log else {}))
        return
    result = build.result
    facts = {
        "build": build.build_id,
        "project": build.project,
        "input": build.input_digest,
        "started": format_time(build.started_at),
        "configuration": build.configuration,
        "sandbox": build.sandbox if build.sandbox_note is None else f"{build.sandbox} ({build.sandbox_note})",
        **_origin_facts(build),
        "retry of": build.retry_of,
        "agent run": agent_run_id(build.build_id) if build.retry_of is None and build.origin is None else None,
        "status": result.status.value,
        "failure": None if result.failure is None else result.failure.value,
        "error": result.error,
        "cause": build.failure_line,
        "again": recurrence,
        "exit code": result.exit_code,
        "duration": None if result.duration_s is None else f"{result.duration_s:.3f} s",
        "peak memory": None if result.peak_memory_mb is None else f"{result.peak_memory_mb:.1f} MB",
        "tests": None if build.tests is None else _counted(build.tests),
        "log": f"{result.log_bytes:,} bytes",
    }
    for name, value in facts.items():
        if value is not None:
            print(f"{name:>13}  {plain(value)}")
    for line in build.relevant_lines:
        print(f"{f'line {line.number:,}':>13}  {plain(line.text)}")
    for test in failing:
        print(f"{'failed test':>13}  {plain(test.name)}: {plain(evidence_text(test))}")
    if text is not None:
        print(plain_lines(text))


@app.command()
def decisions(
    project: Annotated[str | None, typer.Option(help="Only decisions for this project.")] = None,
    before: Annotated[str | None, typer.Option(help="Only decisions before this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the decisions of the optimizer, newest first, with their propensities (probabilities) and rewards."""
    from relab.core.clock import format_time

    with open_services() as services:
        page = services.builds.decisions.list_decisions(project=project, before=before, limit=limit)
        check_project(services.builds, project, page.items)
    if as_json:
        print_json("builds decisions", **page.model_dump(mode="json"))
        return
    rows = (
        (
            item.decision_id,
            item.project,
            format_time(item.decided_at),
            item.policy,
            None if item.situation.failure is None else item.situation.failure.value,
            item.action_id,
            f"{item.propensity:.3f}",
            None if item.reward is None else f"{item.reward:.3f}",
        )
        for item in page.items
    )
    columns = ("decision", "project", "time", "policy", "failure", "action", "probability (propensity)", "reward")
    print_table(
        "Decisions of the optimizer",
        columns,
        rows,
        empty="No decisions found. The optimizer decides after a failed build: lab builds run PROJECT",
    )
    if page.next_before is not None:
        print(f"More decisions: --before {plain(page.next_before)}")


@app.command()
def simulator(as_json: JsonOption = False) -> None:
    """Show how well the simulator of builds fits real builds of the example project, for each fault and action.

    A fault is the setting of the example that makes its builds fail. An action changes the next build's configuration.
    """
    from dataclasses import asdict

    from relab.builds.service import BuildService, action_of

    rows = BuildService.simulator_fit()
    if as_json:
        print_json("builds simulator", fit=[asdict(row) for row in rows])
        return
    cells = (
        (
            row.fault,
            f"{row.action_id} {action_of(row.action_id).description}",
            row.count,
            f"{row.success_share:.2f}",
            f"{row.simulated_success_share:.2f}",
            f"{row.median_s:.2f}",
            f"{row.simulated_median_s:.2f}",
        )
        for row in rows
    )
    columns = (
        "fault",
        "action",
        "builds",
        "success rate",
        "simulated success rate",
        "median, s",
        "simulated median, s",
    )
    print_table("Fit of the simulator: measured beside simulated", columns, cells)


@app.command()
def policies(
    project: Annotated[str, typer.Argument(help="The name of the project.")], as_json: JsonOption = False
) -> None:
    """Estimate the mean reward of each policy from the log of the optimizer's decisions.

    After a failed build, the optimizer chooses the change for the next build of the project. Each policy learns from
    the older half of the log, and its reward is estimated on the newer half.
    """
    with open_services() as services:
        found = services.builds.decisions.evaluate_policies(project)
    if as_json:
        print_json("builds policies", policies={name: evaluation_json(value) for name, value in found.items()})
        return
    rows = (
        (
            name,
            *(
                f"{value.estimate:.3f} [{value.interval.low:.3f}, {value.interval.high:.3f}]"
                for value in (item.snips, item.doubly_robust)
            ),
            f"{item.snips.effective_count:.0f} of {item.count}",
            f"{item.logged:.3f}",
        )
        for name, item in found.items()
    )
    columns = (
        "policy", "SNIPS estimate [interval]", "doubly robust estimate [interval]", "effective decisions",
        "reward in the log",
    )  # fmt: skip
    empty = f"No decisions with a reward found for {plain(project)}. lab builds run makes decisions."
    print_table("Mean reward of each policy", columns, rows, empty=empty)


def evaluation_json(found: PolicyEvaluation) -> dict[str, Any]:
    """Return the evaluation of a policy as JSON. Both limits of a confidence interval are None if one is infinite."""
    from dataclasses import asdict

    from relab.builds.promotion.service import finite_ends

    shown = asdict(found)
    for name, value in (("snips", found.snips), ("doubly_robust", found.doubly_robust)):
        shown[name]["interval"]["low"], shown[name]["interval"]["high"] = finite_ends(value.interval)
    return shown


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _counted(tests: BuildTestCounts) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in tests if count)


def _origin_facts(build: Build) -> dict[str, object]:
    """Return `{label: value}` with the origin of a build that relab recorded but did not run, such as its commit.

    The result is empty for builds that relab ran.
    """
    origin = build.origin
    if origin is None:
        return {}
    facts: dict[str, object] = {
        "recorded from": origin.kind,
        "commit": origin.commit,
        "branch": origin.branch,
        "job": origin.job,
        "url": origin.url,
    }
    return facts | {name[:40]: value for name, value in origin.configuration.items()}
