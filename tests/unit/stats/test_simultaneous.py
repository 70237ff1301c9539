"""Levels of simultaneous intervals: known values, and simulated coverage of families."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from relab.stats.simultaneous import MAX_COMPARISONS, MIN_CLUSTERS, Errors, joint_level


def errors_of(values: np.ndarray) -> list[Errors]:
    """Return one comparison per row, with one cluster per column."""
    return [Errors(np.arange(values.shape[1]), row) for row in values]


def test_one_comparison_has_the_joint_level() -> None:
    assert joint_level([None]).each == 0.95
    nothing = joint_level([])
    assert nothing.comparisons == 0
    assert nothing.each == 0.95


def test_independent_comparisons_get_sidaks_level() -> None:
    found = joint_level(errors_of(np.eye(20)[:5]))

    assert found.each == pytest.approx(0.95 ** (1 / 5), abs=5e-4)
    assert found.method == "max-t over clusters"


def test_variants_that_share_a_baseline_get_dunnetts_level() -> None:
    # The correlations are exactly 0.5: each variant's error is its own part minus the part of the baseline.
    own = np.eye(20)
    found = joint_level(errors_of(np.array([own[number] - own[10] for number in range(6)])))

    # Dunnett's two-sided critical value of 6 comparisons, 5 %, infinite degrees of freedom.
    assert stats.norm.ppf((1 + found.each) / 2) == pytest.approx(2.57, abs=0.02)


def test_repeated_comparison_counts_once() -> None:
    row = np.random.default_rng(1).normal(size=30)

    assert joint_level(errors_of(np.array([row, 2 * row, -row]))).each == pytest.approx(0.95, abs=1e-3)


def test_constant_or_disjoint_comparisons_count_as_uncorrelated() -> None:
    row = np.random.default_rng(1).normal(size=30)
    found = joint_level(
        [Errors(np.arange(30), row), Errors(np.arange(30), np.zeros(30)), Errors(np.arange(30, 60), row)]
    )

    assert found.each == pytest.approx(0.95 ** (1 / 3), abs=1e-3)


@pytest.mark.parametrize("count", [2, MAX_COMPARISONS + 1])
def test_few_clusters_many_comparisons_and_unknown_errors_fall_back_to_bonferroni(count: int) -> None:
    few = np.random.default_rng(2).normal(size=(count, MIN_CLUSTERS - 1 if count == 2 else 20))

    found = joint_level(errors_of(few))
    assert found.method == "Bonferroni"
    assert found.each == pytest.approx(1 - 0.05 / count)
    assert joint_level([None] * count).each == found.each


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_intervals_of_a_family_cover_jointly_at_their_level(share: float) -> None:
    # Six differences over 30 tasks with Student's intervals; `share` is the correlation of their errors.
    random, families, comparisons, tasks = np.random.default_rng(4), 600, 6, 30
    held = alone = 0
    for _ in range(families):
        common = random.normal(size=tasks) * share**0.5
        values = common + random.normal(size=(comparisons, tasks)) * (1 - share) ** 0.5
        means, spread = values.mean(axis=1), values - values.mean(axis=1, keepdims=True)
        t = abs(means) / (values.std(axis=1, ddof=1) / tasks**0.5)
        each = joint_level(errors_of(spread), draws=4_000).each
        held += bool((t <= stats.t.ppf((1 + each) / 2, tasks - 1)).all())
        alone += bool((t <= stats.t.ppf(0.975, tasks - 1)).all())
    assert 0.93 <= held / families <= 0.975
    assert alone / families < 0.91 or share == 0.9


def test_invalid_level_is_rejected() -> None:
    with pytest.raises(ValueError, match="level"):
        joint_level([], level=95)
