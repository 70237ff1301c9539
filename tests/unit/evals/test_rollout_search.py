"""The simulation of searches: identical candidates are applied in at most 1 % of all searches."""

from __future__ import annotations

import numpy as np

from evals.rollout_noise import Service
from evals.rollout_search import any_of_many, searched
from relab.stats.intervals import clopper_pearson

RUNS = 1_500


def test_search_over_identical_candidates_applies_none_in_99_of_100() -> None:
    draw = np.random.default_rng(7)
    for confirmations in (1, 3):
        found, _ = searched(Service(0.15), [0.0] * 12, confirmations=confirmations, runs=RUNS, draw=draw)

        # A true rate of 1 % would exceed this count in fewer than 1 of 1,000 simulations.
        assert found.passed <= 29
        assert clopper_pearson(found.passed, RUNS).low < 0.01


def test_taking_the_first_pass_of_many_rollouts_errs_in_more_than_1_percent() -> None:
    found = any_of_many(Service(0.15), runs=RUNS, draw=np.random.default_rng(7))

    assert clopper_pearson(found.passed, RUNS).low > 0.01


def test_better_candidate_is_found_and_applied() -> None:
    draw = np.random.default_rng(7)
    found, best = searched(Service(0.05), [0.0] * 7 + [-30.0], confirmations=1, runs=200, draw=draw)

    assert best >= 190
    assert found.passed >= best
