"""Compute a policy's input and feedback: the situation before a choice as numbers, and the reward of a build. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.builds.models import BuildConfiguration, BuildFailure, BuildResult, BuildStatus

FEATURES: Final = (
    "constant",
    "out_of_memory",
    "timed_out",
    "other_failure",
    "failed_again",
    "was_flaky",
    "cache",
    "incremental",
)
"""The names of the features, in their order. A change of them raises `CATALOGUE_VERSION`."""

Features = Sequence[float]
"""A situation as numbers, one for each name in `FEATURES`."""


class BuildSituation(BaseModel):
    """The facts that a policy uses to choose an action (a change of the configuration) for the next build.

    Attributes:
        failure: how the last build of the input (what is built) failed; None if it succeeded, or if the input was not
            built yet.
        failed_attempts: the number of failed attempts to build this input so far.
        was_flaky: whether any input of the project (not only the input of this build) has both succeeded and failed
            with the same configuration before.
        cache: whether the configuration before the action uses the cache.
        incremental: whether the configuration before the action builds incrementally.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failure: BuildFailure | None = None
    failed_attempts: Annotated[int, Field(ge=0, le=1_000)] = 0
    was_flaky: bool = False
    cache: bool = False
    incremental: bool = False

    @classmethod
    def after(
        cls,
        failure: BuildFailure | None,
        configuration: BuildConfiguration,
        *,
        failed_attempts: int,
        was_flaky: bool = False,
    ) -> BuildSituation:
        """Return the situation (the facts that a policy uses to choose an action) after a build.

        Args:
            failure: how the build failed; None if it succeeded.
            configuration: the configuration of the build, which the next action will change.
            failed_attempts: the number of failed attempts to build the same input (project files) so far.
            was_flaky: whether any input of the project (not only the input of this build) has both succeeded and failed
                with the same configuration before.
        """
        return cls(
            failure=failure,
            failed_attempts=failed_attempts,
            was_flaky=was_flaky,
            cache=configuration.cache,
            incremental=configuration.incremental,
        )

    def features(self) -> tuple[float, ...]:
        """Return the situation as numbers for a policy: one value, 0 or 1, for each name in `FEATURES`."""
        named = {BuildFailure.OUT_OF_MEMORY, BuildFailure.TIMED_OUT}
        flags = (
            True,
            self.failure is BuildFailure.OUT_OF_MEMORY,
            self.failure is BuildFailure.TIMED_OUT,
            self.failure is not None and self.failure not in named,
            self.failed_attempts > 1,
            self.was_flaky,
            self.cache,
            self.incremental,
        )
        return tuple(float(flag) for flag in flags)


def reward_of(result: BuildResult, reference_s: float) -> float:
    """Return the reward of a build, 0 to 1: `reference_s / (reference_s + duration)` if it succeeded, otherwise 0.

    A build that takes exactly `reference_s` has the reward 0.5; a faster build has a higher reward.

    Args:
        result: the outcome of the build.
        reference_s: the usual duration of the project's builds, in seconds, more than 0.
    """
    if result.status is not BuildStatus.SUCCESS or result.duration_s is None:
        return 0.0
    return reference_s / (reference_s + max(result.duration_s, 0.0))


def failure_in(error: str | None) -> BuildFailure | None:
    """Return the kind of failure that an error text names: out of memory or time-out; for other texts, `exit_code`.

    Return None if the text is None or empty.
    """
    if not error:
        return None
    text = error[:2_000].lower()
    if "out of memory" in text or "memory limit" in text:
        return BuildFailure.OUT_OF_MEMORY
    if "timed out" in text or "time limit" in text or "timeout" in text:
        return BuildFailure.TIMED_OUT
    return BuildFailure.EXIT_CODE
