"""Paired differences: p-values and intervals match published data, exhaustive counts and simulated coverage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize, stats

from relab.stats.multiplicity import holm
from relab.stats.paired import FEW_CLUSTERS, Clusters, cluster, interval_of, mcnemar_exact, paired_delta
from support.telemetry.runs import examples

# Darwin's 15 pairs of maize, eighths of an inch, crossed less self-fertilised; Fisher 1935, section 17.
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
DELTAS = st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=14)
GROUPED = st.lists(st.tuples(st.integers(-9, 9).map(float), st.integers(0, 5)), min_size=2, max_size=14)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def test_darwins_maize_has_the_p_value_that_fisher_published() -> None:
    found = paired_delta(MAIZE)

    # Fisher: in 863 of 2^15 ways the sum is 314 or more, and in as many -314 or less.
    assert found.test.p_value == 2 * 863 / 2**15
    assert found.test.name == "sign-flip permutation (exact)"
    assert found.estimate == 314 / 15
    assert found.pairs == 15
    assert found.clusters == 15
    assert found.standard_error == pytest.approx(9.746, abs=1e-3)
    low, high = stats.t.interval(0.95, 14, loc=np.mean(MAIZE), scale=stats.sem(MAIZE))
    assert found.interval.low <= low
    assert high <= found.interval.high


def test_clustered_standard_error_matches_a_calculation_by_hand() -> None:
    # Mean 4; the sums of the groups deviate by -4 and 4 from those of the mean: sqrt(2 / 1 * 32) / 4.
    found = paired_delta([1.0, 3.0, 5.0, 7.0], ["a", "a", "b", "b"])
    assert found.standard_error == 2.0
    assert found.pairs == 4
    assert found.clusters == 2

    # Sizes 1 and 3, mean 3; the sums deviate by -2 and 2: sqrt(2 / 1 * 8) / 4.
    assert cluster([1.0, 2.0, 4.0, 5.0], ["a", "b", "b", "b"]).standard_error == pytest.approx(1.0)


@given(pairs=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=9))
@examples(40)
def test_clusters_of_equal_size_count_as_their_means(pairs: list[tuple[int, int]]) -> None:
    means = [(a + b) / 2 for a, b in pairs]
    deltas = [float(delta) for pair in pairs for delta in pair]
    groups = [number for number in range(len(pairs)) for _ in range(2)]

    assert cluster(deltas, groups).standard_error == pytest.approx(np.std(means, ddof=1) / math.sqrt(len(means)))


# --- tests of significance ----------------------------------------------------------------------------------------


@given(sums=st.lists(st.integers(-6, 6), min_size=2, max_size=8))
@examples(40)
def test_exact_p_value_counts_every_pattern_of_signs(sums: list[int]) -> None:
    assume(any(abs(total) > 1 for total in sums))
    groups = [number for number in range(len(sums)) for _ in range(2)]
    found = paired_delta([total / 2 for total in sums for _ in range(2)], groups, seed=1)

    seen = abs(sum(sums))
    extreme = sum(
        abs(sum(sign * total for sign, total in zip(signs, sums, strict=True))) >= seen
        for signs in product((1, -1), repeat=len(sums))
    )
    assert found.test.p_value == extreme / 2 ** len(sums)


def test_p_value_of_drawn_signs_is_close_to_the_exact_one() -> None:
    sums = [3, -1, 4, 1, -5, 9, 2, 6, 5, -3, 5, 8, 9, -7, 9, -3, 2, 3, 8, -4]
    ways = Counter({0: 1})
    for size in sums:
        ways = Counter({at: ways[at - size] + ways[at + size] for total in ways for at in (total - size, total + size)})
    exact = sum(count for total, count in ways.items() if abs(total) >= abs(sum(sums))) / 2 ** len(sums)
    found = paired_delta(sums).test

    assert found.name == "sign-flip permutation (4,999 draws)"
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert paired_delta([10.0 + value for value in sums]).test.p_value == pytest.approx(1 / 5_000)


def test_sums_that_are_equal_but_for_rounding_count_as_equal() -> None:
    deltas = [0.1, 0.2, 0.3, -0.3, -0.2]
    tenths = [1.0, 2.0, 3.0, -3.0, -2.0]

    assert paired_delta(deltas).test.p_value == paired_delta(tenths).test.p_value


@given(gained=st.integers(0, 40), lost=st.integers(0, 40))
@examples(60)
def test_mcnemar_equals_a_count_of_all_outcomes(gained: int, lost: int) -> None:
    total, fewer = gained + lost, min(gained, lost)
    expected = min(1.0, 2 * sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total)

    assert mcnemar_exact(gained, lost).p_value == pytest.approx(expected)
    assert mcnemar_exact(lost, gained).p_value == pytest.approx(expected)
    assert mcnemar_exact(gained, lost).statistic == gained - lost


def test_one_replication_is_judged_by_mcnemar_for_any_number_of_tasks() -> None:
    for ties in (0, 1_000):
        found = paired_delta([1.0] * 8 + [-1.0] + [0.0] * ties, bounds=(-1, 1)).test
        assert found.name == "McNemar (exact)"
        assert found.p_value == pytest.approx(20 / 512)
    with pytest.raises(ValueError, match="-1 and 2"):
        mcnemar_exact(-1, 2)


def test_many_differences_are_judged_by_student() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, FEW_CLUSTERS)
    expected = stats.ttest_1samp(values, 0)
    found = paired_delta(values.tolist())

    assert found.test.name == "Student t (clustered)"
    assert found.test.p_value == pytest.approx(expected.pvalue)
    assert found.test.statistic == pytest.approx(expected.statistic)


def test_false_positive_rate_stays_within_the_level_also_in_a_family_of_three() -> None:
    # All patterns of signs are equally likely under a null hypothesis of symmetry.
    sizes = (2.0, 3.0, 3.0, 5.0, 8.0, 9.0, 4.0)
    p_values = [
        paired_delta([sign * size for sign, size in zip(signs, sizes, strict=True)]).test.p_value
        for signs in product((1, -1), repeat=len(sizes))
    ]
    for level in sorted(set(p_values)):
        assert np.mean([p <= level for p in p_values]) <= level

    random = np.random.default_rng(4)
    families = random.choice(p_values, size=(4_000, 3))
    assert np.mean([min(holm(family)) <= 0.1 for family in families.tolist()]) <= 0.1


# --- intervals ----------------------------------------------------------------------------------------------------


def test_interval_is_the_wider_of_the_bootstrap_and_student_at_each_end() -> None:
    # With this skewness the upper end is that of the bootstrap, and the lower end is that of Student's t.
    values = np.random.default_rng(8).lognormal(0, 1, 40)
    level = 1 - 2 * stats.norm.cdf(-stats.t.isf(0.025, 39) * math.sqrt(40 / 39))
    direct = stats.bootstrap((values,), np.mean, confidence_level=level, n_resamples=20_000, rng=1).confidence_interval
    found = interval_of(cluster(values.tolist()))
    error = stats.sem(values)

    assert found.high == pytest.approx(direct.high, abs=0.2 * error)
    assert found.low == pytest.approx(values.mean() - stats.t.isf(0.025, 39) * error)
    assert found.method == "Student t (clustered) or BCa bootstrap (4,999 draws), the wider"


def test_halls_correction_solves_its_cubic_equation() -> None:
    # Hall 1992: T + g T^2 / 3 + g^2 T^3 / 27 + g / 6 is normal, with g the skewness over the root of n.
    values = np.random.default_rng(9).lognormal(0, 1, 400)
    found = interval_of(cluster(values.tolist()))
    skewness = float(stats.skew(values)) / math.sqrt(400)

    def beyond(t: float) -> float:
        return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6 - stats.t.ppf(0.025, 399)

    t = optimize.brentq(beyond, -20, 0)
    assert found.high == pytest.approx(values.mean() - t * stats.sem(values))
    assert found.method == "Student t (clustered) or Hall's (skewness), the wider"


def test_many_symmetrical_differences_have_students_interval() -> None:
    half = np.random.default_rng(7).normal(size=200).tolist()
    found = interval_of(cluster([*half, *(-value for value in half)]))

    low, high = stats.t.interval(0.95, 399, loc=0.0, scale=stats.sem([*half, *(-value for value in half)]))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_few_evenly_spread_differences_have_students_interval() -> None:
    # The bootstrap is widened for few clusters just so far that it does not exceed Student's interval here.
    values = stats.norm.ppf((np.arange(6) + 0.5) / 6)
    found = interval_of(cluster(values.tolist()), resamples=20_000)

    low, high = stats.t.interval(0.95, 5, loc=0.0, scale=stats.sem(values))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


@given(pairs=GROUPED, level=st.sampled_from([0.5, 0.8, 0.95, 0.999]), clip=st.booleans())
@examples(40)
def test_estimate_lies_in_its_interval_and_the_interval_within_the_bounds(
    pairs: list[tuple[float, int]], level: float, clip: bool
) -> None:
    bounds = (-9.0, 9.0) if clip else None
    clusters = cluster([delta for delta, _ in pairs], [group for _, group in pairs])
    found = interval_of(clusters, level=level, bounds=bounds, resamples=499)

    assert found.low <= clusters.mean <= found.high
    if clip:
        assert found.low >= -9
        assert found.high <= 9


@given(deltas=DELTAS)
@examples(30)
def test_a_higher_level_is_never_narrower(deltas: list[float]) -> None:
    clusters = cluster(deltas)
    found = [interval_of(clusters, level=level, resamples=499) for level in (0.5, 0.8, 0.9, 0.95, 0.99)]

    assert [interval.low for interval in found] == sorted((interval.low for interval in found), reverse=True)
    assert [interval.high for interval in found] == sorted(interval.high for interval in found)


@given(deltas=DELTAS, scale=st.sampled_from([3.7, 1e-30, 1e30]))
@examples(25)
def test_results_scale_with_the_unit(deltas: list[float], scale: float) -> None:
    # Differences of only -1, 0 and 1 count as tasks won and lost, so they cannot be scaled.
    assume(any(abs(delta) > 1 for delta in deltas))
    found, scaled = paired_delta(deltas), paired_delta([scale * delta for delta in deltas])

    assert (scaled.estimate, scaled.standard_error) == pytest.approx(
        (scale * found.estimate, scale * found.standard_error), rel=1e-9, abs=scale * 1e-9
    )
    assert (scaled.interval.low, scaled.interval.high) == pytest.approx(
        (scale * found.interval.low, scale * found.interval.high), rel=1e-6, abs=scale * 1e-6
    )
    assert scaled.test.p_value == found.test.p_value


@given(pairs=GROUPED, random=st.randoms(use_true_random=False))
@examples(30)
def test_the_order_of_the_data_does_not_matter(pairs: list[tuple[float, int]], random: Random) -> None:
    shuffled = pairs.copy()
    random.shuffle(shuffled)
    found, other = (
        paired_delta([delta for delta, _ in data], [group for _, group in data]) for data in (pairs, shuffled)
    )

    assert (other.estimate, other.interval.low, other.interval.high) == pytest.approx(
        (found.estimate, found.interval.low, found.interval.high), abs=1e-9
    )
    assert other.test.p_value == found.test.p_value
    assert other.clusters == found.clusters


@given(deltas=DELTAS)
@examples(30)
def test_swapped_baseline_and_variant_mirror_the_result(deltas: list[float]) -> None:
    clusters = cluster(deltas)
    # Without skewness the random draws make the two ends slightly different.
    assume(abs(float((clusters.spread**3).sum())) > 1e-6)
    found, mirrored = paired_delta(deltas), paired_delta([-delta for delta in deltas])

    assert mirrored.estimate == -found.estimate
    assert (mirrored.interval.low, mirrored.interval.high) == pytest.approx(
        (-found.interval.high, -found.interval.low), abs=1e-9
    )
    assert mirrored.test.p_value == found.test.p_value


def test_same_seed_gives_the_same_figures_even_if_negative() -> None:
    values = np.random.default_rng(1).lognormal(0, 1, 30).tolist()

    assert paired_delta(values, seed=-3) == paired_delta(values, seed=-3)
    assert paired_delta(values, seed=-3).interval != paired_delta(values, seed=4).interval


def _normal(random: np.random.Generator, count: int) -> np.ndarray:
    return random.normal(size=count)


def _losses(random: np.random.Generator, count: int) -> np.ndarray:
    return np.where(random.random(count) < 0.05, -1.0, 0.0) + 0.05


# The nominal level is 2.5 % a side; 300 runs estimate it to within 1.8 points. BCa alone misses the mean of 3 normal
# clusters in 13 % of cases a side, and Student's interval alone lies above the mean of 80 rare losses in 10 %.
@pytest.mark.parametrize(
    ("draw", "count"),
    [(_normal, 3), (_normal, 6), (_normal, 15), (_losses, 20), (_losses, 80), (_losses, 320)],
)
def test_each_end_of_the_interval_keeps_its_level(draw: Draw, count: int) -> None:
    random = np.random.default_rng(count)
    runs = 300
    below = above = 0
    for run in range(runs):
        sample = Clusters(draw(random, count), np.ones(count))
        found = interval_of(sample, bounds=(-1 + 0.05, 1 + 0.05) if draw is _losses else None, seed=run, resamples=499)
        below += found.high < 0
        above += found.low > 0

    assert below / runs <= 0.05
    assert above / runs <= 0.05


def test_clustered_interval_keeps_the_level_that_an_unclustered_one_exceeds() -> None:
    random = np.random.default_rng(6)
    groups = np.repeat(np.arange(8), 5)
    alone = together = 0
    for run in range(150):
        deltas = (random.normal(size=8)[groups] + 0.3 * random.normal(size=40)).tolist()
        for is_grouped in (False, True):
            found = interval_of(cluster(deltas, groups.tolist() if is_grouped else None), seed=run, resamples=499)
            missed = not found.low <= 0 <= found.high
            together += missed and is_grouped
            alone += missed and not is_grouped

    assert together / 150 <= 0.1
    assert alone / 150 > 0.3
