"""The width of the prediction interval: wider with few samples or a noisy host."""

from __future__ import annotations

import random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.actions.prediction_interval import prediction_interval_width, recovery_bound
from relab.incidents.detection.baseline import Baseline, SignalBaseline
from relab.incidents.models import Snapshot
from relab.stats.distributions import t_quantile

Z = 4.0
PHI = NormalDist().cdf(Z)
P95 = "latency.p95_ms"


@pytest.mark.parametrize(("count", "accuracy"), [(6, 0.1), (11, 0.01), (31, 2e-4), (101, 2e-6)])
def test_the_width_is_that_of_a_prediction_interval(count: int, accuracy: float) -> None:
    exact = t_quantile(PHI, count - 1) * 5.0 * (1 + 1 / count) ** 0.5
    assert prediction_interval_width(SignalBaseline(40.0, 5.0, count), Z, 1.0) == pytest.approx(exact, rel=accuracy)


def test_fewer_than_four_degrees_of_freedom_count_as_four() -> None:
    widths = [
        prediction_interval_width(SignalBaseline(40.0, 5.0, count), Z, 1.0) / (1 + 1 / count) ** 0.5
        for count in (1, 2, 5, 6)
    ]
    assert widths[:3] == pytest.approx([widths[2]] * 3)
    assert widths[3] < widths[2]


def test_polls_that_overlap_by_less_than_one_count_as_separate() -> None:
    usual = SignalBaseline(40.0, 5.0, 20)
    assert prediction_interval_width(usual, Z, 0.1) == prediction_interval_width(usual, Z, 1.0)
    assert prediction_interval_width(usual, Z, 1.2) > prediction_interval_width(usual, Z, 1.0)


def test_interval_is_wider_with_few_or_overlapping_polls() -> None:
    widths = [prediction_interval_width(SignalBaseline(40.0, 5.0, count), Z, 1.0) for count in (5, 10, 40, 240)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]
    assert widths[-1] == pytest.approx(Z * 5.0, rel=0.1)
    assert prediction_interval_width(SignalBaseline(40.0, 5.0, 60), Z, 6.0) == prediction_interval_width(
        SignalBaseline(40.0, 5.0, 10), Z, 1.0
    )


def test_noisy_host_widens_the_interval_although_its_median_deviation_is_small() -> None:
    noisy, calm = Baseline(), Baseline()
    for number in range(60):
        noisy.learn(Snapshot(number, numbers={P95: 90.0 if number % 6 == 0 else 42.0 + number % 2}))
        calm.learn(Snapshot(number, numbers={P95: 42.0 + number % 2}))
    wide, narrow = noisy.usual(P95), calm.usual(P95)
    assert wide is not None
    assert narrow is not None
    assert abs(wide.deviation - narrow.deviation) < 1.0
    # The case of `db_pool`: on a noisy host, 112.5 ms is within the interval without any fault.
    assert wide.median + prediction_interval_width(wide, Z, 6.0) > 112.5
    assert narrow.median + prediction_interval_width(narrow, Z, 6.0) < 92.37


def test_next_poll_of_an_unchanged_service_is_within_the_interval() -> None:
    rng = random.Random(7)
    beyond = 0
    for _ in range(2_000):
        baseline = Baseline()
        for number in range(8):
            baseline.learn(Snapshot(number, numbers={P95: rng.gauss(50.0, 10.0)}))
        usual = baseline.usual(P95)
        assert usual is not None
        beyond += rng.gauss(50.0, 10.0) > usual.median + prediction_interval_width(usual, Z, 1.0)
    assert beyond <= 20


@given(st.floats(1, 1e4), st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_recovery_bound_requires_most_of_the_excess_latency_to_be_gone(
    narrow: float, wide: float, before: float | None
) -> None:
    found = recovery_bound(narrow, wide, before)
    assert found >= narrow
    if before is not None and before > narrow:
        assert found - narrow <= 0.25 * (before - narrow) + 1e-6


@pytest.mark.parametrize(
    ("narrow", "wide", "before", "bound"),
    [
        (100.0, 300.0, 500.0, 200.0),
        (100.0, 150.0, 500.0, 150.0),
        (100.0, 300.0, 100.0, 300.0),
        (100.0, 300.0, 40.0, 300.0),
        (100.0, 300.0, None, 300.0),
        (100.0, 60.0, None, 100.0),
    ],
)
def test_recovery_bound_allows_a_quarter_of_the_excess_latency(
    narrow: float, wide: float, before: float | None, bound: float
) -> None:
    assert recovery_bound(narrow, wide, before) == bound
