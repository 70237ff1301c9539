"""Holm's correction of p-values: a worked example, its bounds, and the order of the values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.stats.multiplicity import holm
from support.telemetry.runs import examples

P_VALUES = st.lists(st.floats(0, 1), max_size=12)


def test_adjusted_values_match_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@given(p_values=P_VALUES)
@examples(100)
def test_adjusted_values_lie_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert len(adjusted) == len(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= max(p for p in adjusted) <= 1
    if p_values:
        assert min(adjusted) == min(1.0, min(p_values) * len(p_values))


@given(p_values=P_VALUES)
@examples(100)
def test_order_of_p_values_is_kept(p_values: list[float]) -> None:
    pairs = sorted(zip(p_values, holm(p_values), strict=True))
    assert [value for _, value in pairs] == sorted(value for _, value in pairs)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_values_that_are_not_probabilities_are_rejected(p: float) -> None:
    with pytest.raises(ValueError, match=f"{p}"):
        holm([0.5, p])
