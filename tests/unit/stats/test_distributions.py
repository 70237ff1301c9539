"""Distribution functions equal those of scipy.stats, which the product does not import because it loads slowly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relab.stats.distributions import beta_quantile, fair_coin_two_sided, t_quantile, t_two_sided

levels = st.floats(1e-6, 1 - 1e-6)


@given(levels, st.floats(1, 1e6))
def test_t_quantiles_equal_those_of_scipy(level: float, freedom: float) -> None:
    assert t_quantile(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=1e-9, abs=1e-9)


@given(st.floats(-40, 40), st.floats(1, 1e6))
def test_t_tails_equal_those_of_scipy(t: float, freedom: float) -> None:
    assert t_two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)


@given(levels, st.integers(1, 2_000), st.integers(1, 2_000))
def test_beta_quantiles_equal_those_of_scipy(level: float, a: int, b: int) -> None:
    assert beta_quantile(level, a, b) == pytest.approx(stats.beta.ppf(level, a, b), rel=1e-9)


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_p_value_of_a_fair_coin_equals_that_of_scipy(heads: int, tails: int) -> None:
    expected = stats.binomtest(heads, heads + tails).pvalue if heads + tails else 1.0
    assert fair_coin_two_sided(heads, heads + tails) == pytest.approx(min(1.0, expected), rel=1e-9)
