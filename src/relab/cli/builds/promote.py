"""`lab builds promote`: make a policy the default of a project, if the log of decisions shows that it is better."""

from __future__ import annotations

from typing import Annotated

import typer

from relab.builds.optimizer.policies.registry import POLICY_CHOICES
from relab.cli.context import open_services, operator
from relab.cli.output import EXIT_FAILED, EXIT_UNDECIDED, JsonOption, plain, print_json


def promote(
    policy: Annotated[str, typer.Argument(help=POLICY_CHOICES)],
    project: Annotated[str, typer.Argument(help="The name of the project.")],
    as_json: JsonOption = False,
) -> int:
    """Compare a policy with the one that a project uses, and put it into use if the verdict is PASS.

    Both policies learn from the older half of the project's log of decisions, and are judged on the newer half. The
    verdict is PASS if the gain in mean reward is at least 0.02 and its 99 % interval lies above 0. On a PASS, the
    policy is stored in a new version of the project's flag, with author, time and reason. The command then prints
    another command, which undoes the change as long as the flag is not changed again.

    Exit code 0: PASS. In all other cases, nothing is changed. 1: the verdict is FAIL, the log is too short, or the
    project uses the policy already. 2: the verdict is EDGE (neither PASS nor FAIL) or INVALID (the log has too little
    information). 64: the policy is unknown.
    """
    from relab.stats.verdicts import Verdict

    with open_services() as services:
        found = services.build_promotion.promote(policy, project, author=operator())
    if as_json:
        print_json("builds promote", promotion=found.model_dump(mode="json"))
    else:
        print(
            f"{found.verdict.value}: {plain(found.policy)} in place of {plain(found.replaced)}. {plain(found.reason)}"
        )
        print(f"{found.count} decisions, {found.effective_count:.0f} effective ones")
        if found.inverse is not None:
            print(f"In use. Take it back: {found.inverse}")
    return {Verdict.PASS: 0, Verdict.FAIL: EXIT_FAILED}.get(found.verdict, EXIT_UNDECIDED)
