"""Print builds, decisions and suggestions, and parse `--set KNOB=VALUE`, for the commands that run builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relab.cli.builds.explain import print_quotes
from relab.cli.output import plain
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.builds.service import Build, BuildDecision, BuildPass
    from relab.builds.suggestions.service import FixSuggestion


def print_monitor(build: Build) -> None:
    """Print the line `[Monitor]` about a finished build: its status, duration and error."""
    result = build.result
    shown = {"status": result.status.value, "duration": round(result.duration_s or 0.0, 2), "error": result.error}
    print(f"[Monitor]  -> {plain(shown)}", flush=True)


def print_optimizer(decision: BuildDecision) -> None:
    """Print the line `[Optimizer]` about a decision (the action that is applied to the next build), and its reason."""
    from relab.builds.service import action_of

    action = action_of(decision.action_id)
    shown = {"action_id": action.action_id, "action_description": action.description}
    print(f"[Optimizer] -> {plain(shown)}", flush=True)
    if decision.reason is not None:
        print(f"  why: {plain(decision.reason)}", flush=True)


def print_responder(fix: FixSuggestion) -> None:
    """Print the line `[Responder]` with the suggestion of a fix for a failed build.

    Below it, print the lines of the log that the suggestion quotes, and the command to accept or reject it.
    """
    print(f"[Responder] -> {plain({'suggestion': fix.suggestion})}", flush=True)
    print_quotes(fix)
    if fix.suggestion_id is not None:
        print(f"  Did it help? lab builds accept|reject {plain(fix.suggestion_id)}", flush=True)


def print_pass_facts(done: BuildPass) -> None:
    """Print a warning if a pass was flaky, and one if its last build ran other tests than its first build.

    A pass is a build and its retries. It was flaky if the same input and configuration both failed and succeeded.
    """
    if done.is_flaky:
        print("Flaky: the same input, built in the same way, failed and succeeded.", flush=True)
    if done.replaced_tests is not None:
        asked, ran = done.replaced_tests
        print(f"The last build ran the tests {plain(ran)!r} instead of {plain(asked)!r}.", flush=True)


def knob_values(knobs: list[str]) -> dict[str, str]:
    """Return the knobs (adjustable values of a build) as `{name: value}`, from texts such as `cache=on`.

    Raises:
        InvalidInputError: a text has no `=`.
    """
    found = {}
    for text in knobs:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInputError(f"--set: {text[:80]!r} is not KNOB=VALUE.", remedy="For example: --set cache=on")
        found[name.strip()] = value.strip()
    return found
