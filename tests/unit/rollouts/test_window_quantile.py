"""The judged quantile of a window: failed requests count with at least their time limit."""

from __future__ import annotations

import pytest

from relab.load.histogram import LatencyHistogram
from relab.rollouts.judging import window_quantile_ms


def histogram(*latencies_ms: float) -> LatencyHistogram:
    found = LatencyHistogram()
    for latency_ms in latencies_ms:
        found.record(int(latency_ms * 1e6))
    return found


def p95_ms(good: list[float], bad: list[float], timeout_ms: float = 1_000) -> float | None:
    return window_quantile_ms(histogram(*good, *bad), histogram(*good), timeout_ms=timeout_ms)


def test_window_without_requests_has_no_quantile() -> None:
    assert p95_ms([], []) is None


def test_successful_requests_count_with_their_latency() -> None:
    found = p95_ms([float(value) for value in range(1, 1_001)], [])

    assert found == pytest.approx(950, rel=0.005)


def test_fast_failures_count_at_the_time_limit() -> None:
    with_failures = p95_ms([10.0] * 90, [1.0] * 10)

    assert with_failures is not None
    assert with_failures > 900


def test_slow_failures_count_with_their_latency() -> None:
    assert p95_ms([10.0] * 50, [2_000.0] * 50) == pytest.approx(2_000, rel=0.002)


def test_failures_and_successes_of_equal_latency_are_distinguished() -> None:
    assert p95_ms([10.0] * 99, [10.0], timeout_ms=10) == pytest.approx(10, rel=0.002)
    mixed = p95_ms([10.0] * 50, [10.0] * 50)
    assert mixed == pytest.approx(1_000, rel=0.002)


def test_only_failures_give_the_time_limit() -> None:
    assert p95_ms([], [5.0, 7.0, 5.0]) == pytest.approx(1_000)
