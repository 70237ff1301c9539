"""The section `policies` of an experiment: the order of trials, retries of trials, and rules that end a run early."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.models import DEFAULT_FIRST_ERRORS

OWN_POLICIES: Final = frozenset(("stopping", "budget"))
"""Policies that `resolved_experiment.json` has in `design`.

Its format is that of AgentLab (an experiment runner whose file formats relab keeps), whose schema does not have them.
"""


STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True, use_enum_values=False)
"""The settings of every section of an experiment file: unknown fields and values of another type are errors."""


class _Section(BaseModel):
    model_config = STRICT


class Scheduling(StrEnum):
    """The order in which trials are started.

    - `PAIRED_INTERLEAVED`: the first task with all variants, then the next task with all variants, and so on.
    - `VARIANT_SEQUENTIAL`: all tasks with the first variant, then all tasks with the next variant, and so on.
    - `RANDOMIZED`: all trials in random order.
    """

    PAIRED_INTERLEAVED = "paired_interleaved"
    VARIANT_SEQUENTIAL = "variant_sequential"
    RANDOMIZED = "randomized"


class Retry(_Section):
    """When an attempt at a trial is repeated: if it ended in one of `retry_on`, up to `max_attempts` attempts in total.

    Only the last attempt counts; all attempts are recorded.
    """

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 1
    retry_on: list[Literal["error", "timeout", "failure"]] = ["error", "timeout"]


class Pruning(_Section):
    """After how many consecutive failures of a variant's trials its remaining trials are skipped; None to skip none.

    A success of a trial of the variant sets the count to 0.
    """

    max_consecutive_failures: Annotated[int, Field(ge=1)] | None = None


class Stopping(_Section):
    """When a clear result ends the trials of a variant early.

    After each task, the always-valid interval (valid however often it is examined) of the variant's difference from the
    baseline is computed. The result of the variant is clear once this interval lies above `margin`, below minus
    `margin`, or between these two bounds.

    Attributes:
        metric: the compared metric.
        alpha: the probability of a wrong decision about any variant in the whole run, divided equally among the
            variants.
    """

    metric: Annotated[str, Field(min_length=1, max_length=200)]
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The smallest difference that matters, in the unit of the metric."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05


class RunBudget(_Section):
    """The ceilings (limits) of a whole run: when one is reached, no further trial starts. None means no limit.

    Attributes:
        max_trials: the most trials that are run. A result from the result cache does not count.
        max_cost_usd: the greatest cost of all attempts of all trials, in USD: the sum of the metric `cost_usd` or, for
            an attempt without it, of the estimated cost.
        max_seconds: the longest time that may be spent on the run, in seconds. Time between a stop of the run and
            its continuation does not count.
        max_first_errors: a number of trials. The limit is reached if the first trials, this many, all end with the
            same error. If one of them ends in another way, there is no such limit until the run is continued; then
            the count begins anew.
    """

    max_trials: Annotated[int, Field(ge=1)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_first_errors: Annotated[int, Field(ge=1)] | None = DEFAULT_FIRST_ERRORS

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = serialize(self)
        if self.max_first_errors == DEFAULT_FIRST_ERRORS:
            # The digest of a run that an earlier version began must stay the same.
            del found["max_first_errors"]
        return found


ComparisonDesign = Literal["paired", "unpaired", "none"]


class Policies(_Section):
    """The order of trials, whether trials continue from the state of earlier trials, retries, and early ends of a run.

    `comparison` is None or the same as `design.comparison`.
    """

    scheduling: Annotated[Scheduling, Field(strict=False)] = Scheduling.PAIRED_INTERLEAVED
    state: Annotated[StatePolicy, Field(strict=False)] = StatePolicy.ISOLATE_PER_TRIAL
    comparison: ComparisonDesign | None = None
    retry: Retry = Retry()
    pruning: Pruning = Pruning()
    stopping: Stopping | None = None
    budget: RunBudget | None = None

    def check_stopping(
        self, *, comparison: ComparisonDesign, shuffles_tasks: bool, has_variants: bool, has_clusters: bool
    ) -> None:
        """Check that the design of the experiment allows the stopping rule `stopping`; do nothing without a rule.

        Args:
            comparison: how variants are compared.
            shuffles_tasks: whether the tasks are in random order.
            has_variants: whether there is a variant besides the baseline.
            has_clusters: whether tasks form clusters (tasks that depend on each other).

        Raises:
            ValueError: the design does not allow the rule; the message says which field to change.
        """
        # A rule judges after each task. This is valid only for independent tasks in random order, each measured with
        # the baseline and with the variant.
        problems = (
            (not has_variants, "needs a variant in variant_plan to compare with the baseline"),
            (comparison != "paired", "needs design.comparison: paired"),
            (not shuffles_tasks, "needs design.shuffle_tasks: true, so that the first tasks are a random sample"),
            (
                self.scheduling is not Scheduling.PAIRED_INTERLEAVED,
                "needs policies.scheduling: paired_interleaved, which completes one task after the other",
            ),
            (
                self.state is StatePolicy.ACCUMULATE,
                "cannot be used with policies.state: accumulate, where tasks depend on each other",
            ),
            (has_clusters, "cannot be used with analysis.cluster_field, whose clusters a stop would cut in two"),
        )
        for is_wrong, why in problems:
            if self.stopping is not None and is_wrong:
                raise ValueError(f"policies.stopping {why}")


class Validity(_Section):
    """Whether a run that violates its sanitization profile is rejected. If not, the run only records the violation.

    A sanitization profile names conditions that must be equal for all trials. The command `run-dev` never rejects a run
    for a violation.

    Attributes:
        fail_on_state_leak: whether to reject a run whose trials take over workspace and state from earlier trials,
            although the profile forbids that. None means the value of `fail_on_profile_invariant_violation`.
        fail_on_profile_invariant_violation: whether to reject a run with any other violation, such as full network
            access. None means True with the command `run-experiment`, and False with `run`.
    """

    fail_on_state_leak: bool | None = None
    fail_on_profile_invariant_violation: bool | None = None
