"""Quantiles of histograms whose buckets grow by a constant factor."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.stats.log_histogram import MIN_VALUE, RELATIVE_ERROR, bucket_of, quantile, value_of
from support.telemetry.runs import examples

VALUES = st.floats(MIN_VALUE, 1e15, exclude_min=True)
# Rounding of logarithms may add to the error in the last digits.
CLOSE = RELATIVE_ERROR * (1 + 1e-9)


@given(VALUES)
@examples(500)
def test_bucket_represents_its_values_within_one_percent(value: float) -> None:
    assert value_of(bucket_of(value)) == pytest.approx(value, rel=CLOSE, abs=0)


@pytest.mark.parametrize("exponent", [-600, -1, 0, 1, 2, 50, 1_700])
def test_bucket_contains_values_at_its_edges_within_one_percent(exponent: int) -> None:
    edge = (1.01 / 0.99) ** exponent
    for value in (math.nextafter(edge, 0), edge, math.nextafter(edge, math.inf)):
        assert value_of(bucket_of(value)) == pytest.approx(value, rel=CLOSE, abs=0)


@given(VALUES, VALUES)
@examples(300)
def test_greater_values_are_never_in_lesser_buckets(one: float, other: float) -> None:
    assert (bucket_of(one) <= bucket_of(other)) or one > other


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1e-9, MIN_VALUE])
def test_values_up_to_the_minimum_count_as_zero(value: float) -> None:
    assert value_of(bucket_of(value)) == 0.0
    assert bucket_of(value) < bucket_of(math.nextafter(MIN_VALUE, 1))


def nearest_rank(values: list[float], q: float) -> float:
    return sorted(values)[max(math.ceil(q * len(values)), 1) - 1]


@given(
    st.lists(VALUES | st.just(0.0), min_size=1, max_size=60), st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0])
)
@examples(300)
def test_a_quantile_is_the_nearest_rank_within_one_percent(values: list[float], q: float) -> None:
    found = quantile(Counter(map(bucket_of, values)), q)
    assert found == pytest.approx(nearest_rank(values, q), rel=CLOSE, abs=0)


@given(st.lists(VALUES, min_size=1, max_size=20), st.lists(VALUES, max_size=20))
@examples(100)
def test_histograms_add_and_subtract(kept: list[float], gone: list[float]) -> None:
    counts = Counter(map(bucket_of, [*kept, *gone]))
    counts.subtract(map(bucket_of, gone))
    assert any(count == 0 for count in counts.values()) or len(counts) == len(set(map(bucket_of, kept)))
    assert quantile(counts, 0.95) == quantile(Counter(map(bucket_of, kept)), 0.95)


def test_empty_histogram_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({3: 0}, 0.5) is None


def test_quantiles_of_a_worked_example() -> None:
    counts = Counter(map(bucket_of, [100.0] * 19 + [5_000.0]))
    assert quantile(counts, 0.95) == pytest.approx(100, rel=0.01)
    assert quantile(counts, 0.951) == pytest.approx(5_000, rel=0.01)
