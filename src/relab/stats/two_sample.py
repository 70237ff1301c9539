"""Comparison of two independent samples: exact and rank tests, and an estimate of the shift between them.

The functions are thin wrappers of scipy and numpy. They import scipy and numpy only when they are called, so that a
program that compares nothing does not spend time on the import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Alternative = Literal["two-sided", "less", "greater"]

MAX_PAIRS = 4_000_000
"""Maximum number of pairwise differences of the Hodges-Lehmann estimate (32 MB of doubles)."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of a significance test.

    Attributes:
        name: name of the test, as shown to a reader.
        p_value: probability under the null hypothesis of data at least as extreme, 0..1.
        statistic: the test's statistic; the sample odds ratio for Fisher's test.
    """

    __test__ = False  # pytest would collect the class because of its name.

    name: str
    p_value: float
    statistic: float


def fisher_exact(
    hits_a: int, total_a: int, hits_b: int, total_b: int, *, alternative: Alternative = "two-sided"
) -> TestResult:
    """Compare the proportions `hits_a / total_a` and `hits_b / total_b` by Fisher's exact test.

    Source: R. A. Fisher, "Statistical Methods for Research Workers", 1934, section 21.02.

    Args:
        hits_a: the successes of the first sample.
        total_a: the trials of the first sample.
        hits_b: the successes of the second sample.
        total_b: the trials of the second sample.
        alternative: `"greater"` tests whether the first proportion is greater, `"less"` whether it is less.

    Raises:
        ValueError: a count is negative, or a sample has more hits than trials.
    """
    for hits, total in ((hits_a, total_a), (hits_b, total_b)):
        if not 0 <= hits <= total:
            raise ValueError(f"hits must lie between 0 and the total {total}, not at {hits}")
    from scipy import stats

    result = stats.fisher_exact([[hits_a, total_a - hits_a], [hits_b, total_b - hits_b]], alternative=alternative)
    sides = "two-sided" if alternative == "two-sided" else "one-sided"
    return TestResult(f"Fisher exact ({sides})", min(1.0, float(result.pvalue)), float(result.statistic))


def mann_whitney(a: Sequence[float], b: Sequence[float], *, alternative: Alternative = "two-sided") -> TestResult:
    """Compare the locations of two samples by the Mann-Whitney U test.

    Source: H. B. Mann, D. R. Whitney, Ann. Math. Statist. 18 (1947).

    Args:
        a: the values of the first sample.
        b: the values of the second sample. If all values of both samples are equal, the p-value is 1.
        alternative: `"greater"` tests whether values of `a` tend to be greater than values of `b`, `"less"` whether
            they tend to be less.

    Raises:
        ValueError: a sample is empty or holds a value that is not finite.
    """
    _check_samples(a, b)
    from scipy import stats

    if len({*a, *b}) == 1:
        return TestResult("Mann-Whitney U", 1.0, len(a) * len(b) / 2)
    # Exact for small samples without ties; else the normal approximation with tie and continuity correction.
    result = stats.mannwhitneyu(a, b, alternative=alternative, method="auto")
    return TestResult("Mann-Whitney U", min(1.0, float(result.pvalue)), float(result.statistic))


def hodges_lehmann_shift(a: Sequence[float], b: Sequence[float]) -> float:
    """Estimate how much larger the values of `a` are than those of `b`, by the median of all differences `a[i] - b[j]`.

    Source: J. L. Hodges, E. L. Lehmann, Ann. Math. Statist. 34 (1963).

    Raises:
        ValueError: a sample is empty, holds a value that is not finite, or the samples make more than `MAX_PAIRS`
            pairs.
    """
    _check_samples(a, b)
    if len(a) * len(b) > MAX_PAIRS:
        raise ValueError(f"{len(a)} x {len(b)} pairs are more than {MAX_PAIRS}; take samples of the values")
    import numpy as np

    return float(np.median(np.subtract.outer(np.asarray(a, dtype=float), np.asarray(b, dtype=float))))


def _check_samples(a: Sequence[float], b: Sequence[float]) -> None:
    for name, sample in (("a", a), ("b", b)):
        if not sample:
            raise ValueError(f"sample {name} is empty")
        if not all(math.isfinite(value) for value in sample):
            raise ValueError(f"sample {name} holds a value that is not finite")
