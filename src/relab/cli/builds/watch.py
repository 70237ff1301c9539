"""`lab builds watch`: build a project again and again."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.builds.optimizer.policies.registry import POLICY_CHOICES, check_policy
from relab.cli.builds.groups import print_recurrence
from relab.cli.builds.output import knob_values, print_monitor, print_optimizer, print_pass_facts, print_responder
from relab.cli.builds.tests import print_tests
from relab.cli.context import open_services
from relab.cli.output import ERROR_INDENT, plain_lines, print_json_line
from relab.cli.stopping import stoppable

if TYPE_CHECKING:
    from relab.builds.service import BuildPass, BuildService, JudgedTest
    from relab.core.errors import RelabError

ProjectArgument = Annotated[Path, typer.Argument(help="The folder with build.yaml.")]
KnobsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="Another value of a knob; repeatable.")
]
PolicyOption = Annotated[
    str | None,
    typer.Option(help=f"By default the promoted policy, else ucb. {POLICY_CHOICES}"),
]


def watch(
    project: ProjectArgument = Path(),
    interval: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds between the starts of two passes.")
    ] = 60.0,
    retry_budget: Annotated[
        int,
        typer.Option(min=0, max=10_000, help="Retries in all passes together; a pass that succeeds restores them."),
    ] = 10,
    passes: Annotated[int | None, typer.Option(min=1, help="End after this number of passes.")] = None,
    knobs: KnobsOption = None,
    policy: PolicyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per pass, each on one line.")] = False,
) -> None:
    """Build a project once per interval, as `lab builds run` does, until Ctrl-C.

    A pass is one build and its retries. Each pass reads the project and its build.yaml again. After a failure, the
    optimizer chooses a change of the configuration, and the project is built again. The knob (configuration value)
    `retries` limits these retries in one pass, and --retry-budget in all passes together. Without --policy, each pass
    uses the optimizer's policy that is the project's default at that time. An error in a pass, such as a locked project,
    is reported. The next pass starts as planned.

    Exit code 0: Ctrl-C or --passes ended the command. 64: the build file, a knob or --policy was invalid at the start.
    """
    from relab.builds.service import WatchPlan, override, read_project

    values = knob_values(knobs or [])
    # Mistakes of the command line end the command before its first pass.
    read = read_project(project)
    read.file.check(override(read.file.defaults, values))
    if policy is not None:
        check_policy(policy)
    numbers = itertools.count(1)
    with open_services() as services, stoppable() as stop:
        services.builds.watch(
            project,
            values,
            WatchPlan(interval, retry_budget, passes),
            stop=stop,
            policy_of=lambda name: policy or services.build_promotion.policy_of(name),
            on_build=(lambda _build: None) if as_json else print_monitor,
            on_decision=(lambda _decision: None) if as_json else print_optimizer,
            on_suggestion=(lambda _suggestion: None) if as_json else print_responder,
            on_pass=lambda done: _print_done(services.builds, done, numbers if as_json else None),
            on_error=(lambda error: _print_json_error(next(numbers), error)) if as_json else _print_error,
        )


def _print_done(builds: BuildService, done: BuildPass, numbers: Iterator[int] | None) -> None:
    """Print the result of a pass (a build and its retries), and the tests that failed in the last build.

    Args:
        builds: the service of builds.
        done: the pass.
        numbers: the numbers of the passes. The next number is taken for this pass, and the result is printed as one
            JSON object. None: the result is printed as text.
    """
    # An error here is printed as the error of this pass, so the number is taken later.
    failing = builds.history.failing_tests(done.builds[-1].build_id)
    if numbers is not None:
        _print_pass(next(numbers), done, failing)
        return
    print_recurrence(builds, done.builds[-1])
    print_tests(failing)
    print_pass_facts(done)


def _print_error(error: RelabError) -> None:
    print(f"lab: {plain_lines(error, ERROR_INDENT)}", file=sys.stderr, flush=True)


def _print_pass(number: int, done: BuildPass, failing: Sequence[JudgedTest]) -> None:
    from relab.builds.service import agent_run_id

    print_json_line(
        "builds watch",
        number=number,
        builds=[build.model_dump(mode="json") for build in done.builds],
        decisions=[decision.model_dump(mode="json") for decision in done.decisions],
        fix=None if done.fix is None else done.fix.model_dump(mode="json"),
        is_flaky=done.is_flaky,
        failing_tests=[test.model_dump(mode="json") for test in failing],
        agent_run_id=agent_run_id(done.builds[0].build_id),
    )


def _print_json_error(number: int, error: RelabError) -> None:
    print_json_line(
        "builds watch", is_ok=False, number=number, error={"code": error.code, "message": str(error), "details": {}}
    )
