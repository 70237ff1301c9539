"""Intervals of a rate and of a mean: they match published values, and keep their level over all counted outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.stats.intervals import Interval, clopper_pearson, poisson_exact, wilson
from support.telemetry.runs import examples

RateInterval = Callable[..., Interval]
COUNTS = st.integers(1, 400).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
RATE_INTERVALS = pytest.mark.parametrize("interval_of_rate", [wilson, clopper_pearson])


# Newcombe, Statist. Med. 17 (1998) 857-872, table I: methods 3 (score) and 5 (exact).
@pytest.mark.parametrize(
    ("hits", "total", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_rate_intervals_match_published_values(
    hits: int, total: int, score: tuple[float, float], exact: tuple[float, float]
) -> None:
    for found, expected in ((wilson(hits, total), score), (clopper_pearson(hits, total), exact)):
        assert found.low == pytest.approx(expected[0], abs=5e-5)
        assert found.high == pytest.approx(expected[1], abs=5e-5)


def test_an_error_rate_of_15_in_2400_is_not_below_one_percent() -> None:
    assert clopper_pearson(15, 2_400).high == pytest.approx(0.0103, abs=5e-5)


@pytest.mark.parametrize("total", [3, 10, 25])
def test_the_exact_interval_keeps_its_level_for_every_rate(total: int) -> None:
    intervals = [clopper_pearson(hits, total) for hits in range(total + 1)]
    for rate in np.linspace(0.001, 0.999, 201):
        assert 1 - _missed(intervals, rate) >= 0.95 - 1e-12


def test_the_score_interval_keeps_its_level_on_average_and_never_falls_far_below() -> None:
    intervals = [wilson(hits, 20) for hits in range(21)]
    covered = [1 - _missed(intervals, rate) for rate in np.linspace(0.0005, 0.9995, 1_000)]

    assert np.mean(covered) == pytest.approx(0.953, abs=0.005)
    assert min(covered) > 0.83


@RATE_INTERVALS
@given(counts=COUNTS, level=st.floats(0.5, 0.999))
@examples(80)
def test_rate_lies_in_its_interval_and_failures_mirror_the_interval(
    interval_of_rate: RateInterval, counts: tuple[int, int], level: float
) -> None:
    hits, total = counts
    found, mirrored = interval_of_rate(hits, total, level=level), interval_of_rate(total - hits, total, level=level)

    assert 0 <= found.low <= hits / total <= found.high <= 1
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high)
    assert found.high == pytest.approx(1 - mirrored.low)
    wider = interval_of_rate(hits, total, level=(1 + level) / 2)
    assert wider.low <= found.low < found.high <= wider.high


@RATE_INTERVALS
@pytest.mark.parametrize("counts", [(0, 0), (-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_rejected(interval_of_rate: RateInterval, counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a rate needs at least one trial"):
        interval_of_rate(*counts)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, math.nan])
def test_invalid_level_is_rejected(level: float) -> None:
    for ask in (
        lambda: wilson(1, 2, level=level),
        lambda: clopper_pearson(1, 2, level=level),
    ):
        with pytest.raises(ValueError, match="level"):
            ask()


def _missed(intervals: list[Interval], rate: float) -> float:
    total = len(intervals) - 1
    return math.fsum(
        math.comb(total, hits) * rate**hits * (1 - rate) ** (total - hits)
        for hits, found in enumerate(intervals)
        if not found.low <= rate <= found.high
    )


def test_poisson_exact_has_the_published_limits() -> None:
    # Garwood's table at 95 %, for 0, 1 and 10 events.
    for count, low, high in ((0, 0.0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904)):
        found = poisson_exact(count)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    with pytest.raises(ValueError, match="-1"):
        poisson_exact(-1)
    with pytest.raises(ValueError, match="level"):
        poisson_exact(1, level=95)
