"""Differences without pairs: they match published values and calculations by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from relab.stats.paired import Clusters, cluster
from relab.stats.unpaired import newcombe, unpaired_delta


def test_newcombe_interval_matches_its_published_example() -> None:
    # Newcombe 1998, table II, example (a): 56/70 less 48/80, method 10: 0.0524 to 0.3339.
    found = newcombe(48, 80, 56, 70)

    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)


def test_newcombe_stays_within_a_difference_of_one() -> None:
    found = newcombe(0, 5, 5, 5)

    assert 0 < found.low < found.high <= 1


def test_welch_equals_scipy_for_clusters_of_one_value() -> None:
    a, b = [1.0, 2.0, 4.0, 8.0], [3.0, 3.5, 9.0, 11.0, 12.0]
    found = unpaired_delta(cluster(a), cluster(b))

    expected = stats.ttest_ind(b, a, equal_var=False)
    ends = expected.confidence_interval(0.95)
    assert found.test.p_value == pytest.approx(expected.pvalue)
    assert found.interval.low == pytest.approx(ends.low)
    assert found.interval.high == pytest.approx(ends.high)
    assert found.estimate == pytest.approx(np.mean(b) - np.mean(a))
    assert found.clusters == 4


def test_tasks_that_depend_on_each_other_widen_the_interval() -> None:
    values = [0.1, 0.1, 0.9, 0.9, 0.2, 0.2, 0.7, 0.7]
    alone = unpaired_delta(cluster(values), cluster(values)).interval
    together = unpaired_delta(cluster(values), cluster(values, [0, 0, 1, 1, 2, 2, 3, 3])).interval

    assert together.high - together.low > 1.1 * (alone.high - alone.low)


def test_tasks_solved_always_or_never_use_newcombe_and_fisher() -> None:
    found = unpaired_delta(cluster([0.0] * 8 + [1.0] * 2), cluster([1.0] * 9 + [0.0]), is_rate=True)

    assert found.interval == newcombe(2, 10, 9, 10)
    assert found.test.p_value == pytest.approx(stats.fisher_exact([[9, 1], [2, 8]]).pvalue)


def test_repeats_of_a_task_with_one_outcome_count_as_one_trial() -> None:
    tasks = [0, 0, 1, 1, 2, 2]
    found = unpaired_delta(cluster([0.0] * 6, tasks), cluster([1.0] * 6, tasks), is_rate=True)

    assert found.interval == newcombe(0, 3, 3, 3)
    assert found.clusters == 3


def test_constant_values_bound_only_the_difference_of_a_rate() -> None:
    zeros, ones = cluster([0.0] * 6), cluster([1.0] * 6)

    assert unpaired_delta(zeros, ones).interval.low == -math.inf
    assert 0 < unpaired_delta(zeros, ones, is_rate=True).interval.low < 1


def test_one_cluster_has_an_infinite_interval() -> None:
    lonely = Clusters(np.array([2.0]), np.array([1.0]))

    assert unpaired_delta(lonely, cluster([1.0, 2.0, 3.0])).interval.high == math.inf


def test_values_that_are_equal_except_for_rounding_bound_nothing() -> None:
    found = unpaired_delta(cluster([0.1] * 3), cluster([0.2] * 3))

    assert found.interval.low == -math.inf
    assert found.interval.high == math.inf
    assert found.test.p_value == 1.0
