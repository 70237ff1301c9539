"""pass@k and pass^k: they equal shares of all subsets of the tries, and are unbiased."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from statistics import mean

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relab.stats.pass_k import pass_at_k, pass_hat_k
from support.telemetry.runs import examples

PassK = Callable[[int, int, int], float | None]
BOTH = pytest.mark.parametrize("pass_k", [pass_at_k, pass_hat_k])
TRIES = st.integers(1, 8).flatmap(
    lambda trials: st.tuples(st.integers(0, trials), st.just(trials), st.integers(1, trials))
)


def test_three_successes_in_five_trials_match_a_count_of_pairs() -> None:
    # 3 of 5 succeeded: 1 of the 10 pairs has no success, and 3 pairs have two.
    assert pass_at_k(3, 5, 2) == pytest.approx(0.9)
    assert pass_hat_k(3, 5, 2) == pytest.approx(0.3)


@given(tries=TRIES)
@examples(80)
def test_both_equal_shares_of_all_subsets(tries: tuple[int, int, int]) -> None:
    successes, trials, k = tries
    subsets = list(combinations([True] * successes + [False] * (trials - successes), k))

    assert pass_at_k(*tries) == pytest.approx(mean(any(subset) for subset in subsets))
    assert pass_hat_k(*tries) == pytest.approx(mean(all(subset) for subset in subsets))


@given(rate=st.floats(0, 1), trials=st.integers(1, 7), k=st.integers(1, 7))
@examples(60)
def test_both_are_unbiased(rate: float, trials: int, k: int) -> None:
    assume(k <= trials)
    # SciPy's binomial distribution overflows for rates near 1e-308.
    weights = [comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits) for hits in range(trials + 1)]
    at_least_one = sum(w * (pass_at_k(hits, trials, k) or 0) for hits, w in enumerate(weights))
    all_of_them = sum(w * (pass_hat_k(hits, trials, k) or 0) for hits, w in enumerate(weights))
    assert at_least_one == pytest.approx(1 - (1 - rate) ** k, abs=1e-9)
    assert all_of_them == pytest.approx(rate**k, abs=1e-9)


@given(successes=st.integers(0, 12), trials=st.integers(12, 20))
@examples(40)
def test_pass_at_k_rises_and_pass_hat_k_falls_with_k(successes: int, trials: int) -> None:
    at = [pass_at_k(successes, trials, k) or 0.0 for k in range(1, trials + 1)]
    hat = [pass_hat_k(successes, trials, k) or 0.0 for k in range(1, trials + 1)]

    assert at == sorted(at)
    assert hat == sorted(hat, reverse=True)
    assert at[0] == hat[0] == pytest.approx(successes / trials)


def test_small_chances_and_many_trials_keep_their_digits() -> None:
    assert pass_at_k(1, 10**9, 1) == 1e-9
    assert pass_at_k(1, 10**17, 1) == 1e-17
    assert pass_hat_k(5_000, 10_000, 2) == pytest.approx(0.5 * 4_999 / 9_999)


@BOTH
def test_fewer_trials_than_tries_give_no_estimate(pass_k: PassK) -> None:
    assert pass_k(2, 2, 3) is None
    assert pass_k(0, 0, 1) is None


@BOTH
@pytest.mark.parametrize("successes", [-1, 4])
def test_contradictory_counts_are_rejected(pass_k: PassK, successes: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of 3"):
        pass_k(successes, 3, 1)


@BOTH
@pytest.mark.parametrize("k", [0, -2])
def test_zero_tries_are_rejected(pass_k: PassK, k: int) -> None:
    with pytest.raises(ValueError, match=f"not {k}"):
        pass_k(1, 3, k)
