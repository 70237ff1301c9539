"""Proposals of a search: the next candidate to measure, and the candidates to confirm."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from relab.rollouts.search.candidates import ScreenedCandidate, to_confirm
from relab.rollouts.search.proposals import MeasuredCandidate, grid, propose
from relab.rollouts.search.spec import Parameter, SearchSpec, Values, plan_with

CAPS = Parameter(low=1, high=41, points=41)
CURVE = {"experiment.conc_cap": CAPS}


def walk(
    parameters: dict[str, Parameter], count: int, *, seed: int = 1, method: str = "bayesian"
) -> list[MeasuredCandidate]:
    """Run a search whose best concurrency limit is 30, and return its trials."""
    trials: list[MeasuredCandidate] = []
    while (values := propose(parameters, trials, method=method, candidates=count, seed=seed)) is not None:
        cap = float(str(values["experiment.conc_cap"]))
        trials.append(MeasuredCandidate(values, ((cap - 30) / 30) ** 2 - 0.3, 0.03))
    return trials


def test_change_that_is_rounded_to_minus_100_percent_has_an_effect() -> None:
    effect = ScreenedCandidate(number=1, values={}, rollout_id="r", estimate_pct=-100.0).trial().effect

    assert effect is not None
    assert -20 < effect < -10


def test_grid_has_all_combinations_in_order() -> None:
    parameters = {"a": Parameter(values=(1, 2)), "b": Parameter(values=("x", "y"))}

    assert grid(parameters) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


def test_range_on_a_log_scale_has_equal_ratios() -> None:
    assert Parameter(low=1, high=16, scale="log", points=5).choices() == (1, 2, 4, 8, 16)


def test_range_of_whole_numbers_has_no_duplicates() -> None:
    assert Parameter(low=1, high=3, points=9).choices() == (1, 2, 3)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_rounded_values_stay_in_their_range(scale: Any) -> None:
    assert Parameter(low=0.12345649, high=0.1234567, scale=scale, points=2).choices() == (0.12345649, 0.1234567)


def test_list_with_the_same_value_twice_is_rejected() -> None:
    with pytest.raises(ValidationError, match="same value twice"):
        Parameter(values=(8, 4, 8))
    assert Parameter(values=(1, True, "1")).choices() == (1, True, "1")


@pytest.mark.parametrize("seed", range(5))
def test_bayesian_search_finds_the_minimum_with_few_candidates(seed: int) -> None:
    trials = walk(CURVE, 10, seed=seed)

    best = min(trials, key=lambda trial: trial.effect or 0.0)
    assert abs(float(str(best.values["experiment.conc_cap"])) - 30) <= 2


def test_candidates_are_never_repeated_and_end_with_the_grid() -> None:
    trials = walk({"experiment.conc_cap": Parameter(values=(4, 8, 16))}, 10)

    assert sorted(str(trial.values["experiment.conc_cap"]) for trial in trials) == ["16", "4", "8"]


def test_same_trials_give_the_same_proposal() -> None:
    assert walk(CURVE, 8) == walk(CURVE, 8)


def test_candidates_without_a_figure_are_not_proposed_again() -> None:
    failed = [MeasuredCandidate({"experiment.conc_cap": cap}, None, 0.0) for cap in range(1, 41)]

    assert propose(CURVE, failed, method="bayesian", candidates=100, seed=1) == {"experiment.conc_cap": 41}


def test_texts_and_numbers_are_searched_together() -> None:
    parameters = {**CURVE, "experiment.routing_mode": Parameter(values=("rules", "faiss", "qdrant"))}
    trials: list[MeasuredCandidate] = []
    while (values := propose(parameters, trials, method="bayesian", candidates=14, seed=3)) is not None:
        gain = 0.3 if values["experiment.routing_mode"] == "faiss" else 0.0
        trials.append(MeasuredCandidate(values, -gain, 0.02))

    modes = [str(trial.values["experiment.routing_mode"]) for trial in trials[5:]]
    assert modes.count("faiss") > len(modes) / 2


def test_best_candidates_are_confirmed_first_and_bad_ones_never() -> None:
    estimates = [-4.0, -20.0, None, -12.0, -30.0, 8.0]

    assert to_confirm(estimates, greatest_pct=-5, most=2) == [4, 1]
    assert to_confirm(estimates, greatest_pct=-5, most=9) == [4, 1, 3]
    assert to_confirm([1.0, None], greatest_pct=-5, most=3) == []


def test_field_that_was_not_given_stays_absent_in_a_candidate() -> None:
    values: Values = {"subject.flags.b": 20}
    flags = {"kind": "http", "url": "http://localhost/limit", "b": 1}
    spec = SearchSpec.model_validate(
        {"plan": {"subject": {"flags": flags}}, "parameters": {"subject.flags.b": {"values": [1]}}}
    )

    plan = plan_with(spec.plan, values)

    assert plan.subject.flags.kind == "http"
    assert plan.subject.flags.b == 20
    assert "a" not in plan.subject.flags.model_fields_set


def test_share_of_alpha_lowers_alpha_and_power() -> None:
    from relab.rollouts.judging.rounds import gates_of
    from relab.rollouts.plans.models import Plan

    whole, third = gates_of(Plan()), gates_of(Plan(alpha_share=1 / 3))

    assert third.alpha == pytest.approx(whole.alpha / 3)
    assert third.power(math.log(0.7), 0.2, 8) < whole.power(math.log(0.7), 0.2, 8)
