"""Calibration of problem probabilities: the curves, the thresholds computed from them, and their use by a model."""

from __future__ import annotations

import numpy as np
import pytest

from relab.rca.ranking.calibrating import best_threshold, beta_curves, cross_calibrated
from relab.rca.ranking.model import BetaCurve, Columns, Linear, ProblemModel

CHANCES = np.linspace(0.01, 0.99, 99)


def odds(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def constant(chance: float) -> Linear:
    """Return a model that gives each unit the same probability."""
    return Linear(means=(0.0,), scales=(1.0,), weights=(0.0,), bias=odds(chance))


def problem_model(*, any_chance: float, kind_chance: float, kinds_find: bool) -> ProblemModel:
    return ProblemModel(
        columns=Columns(names=("late",)),
        any=constant(any_chance),
        kinds={"wrong_tool": constant(kind_chance), "goal_lost": constant(0.1)},
        from_probability=0.5,
        kinds_from=0.3,
        kinds_find=kinds_find,
    )


def test_the_beta_curve_of_1_1_and_0_is_the_identity() -> None:
    assert BetaCurve(rise=1, fall=1, bias=0).probability(CHANCES) == pytest.approx(CHANCES)


def test_a_beta_curve_never_reverses_the_order_of_probabilities() -> None:
    (curve,) = beta_curves(CHANCES[:, None], (CHANCES < 0.5).astype(float)[:, None])
    assert (np.diff(curve.probability(CHANCES)) >= 0).all()


def test_a_beta_curve_learns_that_probabilities_are_too_high() -> None:
    draw = np.random.default_rng(1)
    chances = draw.uniform(0.05, 0.95, 4_000)
    true = (draw.uniform(size=4_000) < chances / 2).astype(float)
    (curve,) = beta_curves(chances[:, None], true[:, None])
    assert curve.probability(np.array([0.2, 0.5, 0.8])) == pytest.approx([0.1, 0.25, 0.4], abs=0.04)


def test_labels_of_a_fold_do_not_change_its_own_calibrated_probabilities() -> None:
    draw = np.random.default_rng(2)
    chances, fold = draw.uniform(size=(60, 2)), np.repeat([0, 1, 2], 20)
    true = (draw.uniform(size=(60, 2)) < chances).astype(float)
    changed = true.copy()
    changed[fold == 1] = 1 - changed[fold == 1]
    before, after = cross_calibrated(chances, true, fold), cross_calibrated(chances, changed, fold)
    assert (before[fold == 1] == after[fold == 1]).all()
    assert not (before[fold != 1] == after[fold != 1]).any()


def test_the_threshold_has_the_greatest_expected_f1_of_all() -> None:
    chances = np.random.default_rng(3).beta(1, 4, 200)

    def expected_f1(threshold: float) -> float:
        told = chances[chances >= threshold]
        return float(2 * told.sum() / (len(told) + chances.sum() + 7))

    assert expected_f1(best_threshold(chances, missed=7)) == pytest.approx(max(map(expected_f1, chances)))


def test_threshold_is_one_without_any_probabilities() -> None:
    assert best_threshold(np.zeros((5, 0))) == 1.0


def test_a_likely_kind_finds_a_problem_by_itself() -> None:
    found, _ = problem_model(any_chance=0.4, kind_chance=0.35, kinds_find=True).judge(np.zeros((1, 1)))
    assert found == [(0, ("wrong_tool",))]


def test_an_unlikely_kind_finds_no_problem() -> None:
    found, _ = problem_model(any_chance=0.4, kind_chance=0.2, kinds_find=True).judge(np.zeros((1, 1)))
    assert found == []


def test_a_model_of_an_older_version_finds_no_problem_by_a_kind_alone() -> None:
    model = problem_model(any_chance=0.4, kind_chance=0.35, kinds_find=True)
    old = ProblemModel.model_validate(model.model_dump(exclude={"kinds_find", "any_curve", "kind_curves"}))
    assert old.judge(np.zeros((1, 1)))[0] == []
    assert old.chances(np.zeros((1, 1))) == pytest.approx(0.4, abs=1e-6)


def test_probabilities_of_problems_are_calibrated_before_they_are_compared() -> None:
    model = problem_model(any_chance=0.4, kind_chance=0.2, kinds_find=False)
    curve = BetaCurve(rise=1, fall=1, bias=1)
    raised = model.model_copy(update={"any_curve": curve, "kind_curves": {"wrong_tool": curve}})
    ((row, kinds),), ((chance, kind),) = raised.judge(np.zeros((1, 1)))
    assert (row, kinds, kind) == (0, ("wrong_tool",), "wrong_tool")
    assert odds(chance) == pytest.approx(odds(0.4) + 1, abs=1e-6)
