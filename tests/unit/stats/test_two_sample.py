"""Two-sample tests: they match published values and calculations by hand, and keep their invariants."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.stats.two_sample import fisher_exact, hodges_lehmann_shift, mann_whitney
from support.telemetry.runs import examples

SAMPLES = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=12)


def test_fisher_exact_matches_the_lady_tasting_tea() -> None:
    # Fisher 1935: all four of eight cups are identified by chance with probability 1 in 70.
    result = fisher_exact(4, 4, 0, 4, alternative="greater")
    assert result.p_value == pytest.approx(1 / 70)
    assert fisher_exact(3, 4, 1, 4, alternative="greater").p_value == pytest.approx(17 / 70)
    assert fisher_exact(3, 4, 1, 4).p_value == pytest.approx(34 / 70)
    assert result.name == "Fisher exact (one-sided)"


@given(a=st.tuples(st.integers(0, 10), st.integers(1, 10)), b=st.tuples(st.integers(0, 10), st.integers(1, 10)))
@examples(60)
def test_fisher_is_symmetric_and_agrees_with_counting(a: tuple[int, int], b: tuple[int, int]) -> None:
    (hits_a, total_a), (hits_b, total_b) = (min(a), a[1]), (min(b), b[1])
    p = fisher_exact(hits_a, total_a, hits_b, total_b, alternative="greater").p_value
    hits, total = hits_a + hits_b, total_a + total_b
    ways = sum(
        math.comb(total_a, k) * math.comb(total_b, hits - k)
        for k in range(hits_a, min(total_a, hits) + 1)
        if hits - k <= total_b
    )
    assert p == pytest.approx(ways / math.comb(total, hits))
    two_sided = fisher_exact(hits_a, total_a, hits_b, total_b).p_value
    assert two_sided == pytest.approx(fisher_exact(hits_b, total_b, hits_a, total_a).p_value)


@pytest.mark.parametrize("counts", [(-1, 3, 0, 3), (4, 3, 0, 3), (0, 3, 5, 4)])
def test_fisher_rejects_impossible_counts(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="hits must lie between"):
        fisher_exact(*counts)


def test_mann_whitney_p_value_of_separated_samples_counts_their_arrangements() -> None:
    # Two samples of three that don't overlap: 2 of C(6, 3) = 20 arrangements are as extreme.
    result = mann_whitney([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    assert result.p_value == pytest.approx(0.1)
    assert result.statistic == 9
    assert mann_whitney([4.0, 5.0, 6.0], [1.0, 2.0, 3.0], alternative="greater").p_value == pytest.approx(0.05)


def test_mann_whitney_of_equal_values_has_a_p_value_of_one() -> None:
    found = mann_whitney([2.0] * 5, [2.0] * 7)

    assert found.p_value == 1.0
    # A pair of equal values counts as half.
    assert found.statistic == 5 * 7 / 2


@given(a=SAMPLES, b=SAMPLES)
@examples(60)
def test_mann_whitney_does_not_depend_on_the_order_of_samples(a: list[float], b: list[float]) -> None:
    assert mann_whitney(a, b).p_value == pytest.approx(mann_whitney(b, a).p_value)


def test_hodges_lehmann_is_the_median_difference() -> None:
    assert hodges_lehmann_shift([5.0, 7.0, 9.0], [1.0, 2.0]) == 5.5
    assert hodges_lehmann_shift([3.0], [3.0]) == 0


@given(a=SAMPLES, b=SAMPLES, shift=st.integers(-9, 9))
@examples(60)
def test_hodges_lehmann_follows_a_shift(a: list[float], b: list[float], shift: int) -> None:
    moved = hodges_lehmann_shift([value + shift for value in a], b)
    assert moved == pytest.approx(hodges_lehmann_shift(a, b) + shift)
    assert hodges_lehmann_shift(b, a) == pytest.approx(-hodges_lehmann_shift(a, b))


@pytest.mark.parametrize(("a", "b"), [([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf])])
def test_unusable_samples_are_rejected(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        mann_whitney(a, b)
    with pytest.raises(ValueError, match="sample"):
        hodges_lehmann_shift(a, b)


def test_too_many_pairs_are_rejected() -> None:
    with pytest.raises(ValueError, match="pairs"):
        hodges_lehmann_shift([1.0] * 3_000, [1.0] * 3_000)


def test_import_of_the_analysis_does_not_import_scipy() -> None:
    code = "import sys, relab.rca.analyzer; sys.exit(any(m in sys.modules for m in ('scipy', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
