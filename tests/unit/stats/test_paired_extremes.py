"""Paired differences of extreme data: one cluster, equal differences, very large numbers, invalid input."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from relab.stats.paired import FEW_CLUSTERS, Clusters, cluster, interval_of, paired_delta


def test_one_cluster_has_an_infinite_interval() -> None:
    found = paired_delta([1.0, 3.0], ["a", "a"])

    assert found.estimate == 2.0
    assert found.clusters == 1
    assert found.test.p_value == 1.0
    assert found.interval.low == -math.inf
    assert found.interval.high == math.inf
    assert math.isnan(found.standard_error)


def test_two_different_differences_have_a_finite_interval() -> None:
    found = interval_of(cluster([1.0, 3.0]))

    low, high = stats.t.interval(0.95, 1, loc=2.0, scale=1.0)
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_equal_values_in_large_clusters_do_not_vary() -> None:
    # The rounding error of a sum grows with the number of its values.
    assert cluster([0.1] * 7_000, [0] * 5_000 + [1] * 2_000).is_constant


@pytest.mark.parametrize("deltas", [[0.0] * 5, [2.5] * 5, [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]])
def test_equal_differences_without_bounds_have_an_infinite_interval(deltas: list[float]) -> None:
    found = paired_delta(deltas)

    assert found.interval.low == -math.inf
    assert found.interval.high == math.inf
    # All 5 signs are equal in 2 of 32 patterns.
    assert found.test.p_value == (1 / 16 if found.estimate else 1.0)


@pytest.mark.parametrize("count", [20, 400])
def test_equal_differences_have_the_p_value_of_their_signs(count: int) -> None:
    assert paired_delta([0.5] * count).test.p_value == 2.0 ** (1 - count)


def test_sixty_equal_tasks_have_the_bound_of_an_exact_interval() -> None:
    found = interval_of(cluster([0.0] * 60), bounds=(-1, 1))

    # The upper end of Clopper and Pearson's interval for 0 of 60.
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert found.low == -found.high
    assert found.method == "bound of equal differences"


def test_rounding_errors_do_not_count_as_spread_with_known_bounds() -> None:
    deltas = [0.0, 5.6e-17, 0.0, 0.0, -5.6e-17, 0.0]

    assert interval_of(cluster(deltas), bounds=(-1, 1)).high > 0.4


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_bound_of_equal_differences_holds_for_every_probability(count: int) -> None:
    intervals = {value: interval_of(cluster([value] * count), bounds=(-1, 1)) for value in (-1.0, 0.0, 1.0)}
    for steps in product(range(41), repeat=2):
        lost, gained = steps[0] / 40, steps[1] / 40
        if lost + gained > 1:
            continue
        chances = {-1.0: lost, 0.0: 1 - lost - gained, 1.0: gained}
        mean = gained - lost
        too_high = sum(p**count for value, p in chances.items() if intervals[value].low > mean + 1e-9)
        too_low = sum(p**count for value, p in chances.items() if intervals[value].high < mean - 1e-9)
        assert max(too_high, too_low) <= 0.025 + 1e-9


def test_one_large_cluster_among_small_ones_widens_the_bound() -> None:
    even = interval_of(cluster([0.0] * 20), bounds=(-1, 1))
    uneven = interval_of(Clusters(np.zeros(20), np.array([100.0] + [1.0] * 19)), bounds=(-1, 1))

    assert uneven.high > 0.9 > 0.2 > even.high


def test_large_numbers_neither_overflow_nor_lose_their_spread() -> None:
    found = paired_delta([1e300, 2e300, -1e300, 4e300])

    assert found.standard_error == pytest.approx(1e300 * stats.sem([1, 2, -1, 4]))
    assert math.isfinite(found.interval.low)
    assert math.isfinite(found.interval.high)


@pytest.mark.parametrize(
    ("deltas", "groups", "message"),
    [
        ([], None, "must be given"),
        ([1.0, math.nan], None, "finite"),
        ([-math.inf, 1.0], None, "finite"),
        ([1.0, 2.0], ["a"], "1 groups for 2 differences"),
        ([1e308, 1e308], None, "too large"),
    ],
)
def test_input_without_a_mean_is_rejected(deltas: list[float], groups: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_delta(deltas, groups)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
@pytest.mark.parametrize("count", [1, 3, FEW_CLUSTERS])
def test_invalid_level_is_rejected(level: float, count: int) -> None:
    with pytest.raises(ValueError, match="level"):
        interval_of(cluster([float(value) for value in range(count)]), level=level)
