"""The BCa bootstrap interval of a mean equals that of scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from relab.stats.bootstrap import bca_of_mean

DRAWN: dict[str, Callable[[np.random.Generator], Any]] = {
    "normal": lambda random: random.normal(size=24),
    "skewed": lambda random: random.exponential(size=250),
    "with ties": lambda random: random.integers(-1, 2, 12).astype(float),
    "two": lambda random: random.permutation([0.0, 1.0]),
}


def ratio(sums: Any, sizes: Any, axis: int = -1) -> Any:
    return np.round(sums.sum(axis=axis) / sizes.sum(axis=axis), 12)


@pytest.mark.parametrize("sizes", ["of one", "unequal"])
@pytest.mark.parametrize("name", DRAWN)
def test_interval_equals_that_of_scipy(name: str, sizes: str) -> None:
    random = np.random.default_rng(5)
    sums = DRAWN[name](random)
    given = np.ones_like(sums) if sizes == "of one" else random.integers(1, 5, sums.size).astype(float)

    for outside, resamples in ((0.05, 999), (0.003, 4_999)):
        found = bca_of_mean(sums, given, outside=outside, resamples=resamples, random=np.random.default_rng(1))
        wanted = stats.bootstrap(
            (sums, given),
            ratio,
            paired=True,
            vectorized=True,
            confidence_level=1 - outside,
            n_resamples=resamples,
            batch=1_000,
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert found == pytest.approx((wanted.low, wanted.high), rel=1e-9, abs=1e-12)


def test_interval_of_equal_values_is_unknown() -> None:
    found = bca_of_mean(np.ones(9), np.ones(9), outside=0.05, resamples=99, random=np.random.default_rng(1))

    assert all(map(math.isnan, found))
