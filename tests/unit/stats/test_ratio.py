"""Ratios of sums: known values, and intervals that cover the true ratio at their level."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from relab.stats.ratio import ratio_of_sums


def test_estimate_is_the_ratio_of_the_sums_and_not_the_mean_of_ratios() -> None:
    ratio, interval = ratio_of_sums([1, 1, 1, 1, 16], [10, 10, 10, 10, 0])
    assert ratio == pytest.approx(0.5)
    assert interval.low <= ratio <= interval.high


def test_equal_shares_have_an_interval_of_zero_width() -> None:
    below = [1.0, 2.0, 3.0, 4.0, 5.0]
    ratio, interval = ratio_of_sums([value / 4 for value in below], below)
    assert (ratio, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_same_seed_gives_the_same_interval_and_groups_widen_it() -> None:
    rng = random.Random(5)
    above = [rng.random() for _ in range(10)]
    twice = [value for value in above for _ in range(4)]
    alone = ratio_of_sums(twice, [1.0] * 40, seed=3)
    assert alone == ratio_of_sums(twice, [1.0] * 40, seed=3)
    together = ratio_of_sums(twice, [1.0] * 40, [at // 4 for at in range(40)], seed=3)
    assert together[0] == pytest.approx(alone[0])
    assert together[1].high - together[1].low > 1.5 * (alone[1].high - alone[1].low)


def test_zero_denominator_or_too_few_values_have_an_unbounded_interval() -> None:
    ratio, interval = ratio_of_sums([1.0] * 6, [0.0] * 6)
    assert math.isnan(ratio)
    assert interval.low == 0.0
    assert interval.high == math.inf
    ratio, interval = ratio_of_sums([1.0] * 4, [2.0] * 4)
    assert ratio == 0.5
    assert interval.low == 0.0
    assert interval.high == math.inf
    ratio, interval = ratio_of_sums([1.0] * 40, [2.0] * 40, ["one"] * 40)
    assert interval.high == math.inf


@pytest.mark.parametrize(
    ("above", "below", "groups"),
    [([], [], None), ([1.0], [1.0, 2.0], None), ([1.0], [1.0], ["a", "b"]), ([-1.0], [1.0], None), ([1.0], [math.inf], None)],
)  # fmt: skip
def test_input_without_a_ratio_is_rejected(above: list[float], below: list[float], groups: list[str] | None) -> None:
    with pytest.raises(ValueError, match="value"):
        ratio_of_sums(above, below, groups)
    with pytest.raises(ValueError, match="level"):
        ratio_of_sums([1.0], [1.0], level=95)


@pytest.mark.full
def test_interval_covers_the_true_ratio_at_about_its_level() -> None:
    rng = random.Random(11)
    held = 0
    for seed in range(200):
        below = [rng.uniform(5, 60) for _ in range(30)]
        above = [value * rng.uniform(0.1, 0.7) for value in below]
        interval = ratio_of_sums(above, below, seed=seed)[1]
        held += interval.low <= 0.4 <= interval.high
    assert held >= 180


def test_interval_of_few_clusters_covers_the_true_ratio() -> None:
    # The numerator is 0.4 of the denominator on average, and this share differs between clusters.
    random_, held = np.random.default_rng(4), 0
    for seed in range(200):
        level = np.repeat(random_.lognormal(3.0, 0.8, size=6), 5)
        share = np.repeat(random_.beta(2.0, 3.0, size=6), 5)
        below = level * random_.lognormal(-0.08, 0.4, size=30)
        above = level * share * random_.lognormal(-0.08, 0.4, size=30)
        interval = ratio_of_sums(list(above), list(below), list(np.repeat(range(6), 5)), seed=seed)[1]
        held += interval.low <= 0.4 <= interval.high
    assert held >= 182


@pytest.mark.parametrize("successes", [1.0, 2.0])
def test_upper_end_is_infinite_if_many_resamples_have_no_success(successes: float) -> None:
    below = [successes, 0.0, 0.0, 0.0, 0.0, 0.0]
    ratio, interval = ratio_of_sums([1.0] * 6, below)

    assert ratio == 6.0 / successes
    assert 0 < interval.low <= ratio
    assert interval.high == math.inf


def test_negative_seed_is_accepted() -> None:
    assert ratio_of_sums([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5, seed=-1)[0] == 3.0
