"""Arrival times of requests: exact at a constant rate, reproducible by seed, and Poisson-distributed if random."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relab.load.arrivals import NS_PER_S, arrival_offsets_ns, duration_ns
from relab.load.models import Arrivals, Stage

DECIMALS = st.decimals(min_value="0.01", max_value="400", places=2).map(float)
DURATIONS = st.decimals(min_value="0.05", max_value="3", places=2).map(float)
STEPS = st.builds(Stage, duration_s=DURATIONS, rate_per_s=st.one_of(st.just(0.0), DECIMALS))
RAMPS = st.builds(Stage, duration_s=DURATIONS, rate_per_s=DECIMALS, to_rate_per_s=st.one_of(st.just(0.0), DECIMALS))
STAGES = st.lists(st.one_of(STEPS, RAMPS), min_size=1, max_size=4).filter(
    lambda stages: any(stage.rate_per_s or stage.to_rate_per_s for stage in stages)
)


def exactly(value: float) -> Fraction:
    return Fraction(str(value))


def area_until(stages: list[Stage], t_s: Fraction) -> Fraction:
    """Return the integral of the rate up to a time: the number of requests that should be due by then."""
    total = Fraction(0)
    for stage in stages:
        length = exactly(stage.duration_s)
        inside = min(max(t_s, Fraction(0)), length)
        first = exactly(stage.rate_per_s)
        last = first if stage.to_rate_per_s is None else exactly(stage.to_rate_per_s)
        total += first * inside + (last - first) * inside * inside / (2 * length)
        t_s -= length
    return total


@given(rate=DECIMALS, duration=DURATIONS)
def test_constant_arrivals_are_evenly_spaced_to_the_nanosecond(rate: float, duration: float) -> None:
    stages = [Stage(duration_s=duration, rate_per_s=rate)]

    due = list(arrival_offsets_ns(stages, Arrivals.CONSTANT, 0))

    assert len(due) == math.ceil(exactly(rate) * exactly(duration))
    assert due == [math.floor(number * NS_PER_S / exactly(rate)) for number in range(len(due))]


@given(stages=STAGES)
def test_constant_arrivals_of_any_stages_follow_the_integral_of_the_rate(stages: list[Stage]) -> None:
    due = list(arrival_offsets_ns(stages, Arrivals.CONSTANT, 0))

    assert due == sorted(due)
    assert len(due) == math.ceil(area_until(stages, Fraction(duration_ns(stages), NS_PER_S)))
    for number, at_ns in enumerate(due):
        # A request is due when the integral reaches its number; times are cut to whole ns, ramps to double precision.
        near = (
            area_until(stages, Fraction(at_ns - 2_000, NS_PER_S)),
            area_until(stages, Fraction(at_ns + 2_000, NS_PER_S)),
        )
        assert near[0] - Fraction(1, 10**6) <= number <= near[1] + Fraction(1, 10**6)


@given(stages=STAGES, seed=st.integers(min_value=0, max_value=2**63))
def test_poisson_arrivals_are_the_same_for_a_seed_and_lie_within_the_load(stages: list[Stage], seed: int) -> None:
    due = list(arrival_offsets_ns(stages, Arrivals.POISSON, seed))

    assert due == list(arrival_offsets_ns(stages, Arrivals.POISSON, seed))
    assert due == sorted(due)
    assert all(0 <= at_ns < duration_ns(stages) for at_ns in due)


@pytest.mark.parametrize("arrivals", list(Arrivals))
def test_last_request_is_due_before_the_end_despite_floating_point_durations(arrivals: Arrivals) -> None:
    stages = [Stage(duration_s=0.1 + 0.2, rate_per_s=10)]

    due = list(arrival_offsets_ns(stages, arrivals, 1))
    assert due
    assert due[-1] < duration_ns(stages)


def test_nothing_is_due_while_the_rate_is_zero() -> None:
    stages = [Stage(duration_s=1, rate_per_s=5), Stage(duration_s=1, rate_per_s=0), Stage(duration_s=1, rate_per_s=5)]

    for arrivals in Arrivals:
        due = list(arrival_offsets_ns(stages, arrivals, 7))
        assert due
        assert not [at_ns for at_ns in due if NS_PER_S <= at_ns < 2 * NS_PER_S]


@pytest.mark.parametrize("seed", range(5))
def test_poisson_counts_have_the_mean_and_the_dispersion_of_a_poisson_process(seed: int) -> None:
    stages, seconds, rate = [Stage(duration_s=400, rate_per_s=50)], 400, 50
    due = list(arrival_offsets_ns(stages, Arrivals.POISSON, seed))
    counts = [0] * seconds
    for at_ns in due:
        counts[at_ns // NS_PER_S] += 1

    # Exact: the number is Poisson with the mean 20,000.
    assert stats.poisson.ppf(1e-6, seconds * rate) <= len(due) <= stats.poisson.isf(1e-6, seconds * rate)
    # Given their number, arrivals are uniform; the index of dispersion of the counts follows chi-squared.
    mean = len(due) / seconds
    dispersion = sum((count - mean) ** 2 for count in counts) / mean
    assert stats.chi2.ppf(1e-6, seconds - 1) <= dispersion <= stats.chi2.isf(1e-6, seconds - 1)
    gaps_s = [(later - earlier) / NS_PER_S for earlier, later in itertools.pairwise(due)]
    assert stats.kstest(gaps_s, "expon", args=(0, 1 / rate)).pvalue > 1e-6


def test_poisson_arrivals_of_a_ramp_follow_its_rate() -> None:
    stages = [Stage(duration_s=200, rate_per_s=0, to_rate_per_s=200)]
    due = list(arrival_offsets_ns(stages, Arrivals.POISSON, 11))

    # The share of arrivals before t is (t / T)², whatever their number.
    shares = [(at_ns / NS_PER_S / 200) ** 2 for at_ns in due]
    assert stats.kstest(shares, "uniform").pvalue > 1e-6
    assert stats.poisson.ppf(1e-6, 20_000) <= len(due) <= stats.poisson.isf(1e-6, 20_000)


def test_seeds_give_different_arrivals_and_a_long_load_is_generated_lazily() -> None:
    stages = [Stage(duration_s=30 * 86_400, rate_per_s=1_000_000)]

    first = list(itertools.islice(arrival_offsets_ns(stages, Arrivals.POISSON, 1), 1_000))
    assert first != list(itertools.islice(arrival_offsets_ns(stages, Arrivals.POISSON, 2), 1_000))
    constant = list(itertools.islice(arrival_offsets_ns(stages, Arrivals.CONSTANT, 1), 4))
    assert constant == [0, 1_000, 2_000, 3_000]
