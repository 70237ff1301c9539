"""Models of decisions: the request of a CI, the optimizer's decision, and the outcome of the build that follows."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from relab.builds.models import ACTION_IDS, BuildConfiguration, BuildFailure, BuildStatus
from relab.builds.optimizer.catalogue import action_of, possible_actions, suitable_actions
from relab.builds.optimizer.policies.registry import POLICY_NAMES
from relab.builds.optimizer.situation import BuildSituation, failure_in
from relab.core.clock import Timestamp

ProjectName = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
POLICY_PATTERN: Final = f"^({'|'.join(POLICY_NAMES)}|fixed:({'|'.join(map(str, ACTION_IDS))}))$"
"""The names of policies, for the API's description."""


class BuildDecision(BaseModel):
    """One decision of the optimizer: the action (a change of the configuration) that was chosen for the next build.

    Attributes:
        decision_id: the id of the decision.
        project: the name of the project; empty for decisions without a project.
        catalogue_version: the version of the catalogue of actions.
        policy: the name of the policy that chose the action.
        situation: the facts that the policy used to choose the action.
        actions: the ids of the actions that were possible.
        propensities: the policy's probability of choosing each of `actions`, in the same order.
        action_id: the chosen action.
        reason: why the action was chosen, in one sentence; None for decisions of earlier versions of relab.
        decided_at: the time of the decision.
        build_id: the build that followed; None if unknown.
        reward: the reward of the build that followed, 0 to 1; None while unknown.
    """

    model_config = ConfigDict(frozen=True)

    decision_id: str
    project: str
    catalogue_version: int
    policy: str
    situation: BuildSituation
    actions: tuple[int, ...]
    propensities: tuple[float, ...]
    action_id: int
    reason: str | None = None
    decided_at: Timestamp
    build_id: str | None = None
    reward: float | None = None

    @property
    def propensity(self) -> float:
        """The policy's probability of choosing the action `action_id`."""
        return self.propensities[self.actions.index(self.action_id)]


class DecisionPage(BaseModel):
    """A page of decisions, newest first; `next_before` is the `before` of the next page, None on the last page."""

    items: list[BuildDecision]
    next_before: str | None = None


class BestAction(BaseModel):
    """The response of `/get_best_action`.

    Attributes:
        action_id: the id of the action in the catalogue; 1 is "use cache".
        action_description: the name of the action.
        decision_id: the id of this decision; with it, the caller reports the outcome of the build.
        policy: the name of the policy that chose the action.
        propensity: the policy's probability of choosing the action.
        reason: why the action was chosen, in one sentence.
        catalogue_version: the version of the catalogue of actions.
    """

    action_id: int
    action_description: str
    decision_id: str
    policy: str
    propensity: float
    reason: str | None
    catalogue_version: int


class DecisionOutcome(BaseModel):
    """The outcome of the build that followed a decision, as a CI reports it.

    Attributes:
        status: the status with which the build ended.
        duration: the duration of the build in seconds.
        reference: the usual duration of this project's builds in seconds; the reward compares `duration` with it.
    """

    model_config = ConfigDict(extra="forbid")

    status: Literal["success", "failed"]
    duration: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
    reference: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)] = 60.0


class BuildSymptoms(BaseModel):
    """The facts about a build that a CI sends to request the best action; every field is optional.

    Attributes:
        project: the name of the project; the policy learns from the decisions for this project only.
        status: the status of the build.
        failure: the kind of the failure; if None, relab derives the kind from the words in `error`.
        error: the error text of the build, at most 4,000 characters.
        duration: the duration of the build in seconds; not used.
        attempts: the number of failed attempts to build the same input (project files) so far.
        was_flaky: whether any input of the project (not only the input of this build) has both succeeded and failed
            before.
        cache: whether the build used a cache.
        incremental: whether the build was incremental.
        actions: the ids of the actions that this CI can perform; by default all possible actions that may help after
            this kind of failure.
        policy: the name of the policy. By default the policy that was promoted (put into use) for the project, else the
            value of the flag `builds.policy`, else `ucb`.
    """

    model_config = ConfigDict(extra="forbid")

    project: ProjectName = ""
    status: BuildStatus = BuildStatus.FAILED
    failure: BuildFailure | None = None
    error: Annotated[str, Field(max_length=4_000)] | None = None
    duration: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    attempts: Annotated[int, Field(ge=0, le=1_000)] = 1
    was_flaky: bool = False
    cache: bool = False
    incremental: bool = False
    # Described in the schema and checked later, where the error names the possible values.
    actions: (
        Annotated[list[Annotated[int, Field(json_schema_extra={"enum": list(ACTION_IDS)})]], Field(max_length=100)]
        | None
    ) = None
    policy: Annotated[str, Field(min_length=1, max_length=32, json_schema_extra={"pattern": POLICY_PATTERN})] | None = (
        None
    )

    def situation(self) -> BuildSituation:
        """Return the symptoms in the form that a policy reads: kind of failure, attempts and configuration.

        If `failure` is None, the words in `error` decide the kind of failure; a failed build without `error` has the
        kind `exit_code`. A build with the status `success` has no failure.
        """
        failure = self.failure or failure_in(self.error)
        if failure is None and self.status is BuildStatus.FAILED:
            failure = BuildFailure.EXIT_CODE
        return BuildSituation(
            failure=None if self.status is BuildStatus.SUCCESS else failure,
            failed_attempts=self.attempts,
            was_flaky=self.was_flaky,
            cache=self.cache,
            incremental=self.incremental,
        )

    def possible_actions(self) -> list[int]:
        """Return the ids of the actions to choose from, ascending.

        These are the ids in `actions`. If it is None or empty, these are all actions that may help after this build.

        Raises:
            UnknownBuildActionError: `actions` has an unknown id.
        """
        if self.actions:
            return sorted({action_of(action).action_id for action in self.actions})
        before = BuildConfiguration(cache=self.cache, incremental=self.incremental, parallelism=2)
        possible = possible_actions(before, lambda _knob: float("inf"), ("fast",))
        return suitable_actions(possible, self.situation().failure)
