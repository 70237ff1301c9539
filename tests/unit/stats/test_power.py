"""Power and the minimum detectable effect: they match published values, other calculations and simulated tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relab.stats.power import count_needed, minimum_detectable_effect, pass_chance, power_of, success_delta_sd
from support.telemetry.runs import examples

ALPHAS = st.sampled_from([0.2, 0.05, 0.01, 0.05 / 20])


# G*Power 3.1 and R's pwr.t.test, paired, two-sided, level 5 %: the fewest pairs for a power of 80 %.
@pytest.mark.parametrize(("effect", "pairs", "power"), [(0.5, 34, 0.8077775), (0.8, 15, 0.8213105), (0.2, 199, 0.8017)])
def test_pairs_needed_match_published_values(effect: float, pairs: int, power: float) -> None:
    assert power_of(effect, 1.0, pairs) == pytest.approx(power, abs=1e-4)
    assert power_of(effect, 1.0, pairs - 1) < 0.8
    at, before = minimum_detectable_effect(1.0, pairs), minimum_detectable_effect(1.0, pairs - 1)
    assert at is not None
    assert before is not None
    assert at < effect < before


@pytest.mark.parametrize("count", [3, 12, 60, 2_000])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0, 3.0])
def test_power_equals_that_of_the_noncentral_t(count: int, shift: float) -> None:
    critical = stats.t.isf(0.025, count - 1)
    expected = stats.nct.sf(critical, count - 1, shift) + stats.nct.cdf(-critical, count - 1, shift)

    assert power_of(shift / math.sqrt(count), 1.0, count) == pytest.approx(expected, abs=1e-8)
    # A gate passes only on one side.
    passed = stats.nct.sf(critical, count - 1, shift)
    assert pass_chance(shift / math.sqrt(count), 1.0, count) == pytest.approx(passed, abs=1e-8)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 20, 0.05 / 200])
def test_power_of_two_differences_matches_a_numerical_integral(alpha: float) -> None:
    # With one degree of freedom T is (Z + shift) / |W|, and the critical value the cotangent of a share of the circle.
    critical = 1 / math.tan(math.pi * alpha / 2)
    shift = 1.3 * critical
    grid = np.linspace(-9, 9, 200_001)
    noticed = 2 * stats.norm.cdf(abs(grid + shift) / critical) - 1
    expected = np.trapezoid(stats.norm.pdf(grid) * noticed, grid)

    assert power_of(shift / math.sqrt(2), 1.0, 2, alpha=alpha) == pytest.approx(expected, abs=1e-6)
    passed = np.trapezoid(stats.norm.pdf(grid) * noticed * (grid + shift > 0), grid)
    assert pass_chance(shift / math.sqrt(2), 1.0, 2, alpha=alpha) == pytest.approx(passed, abs=1e-6)


def test_simulated_t_test_has_the_computed_power() -> None:
    random = np.random.default_rng(11)
    effect = minimum_detectable_effect(2.0, 9)
    assert effect is not None
    p_values = stats.ttest_1samp(random.normal(effect, 2.0, size=(20_000, 9)), 0, axis=1).pvalue

    assert np.mean(p_values < 0.05) == pytest.approx(0.8, abs=0.01)


@given(count=st.integers(2, 5_000), alpha=ALPHAS, power=st.floats(0.3, 0.99), sd=st.sampled_from([1e-9, 0.3, 1e12]))
@examples(60)
def test_minimum_detectable_effect_has_the_requested_power(count: int, alpha: float, power: float, sd: float) -> None:
    effect = minimum_detectable_effect(sd, count, alpha=alpha, power=power)

    assert effect is not None
    assert power_of(effect, sd, count, alpha=alpha) == pytest.approx(power, abs=1e-6)
    assert power_of(-effect, sd, count, alpha=alpha) == pytest.approx(power, abs=1e-6)


@given(count=st.integers(2, 300), alpha=ALPHAS, shift=st.floats(0, 60))
@examples(60)
def test_power_grows_with_the_effect_from_alpha_to_one(count: int, alpha: float, shift: float) -> None:
    effect = shift / math.sqrt(count)

    assert power_of(0, 1.0, count, alpha=alpha) == pytest.approx(alpha, rel=1e-6)
    assert alpha - 1e-9 <= power_of(effect, 1.0, count, alpha=alpha) <= 1
    assert power_of(effect, 1.0, count, alpha=alpha) <= power_of(effect * 1.1, 1.0, count, alpha=alpha) + 1e-9


def test_more_differences_show_smaller_effects() -> None:
    found = [minimum_detectable_effect(1.0, count) for count in (2, 3, 4, 10, 100, 10**4, 10**7)]

    assert found == sorted(found, key=lambda effect: -(effect or 0))
    # For many differences the t test equals a normal test: (1.960 + 0.842) / sqrt(n).
    assert found[-1] == pytest.approx(2.80159 / math.sqrt(10**7), rel=1e-4)


def test_one_difference_has_no_power_and_no_detectable_effect() -> None:
    assert minimum_detectable_effect(1.0, 1) is None
    assert power_of(5.0, 1.0, 1) == 0


def test_any_effect_is_detectable_without_variance() -> None:
    assert minimum_detectable_effect(0.0, 5) == 0
    assert power_of(1e-12, 0.0, 5) == 1
    assert power_of(0.0, 0.0, 5) == 0.05
    assert power_of(1e300, 1e-300, 5) == 1


@pytest.mark.parametrize(
    ("effect", "sd", "alpha"),
    [
        (1, -1, 0.05),
        (1, math.nan, 0.05),
        (1, math.inf, 0.05),
        (math.nan, 1, 0.05),
        (math.inf, 1, 0.05),
        (1, 1, 0),
        (1, 1, 1),
    ],
)
def test_invalid_effect_deviation_or_alpha_is_rejected(effect: float, sd: float, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"finite|alpha"):
        power_of(effect, sd, 10, alpha=alpha)


@pytest.mark.parametrize("power", [0.05, 0.0, 1.0, 80, math.nan])
def test_unreachable_power_is_rejected(power: float) -> None:
    with pytest.raises(ValueError, match="power"):
        minimum_detectable_effect(1.0, 10, power=power)


def test_deviation_of_success_matches_simulated_trials() -> None:
    random = np.random.default_rng(3)
    # Half of the tasks have a success rate of 0.8, half 0.2: 0.09 of the variance of 0.25 lies between tasks.
    rates = random.choice([0.2, 0.8], size=200_000)
    deltas = (random.binomial(4, rates) - random.binomial(4, rates)) / 4

    assert success_delta_sd(0.5, 4, task_share=0.36) == pytest.approx(deltas.std(), rel=0.01)


def test_deviation_of_success_at_extreme_rates_and_shares() -> None:
    assert success_delta_sd(0.5, 1) == pytest.approx(math.sqrt(0.5))
    assert success_delta_sd(0.5, 1, task_share=1.0) == 0
    assert success_delta_sd(1.0, 3) == success_delta_sd(0.0, 3) == 0


@pytest.mark.parametrize(
    ("rate", "replications", "share"), [(-0.1, 1, 0), (1.1, 1, 0), (math.nan, 1, 0), (0.5, 0, 0), (0.5, 1, 1.5)]
)
def test_impossible_rate_replications_or_share_is_rejected(rate: float, replications: int, share: float) -> None:
    with pytest.raises(ValueError, match=r"lie between|one replication"):
        success_delta_sd(rate, replications, task_share=share)


@pytest.mark.parametrize(
    ("distance", "sd", "alpha"), [(0.02, 0.3, 0.05), (0.5, 1.0, 0.01), (-0.1, 0.4, 0.05), (3.0, 1.0, 0.05)]
)
def test_needed_count_of_differences_passes_with_the_requested_probability(
    distance: float, sd: float, alpha: float
) -> None:
    count = count_needed(distance, sd**2, alpha=alpha)

    assert count is not None
    assert pass_chance(abs(distance), sd, count, alpha=alpha) == pytest.approx(0.8, abs=0.02) or count <= 6
    assert pass_chance(abs(distance), sd, count, alpha=alpha) >= 0.78
    assert pass_chance(-abs(distance), sd, count, alpha=alpha) < alpha / 2


def test_true_difference_on_the_bound_passes_with_half_of_alpha_for_any_count() -> None:
    assert pass_chance(0.0, 1.0, 30) == pytest.approx(0.025, abs=1e-6)
    assert count_needed(0.0, 1.0) is None
    assert count_needed(1e-9, 1.0) is None
    assert pass_chance(1.0, 1.0, 1) == 0.0
    assert pass_chance(0.1, 0.0, 5) == 1.0
    assert pass_chance(-0.1, 0.0, 5) == 0.0
    with pytest.raises(ValueError, match="finite"):
        pass_chance(float("nan"), 1.0, 5)


def test_extreme_distances_have_a_sample_size_or_none() -> None:
    assert count_needed(1e-170, 1.0) is None
    assert count_needed(1e200, 1.0) == 2
