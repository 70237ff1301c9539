"""The interval of a rate whose events come in bursts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.stats.dispersed_rate import dispersed_rate
from relab.stats.intervals import clopper_pearson


def test_equal_windows_give_the_exact_interval() -> None:
    found, exact = dispersed_rate([3, 3, 3], [400, 400, 400]), clopper_pearson(9, 1_200)

    assert found.low == pytest.approx(exact.low)
    assert found.high == pytest.approx(exact.high)


def test_no_events_give_the_exact_interval() -> None:
    assert dispersed_rate([0, 0], [500, 500]).high == pytest.approx(clopper_pearson(0, 1_000).high)


def test_upper_end_is_one_if_every_request_is_an_event() -> None:
    assert dispersed_rate([5, 5], [5, 5]).high == 1


def test_interval_of_15_errors_in_2400_requests_reaches_above_one_percent() -> None:
    # The contract's example: 15 errors in 2,400 requests do not show a rate below 1 %.
    assert dispersed_rate([7, 8], [1_200, 1_200], level=0.95).high == pytest.approx(0.0103, abs=1e-4)


def test_a_burst_widens_the_interval() -> None:
    even, burst = dispersed_rate([5] * 8, [1_000] * 8), dispersed_rate([40] + [0] * 7, [1_000] * 8)

    assert burst.low < even.low
    assert burst.high > even.high


def test_two_windows_with_different_rates_widen_the_interval() -> None:
    even, uneven = dispersed_rate([10, 10], [1_000, 1_000]), dispersed_rate([19, 1], [1_000, 1_000])

    assert uneven.low < even.low
    assert uneven.high > even.high


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 500)), min_size=1, max_size=10))
def test_interval_contains_the_rate_and_the_exact_interval(windows: list[tuple[int, int]]) -> None:
    hits = [count for count, _ in windows]
    totals = [count + more for count, more in windows]
    if not sum(totals):
        return
    found, exact = dispersed_rate(hits, totals), clopper_pearson(sum(hits), sum(totals))

    assert 0 <= found.low <= exact.low + 1e-9
    assert exact.high - 1e-9 <= found.high <= 1


@pytest.mark.parametrize(("hits", "totals"), [([0], [0]), ([2], [1]), ([-1], [1]), ([], [])])
def test_impossible_counts_are_rejected(hits: list[int], totals: list[int]) -> None:
    with pytest.raises(ValueError, match="a rate needs at least one trial"):
        dispersed_rate(hits, totals)
