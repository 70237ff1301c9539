"""The Harrell-Davis quantile of counted values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mstats

from relab.stats.quantiles import harrell_davis


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.sampled_from([0.05, 0.5, 0.95]))
def test_counted_values_give_the_same_as_the_list_of_values(values: list[int], share: float) -> None:
    distinct, counts = np.unique(np.array(values, dtype=np.float64), return_counts=True)

    found = harrell_davis(distinct, counts, share)

    assert found == pytest.approx(float(mstats.hdquantiles(np.array(values, dtype=float), prob=[share])[0]), abs=1e-6)


def test_one_value_is_its_own_quantile() -> None:
    assert harrell_davis(np.array([7.0]), np.array([1]), 0.95) == pytest.approx(7)


@pytest.mark.parametrize(("counts", "share"), [([0], 0.5), ([-1], 0.5), ([1], 0.0), ([1], 1.0)])
def test_impossible_arguments_are_rejected(counts: list[int], share: float) -> None:
    with pytest.raises(ValueError, match="a quantile between 0 and 1"):
        harrell_davis(np.array([1.0]), np.array(counts), share)
