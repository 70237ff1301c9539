"""The actions that an optimizer may choose: each changes the configuration of a build.

The ids are part of the API: 1 is "use cache". An id never gets another meaning. A new action, or a change of the effect
of an action, increases `CATALOGUE_VERSION`; policies learn only from decisions of the same version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relab.builds.errors import UnknownBuildActionError
from relab.builds.models import BuildConfiguration, BuildFailure

CATALOGUE_VERSION: Final = 1
KEEP: Final = 0
"""The id of the action that changes nothing; it is always possible."""

DEFAULT_POLICY: Final = "ucb"

_MOST: Final = 1_024

Limit = Callable[[str], float]
"""Returns the largest value of a knob that may be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAction:
    """One action: a change of some knobs (settings) of a build's configuration.

    Attributes:
        action_id: the id of the action in the API.
        description: the name of the action in the API, such as `use cache`.
        values: `{knob: new value}`.
        factors: `{knob: factor}`; the current value is multiplied by the factor, up to the project's limit.
        largest: the names of the knobs that are set to the project's limit.
        only_after: the action may help only if the last build failed in one of these ways; None: no such condition.
        never_after: the action cannot help if the last build failed in one of these ways.
    """

    action_id: int
    description: str
    values: Mapping[str, Any]
    factors: Mapping[str, float]
    largest: tuple[str, ...]
    only_after: frozenset[BuildFailure] | None
    never_after: frozenset[BuildFailure]

    def may_help_after(self, failure: BuildFailure | None) -> bool:
        """Return whether the action may help after a build with this kind of failure (None: the build passed)."""
        return (self.only_after is None or failure in self.only_after) and failure not in self.never_after

    def apply(
        self, configuration: BuildConfiguration, limit: Limit, selections: tuple[str, ...]
    ) -> BuildConfiguration | None:
        """Return a configuration with this action applied; None if the action is not possible, or would change nothing.

        Action 0 (keep the configuration) returns an equal configuration, never None.

        Args:
            configuration: the configuration to change.
            limit: returns the largest allowed value of a knob (a setting of the build), given the knob's name.
            selections: the names of the project's test selections (sets of tests to run).
        """
        changed = dict(self.values)
        for knob, factor in self.factors.items():
            before = getattr(configuration, knob)
            changed[knob] = type(before)(min(before * factor, max(limit(knob), before)))
        for knob in self.largest:
            changed[knob] = int(min(max(limit(knob), getattr(configuration, knob)), _MOST))
        if "tests" in changed and changed["tests"] not in selections:
            return None
        after = configuration.model_copy(update=changed)
        return None if after == configuration and self.action_id != KEEP else after


def _action(
    action_id: int,
    description: str,
    *,
    values: Mapping[str, Any] | None = None,
    factors: Mapping[str, float] | None = None,
    largest: tuple[str, ...] = (),
    only_after: frozenset[BuildFailure] | None = None,
    never_after: frozenset[BuildFailure] = frozenset(),
) -> BuildAction:
    return BuildAction(
        action_id=action_id,
        description=description,
        values=values or {},
        factors=factors or {},
        largest=largest,
        only_after=only_after,
        never_after=never_after,
    )


_LIMITS_HIT: Final = frozenset(failure for failure in BuildFailure if not failure.is_in_log)
"""The kinds of failure in which the command did not fail by itself: relab ended the build, or could not start it."""
_TIMED_OUT: Final = frozenset({BuildFailure.TIMED_OUT})
_GROWS_WITH_JOBS: Final = frozenset({BuildFailure.OUT_OF_MEMORY, BuildFailure.PROCESS_LIMIT})
"""The limits that a build with more parallel jobs hits even earlier."""


CATALOGUE: Final[Mapping[int, BuildAction]] = {
    action.action_id: action
    for action in (
        _action(KEEP, "keep the configuration"),
        _action(1, "use cache", values={"cache": True}),
        _action(2, "raise the memory limit", factors={"memory_mb": 2}),
        _action(3, "raise the time limit", factors={"time_limit_s": 2}, only_after=_TIMED_OUT),
        _action(4, "build in parallel", largest=("parallelism",), never_after=_GROWS_WITH_JOBS),
        _action(5, "build one job at a time", values={"parallelism": 1}),
        _action(6, "build incrementally", values={"incremental": True}),
        _action(7, "build from clean", values={"incremental": False, "cache": False}),
        # After a failed command, fewer tests could hide the failure instead of mending it.
        _action(8, "run only the fast tests", values={"tests": "fast"}, only_after=_LIMITS_HIT),
    )
}
"""All actions by id."""


def action_of(action_id: int) -> BuildAction:
    """Return the action with this id.

    Raises:
        UnknownBuildActionError: the catalogue has no such action.
    """
    found = CATALOGUE.get(action_id)
    if found is None:
        raise UnknownBuildActionError(
            f"action_id: there is no action {action_id} in version {CATALOGUE_VERSION} of the catalogue.",
            problems=(("action_id", f"{action_id} is unknown"),),
            remedy=f"Use one of {', '.join(map(str, CATALOGUE))}.",
        )
    return found


def possible_actions(
    configuration: BuildConfiguration, limit: Limit, selections: tuple[str, ...]
) -> dict[int, BuildConfiguration]:
    """Return `{action id: configuration after the action}` for the actions from which a policy may choose.

    These are action 0 (keep the configuration), and each possible action that changes the configuration.

    Args:
        configuration: the configuration to change.
        limit: returns the largest allowed value of a knob (a setting of the build), given the knob's name.
        selections: the names of the project's test selections (sets of tests to run).
    """
    after = {number: action.apply(configuration, limit, selections) for number, action in CATALOGUE.items()}
    return {number: changed for number, changed in after.items() if changed is not None}


def suitable_actions(actions: Iterable[int], failure: BuildFailure | None) -> list[int]:
    """Return those of `actions` that may help after a build, in the order of `actions`.

    Each action may help, except:

    - building in parallel, if the build used too much memory or too many processes;
    - raising the time limit, if the build did not hit this limit;
    - running only the fast tests, if the build succeeded or its command failed by itself. If the command failed, the
      next build could succeed only because it skips the failing test.

    Args:
        actions: ids of actions of the catalogue.
        failure: how the build failed; None if it did not fail.
    """
    return [number for number in actions if action_of(number).may_help_after(failure)]
