"""The file of a search: a plan, the values to try for fields of the plan, and the number of candidates to measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from relab.core.json import canonical_json
from relab.core.stored_documents import STORED
from relab.core.validation import problems_of
from relab.core.yaml_problems import yaml_error
from relab.core.yaml_source import YamlReader
from relab.rollouts.errors import PlanInvalidError
from relab.rollouts.models import DecisionPolicy
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import round_cost_s, rounds_that_fit
from relab.rollouts.plans.section import PlanSection

Values = dict[str, JsonValue]
"""Values of fields of a plan, by the dotted name of the field."""

_MOST_SCREENING_ROUNDS: Final = 6
"""A rollout of fewer than 7 rounds never passes, so that no candidate is applied by its screening."""
_FIELDS: Final = frozenset(
    {
        "experiment.flow_policy", "experiment.target_p95", "experiment.conc_cap", "experiment.batch_cap",
        "experiment.routing_mode", "experiment.topk_threshold", "subject.flags.b",
    }
)  # fmt: skip
"""The fields of a plan that describe arm B."""

_YAML: Final = YamlReader(PlanInvalidError, missing_remedy="docs/rollouts.md shows one.")
_Values = Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=1_000, strict=False)]


class Parameter(PlanSection):
    """The values that a search tries for one field of the plan: a list, or a range.

    Attributes:
        values: the list; None for a range.
        low, high: the ends of the range. If both are whole numbers, only whole numbers are tried.
        scale: how the values of a range are spaced: `linear` with equal differences, `log` with equal ratios.
        points: number of values of a range. Values that are equal after rounding are tried once.
    """

    values: _Values | None = None
    low: int | float | None = None
    high: int | float | None = None
    scale: Literal["linear", "log"] = "linear"
    points: Annotated[int, Field(ge=2, le=100)] = 5

    @model_validator(mode="after")
    def _is_list_or_range(self) -> Self:
        if (self.values is None) == (self.low is None or self.high is None):
            raise ValueError("needs either `values`, or `low` and `high`")
        given = self.model_fields_set - {"values"}
        if self.values is not None:
            if given:
                raise ValueError(f"{', '.join(sorted(given))} has no effect with `values`")
            if len({canonical_json(value) for value in self.values}) < len(self.values):
                raise ValueError("`values` has the same value twice")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
            if self.scale == "log" and self.low <= 0:
                raise ValueError("scale log needs low above 0")
        return self

    def choices(self) -> tuple[JsonValue, ...]:
        """Return all values that the search tries for this field, without duplicates."""
        if self.values is not None:
            return self.values
        assert self.low is not None
        assert self.high is not None
        shares = [number / (self.points - 1) for number in range(self.points)]
        if self.scale == "log":
            found = [self.low * math.exp(share * math.log(self.high / self.low)) for share in shares]
        else:
            found = [self.low + share * (self.high - self.low) for share in shares]
        is_whole = isinstance(self.low, int) and isinstance(self.high, int)
        rounded = [round(value) if is_whole else float(f"{value:.6g}") for value in found]
        # Rounding may leave the range at its ends.
        return tuple(dict.fromkeys(min(max(value, self.low), self.high) for value in rounded))


class Screening(PlanSection):
    """How each candidate of a search is measured.

    `rounds` is the number of rounds (one measurement of each set of flags). After `time_budget` seconds, no further
    candidate is measured; 0 means no limit.
    """

    rounds: Annotated[int, Field(ge=2, le=_MOST_SCREENING_ROUNDS)] = 3
    time_budget: Annotated[float, Field(ge=0)] = 0.0


class SearchSpec(PlanSection):
    """A search file: short rollouts try values of the plan's fields, and full rollouts confirm the best values.

    Attributes:
        plan: the plan of the confirming rollout; each candidate replaces fields of it.
        parameters: the values to try, by the dotted name of the field.
        method: `grid` tries all combinations of values; `bayesian` chooses each combination by the results so far.
        candidates: the greatest number of candidates.
        screening: how each candidate is measured.
        confirmations: greatest number of confirming rollouts; after the first PASS, no further one is run. The plan's
            risk of a false PASS is divided equally among them.
        seed: the seed of the choice of candidates.
    """

    plan: Plan = Plan()
    parameters: Annotated[dict[str, Parameter], Field(min_length=1, max_length=10)]
    method: Literal["grid", "bayesian"] = "bayesian"
    candidates: Annotated[int, Field(ge=1, le=1_000)] = 12
    screening: Screening = Screening()
    confirmations: Annotated[int, Field(ge=1, le=10)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.parameters) - _FIELDS)
        if unknown:
            raise ValueError(
                f"parameters: {unknown[0]} does not describe arm B; possible: {', '.join(sorted(_FIELDS))}"
            )
        if self.plan.policy is not DecisionPolicy.STATISTICAL:
            raise ValueError("plan.policy must be statistical, because the seed's rule passes the luckiest candidate")
        if self.plan.experiment.factorial:
            raise ValueError("plan.experiment.factorial has no effect on a search")
        rounds = self.plan.experiment.rounds
        if rounds != "auto" and rounds <= _MOST_SCREENING_ROUNDS:
            raise ValueError(f"plan.experiment.rounds: with {rounds} rounds the confirming rollout can never pass")
        size = math.prod(len(parameter.choices()) for parameter in self.parameters.values())
        if self.method == "grid" and size > self.candidates:
            raise ValueError(f"the grid has {size} candidates, more than `candidates` ({self.candidates})")
        return self

    def greatest_cost_s(self) -> float:
        """Return the greatest time of all measurements of the search, with warm-ups and waits for a metric, in seconds."""
        measured = self.plan.experiment
        size = math.prod(len(parameter.choices()) for parameter in self.parameters.values())
        screened = min(self.candidates, size) * self.screening.rounds
        rounds = measured.max_rounds if measured.rounds == "auto" else measured.rounds
        confirmed = self.confirmations * min(rounds, rounds_that_fit(self.plan))
        return round_cost_s(self.plan) * (screened + confirmed)


def read_search(path: Path) -> SearchSpec:
    """Read and validate the file of a search.

    Raises:
        PlanInvalidError: the file is unreadable or invalid, or a value does not fit the plan; the error names each
            problem.
    """
    source = _YAML.read(path)
    try:
        spec = SearchSpec.model_validate(source.value)
    except ValidationError as error:
        raise yaml_error(error, source, SearchSpec, PlanInvalidError) from error
    for name, parameter in spec.parameters.items():
        for value in parameter.choices():
            plan_with(spec.plan, {name: value})
    return spec


def plan_with(plan: Plan, values: Mapping[str, Any], *, is_checked: bool = False) -> Plan:
    """Return a copy of a plan with new values of some fields, `{dotted name: value}`.

    Args:
        plan: the plan.
        values: the new values.
        is_checked: whether `plan` and `values` belong to a search that was accepted already, perhaps by an earlier
            version of relab. If True, rules that apply to new plans only are not checked.

    Raises:
        PlanInvalidError: a field does not exist, or a value does not fit.
    """
    # Fields that were not given stay so: an absent value of arm A is the value before the rollout.
    document = plan.model_dump(mode="json", exclude_unset=True)
    for name, value in values.items():
        *parents, last = name.split(".")
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    try:
        return Plan.model_validate(document, context=STORED if is_checked else None)
    except ValidationError as error:
        problems = problems_of(error, root="plan")
        raise PlanInvalidError("A candidate does not fit the plan.", problems=problems) from error
