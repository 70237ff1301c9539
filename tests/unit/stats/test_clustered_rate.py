"""The interval of a rate over clusters: known limits, extreme rates, and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.stats.clustered_rate import clustered_rate
from relab.stats.intervals import clopper_pearson, wilson
from relab.stats.paired import Clusters

pairs = st.integers(1, 6).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


def of(hits: list[int], trials: list[int]) -> Clusters:
    return Clusters(np.array(hits, dtype=float), np.array(trials, dtype=float))


@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 40])
def test_bound_without_failures_equals_that_of_one_trial_per_task(tasks: int) -> None:
    found = clustered_rate(of([5] * tasks, [5] * tasks), 5 * tasks)

    assert found.high == 1.0
    assert found.low == pytest.approx(clopper_pearson(tasks, tasks).low)


def test_tasks_with_equal_results_in_all_repeats_count_once_each() -> None:
    hits = [5] * 60 + [0] * 40
    found = clustered_rate(of(hits, [5] * 100), 500)
    once = wilson(60, 100)

    assert found.low == pytest.approx(once.low, abs=0.003)
    assert found.high == pytest.approx(once.high, abs=0.003)


def test_independent_repeats_count_nearly_as_separate_tasks() -> None:
    random = np.random.default_rng(3)
    hits = random.binomial(4, 0.7, size=400)
    found, flat = clustered_rate(of(list(hits), [4] * 400), 1_600), wilson(int(hits.sum()), 1_600)

    assert found.high - found.low == pytest.approx(flat.high - flat.low, rel=0.1)


def test_one_more_failure_never_raises_the_lower_end_of_thirty_tasks() -> None:
    lows = [clustered_rate(of([2] * lost + [3] * (30 - lost), [3] * 30), 90).low for lost in range(8)]

    assert lows == sorted(lows, reverse=True) or max(np.diff(lows)) < 0.02


@given(st.lists(pairs, min_size=1, max_size=30))
def test_the_interval_lies_within_0_and_1_holds_the_rate_and_mirrors(counted: list[tuple[int, int]]) -> None:
    hits, trials = [hit for hit, _ in counted], [count for _, count in counted]
    total = sum(trials)
    found = clustered_rate(of(hits, trials), total)
    mirrored = clustered_rate(of([count - hit for hit, count in counted], trials), total)

    assert 0 <= found.low <= sum(hits) / total <= found.high <= 1
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)
    assert clustered_rate(of(hits, trials), total, level=0.99).low <= found.low + 1e-12


@pytest.mark.parametrize(
    ("tasks", "repeats", "least"), [(1, 3, 0.95), (5, 3, 0.94), (8, 1, 0.94), (30, 5, 0.93), (60, 3, 0.93)]
)
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("missing", [0.0, 0.25])
def test_repeats_of_a_task_are_not_counted_as_new_tasks(
    tasks: int, repeats: int, least: float, rate: float, missing: float
) -> None:
    random = np.random.default_rng(20)
    runs, covered, flat = 400, 0, 0
    for _ in range(runs):
        # Beta with an intraclass correlation of 0.6: most tasks are solved nearly always or hardly ever.
        shape = 1 / 0.6 - 1
        solved = random.beta(rate * shape, (1 - rate) * shape, size=tasks)
        trials = np.maximum(1, random.binomial(repeats, 1 - missing, size=tasks))
        hits = random.binomial(trials, solved)
        total = int(trials.sum())
        found, naive = clustered_rate(of(list(hits), list(trials)), total), wilson(int(hits.sum()), total)
        covered += found.low <= rate <= found.high
        flat += naive.low <= rate <= naive.high
    assert covered / runs >= least - 0.03
    assert flat / runs < 0.85 or repeats == 1 or tasks < 10


def test_rate_without_trials_or_with_more_successes_than_trials_is_rejected() -> None:
    for hits, trials, total in (([], [], 1), ([4], [3], 3), ([-1], [3], 3), ([1], [3], 0)):
        with pytest.raises(ValueError, match="a rate needs"):
            clustered_rate(of(hits, trials), total)
    with pytest.raises(ValueError, match="level"):
        clustered_rate(of([1], [3]), 3, level=95)
