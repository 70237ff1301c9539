"""Always-valid intervals: they rarely decide for equal variants, and decide a clear difference early."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evals.sequential_stopping import ALPHA, RATE, Setting, log_normal, measure, success
from relab.stats.sequential import (
    FIRST_VALUES,
    MarginFinding,
    always_valid_interval,
    always_valid_test,
    evidence,
    evidence_path,
    finding,
)

DIFFERENCES = st.lists(st.sampled_from([-1.0, -1 / 3, 0.0, 1 / 3, 1.0]), min_size=1, max_size=60)


@given(values=DIFFERENCES, mean=st.floats(-0.95, 0.95))
@example(values=[1.0, 0.0] * 10, mean=-0.5)
@example(values=[-1.0, 0.0] * 10, mean=0.5)
@example(values=[1 / 3] * 20, mean=1 / 3)
def test_path_of_the_evidence_has_the_evidence_after_each_value(values: list[float], mean: float) -> None:
    array = np.array(values)
    for bounds in (RATE, None):
        above, below = evidence_path(array[None, :], mean, bounds)
        found = [evidence(array[: count + 1], mean, bounds) for count in range(len(values))]

        # A mean that almost equals the values leaves few digits of their deviations.
        assert [each.above for each in found] == pytest.approx(above[0].tolist(), rel=1e-6, abs=1e-6)
        assert [each.below for each in found] == pytest.approx(below[0].tolist(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("value", [1 / 3, -0.1, 1e6 / 7, 0.0])
def test_equal_values_give_no_evidence_against_themselves(value: float) -> None:
    found = evidence(np.full(60, value), value)

    assert found.above == -math.inf
    assert found.below == -math.inf


@given(values=DIFFERENCES, level=st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_ends_where_the_evidence_refutes_the_mean_at_its_level(values: list[float], level: float) -> None:
    array, threshold = np.array(values), math.log(2 / (1 - level))
    bounded = always_valid_interval(array, level=level, bounds=RATE)
    if bounded.low > -1:
        assert evidence(array, bounded.low, RATE).above == pytest.approx(threshold, abs=1e-6)
    if bounded.high < 1:
        assert evidence(array, bounded.high, RATE).below == pytest.approx(threshold, abs=1e-6)

    unbounded = always_valid_interval(array, level=level)
    if math.isfinite(unbounded.low):
        assert evidence(array, unbounded.low).above >= threshold
    if math.isfinite(unbounded.high):
        assert evidence(array, unbounded.high).below >= threshold


@given(values=DIFFERENCES)
def test_the_interval_contains_the_mean_and_mirrors_with_the_values(values: list[float]) -> None:
    array = np.array(values)
    for bounds in (RATE, None):
        found = always_valid_interval(array, level=0.95, bounds=bounds)
        mirrored = always_valid_interval(-array, level=0.95, bounds=bounds)

        assert found.low <= array.mean() <= found.high
        assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@given(values=DIFFERENCES, seed=st.integers(0, 99))
def test_the_order_of_bounded_values_does_not_matter(values: list[float], seed: int) -> None:
    array = np.array(values)
    shuffled = np.random.default_rng(seed).permutation(array)

    assert evidence(shuffled, 0.1, RATE).above == pytest.approx(evidence(array, 0.1, RATE).above, abs=1e-9)


def test_equal_bounded_values_leave_room_for_rare_differences() -> None:
    found = always_valid_interval(np.zeros(100), level=0.95, bounds=RATE)

    # 100 tasks without a difference are compatible with a loss in 3 of 100 (rule of three), all of size 1.
    assert found.low < -0.03
    assert found.high > 0.03


@pytest.mark.parametrize("values", [np.zeros(50), np.full(50, 2.5), np.arange(FIRST_VALUES - 1.0)])
def test_unbounded_values_without_a_scale_decide_nothing(values: np.ndarray) -> None:
    assert always_valid_interval(values, level=0.95).high == math.inf
    assert finding(values, margin=0.0, alpha=ALPHA) is None
    assert always_valid_test(values - values.mean()).p_value == 1.0


def test_no_value_gives_no_evidence() -> None:
    assert always_valid_interval(np.array([]), level=0.95, bounds=RATE).low == -1
    assert always_valid_interval(np.array([]), level=0.95).low == -math.inf
    assert always_valid_interval(np.array([]), level=0.95).high == math.inf
    assert evidence(np.array([]), 0.0).p_value == 1.0


def test_a_level_is_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="95"):
        always_valid_interval(np.zeros(3), level=95)


@pytest.mark.parametrize("bounds", [RATE, None])
@pytest.mark.parametrize(
    ("shift", "margin", "expected"),
    [
        (0.5, 0.1, MarginFinding.HIGHER),
        (-0.5, 0.1, MarginFinding.LOWER),
        (0.0, 0.3, MarginFinding.EQUIVALENT),
        (0.0, 0.0, None),
    ],
)
def test_findings_relate_the_mean_to_the_margin(
    bounds: tuple[float, float] | None, shift: float, margin: float, expected: MarginFinding | None
) -> None:
    values = np.tile([-0.2, -0.1, 0.0, 0.1, 0.2], 40) + shift
    found = finding(values, margin=margin, alpha=ALPHA, bounds=bounds)

    assert (None if found is None else found[0]) is expected
    if found is not None:
        interval = always_valid_interval(values, level=1 - ALPHA, bounds=bounds)
        assert found[1] == interval


@pytest.mark.parametrize("sign", [1, -1])
def test_mean_is_not_within_the_margin_if_its_interval_reaches_beyond_it(sign: int) -> None:
    # The first values lie far from the others, so a mean of 2.7 is refuted, but a mean of 2.9 is not.
    values = sign * np.array([2.9, 2.91] * 5 + [-0.2, 0.2] * 7)
    interval = always_valid_interval(values, level=1 - ALPHA)

    assert max(interval.high, -interval.low) > 2.9
    assert finding(values, margin=2.7, alpha=ALPHA) is None


@pytest.mark.parametrize(
    "setting",
    [
        Setting("success", 100, success(0.5, 0.5)),
        Setting("rare success", 100, success(0.03, 0.03)),
        Setting("latency", 60, log_normal(0.6), None),
        Setting("skewed", 60, log_normal(1.5), None),
        Setting("three variants", 60, success(0.7, 0.7, repeats=3, agreement=0.5), variants=3),
    ],
    ids=lambda setting: setting.name,
)
def test_equal_variants_rarely_have_a_finding_with_a_look_after_each_task(setting: Setting) -> None:
    row = measure(setting, runs=250, seed=3)

    # At a rate of 5 %, 24 or more of 250 have a probability of 0.2 %. Looks at Student's interval are wrong more often.
    assert row.wrong < 24
    assert row.naive > row.wrong


def test_clear_difference_is_found_with_fewer_tasks() -> None:
    row = measure(Setting("clear", 200, success(0.5, 0.8), truth=MarginFinding.HIGHER), runs=40, seed=4)

    assert row.right >= 36
    assert row.used < 0.5
