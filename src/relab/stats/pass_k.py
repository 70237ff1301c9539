"""What a task's repeats say of k tries: that one of them succeeds, and that all of them do."""

from __future__ import annotations

from math import comb


def pass_at_k(successes: int, trials: int, k: int) -> float | None:
    """Return the chance that at least one of `k` tries succeeds, without bias; None with fewer than `k` trials.

    Source: M. Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, eq. 1.

    Raises:
        ValueError: the counts contradict each other, or `k` is not positive.
    """
    _check(successes, trials, k)
    if trials < k:
        return None
    # Whole numbers up to the one division: 1 less a quotient would lose what is small.
    return (comb(trials, k) - comb(trials - successes, k)) / comb(trials, k)


def pass_hat_k(successes: int, trials: int, k: int) -> float | None:
    """Return the chance that all of `k` tries succeed (pass^k), without bias; None with fewer than `k` trials.

    Source: S. Yao et al., "tau-bench", arXiv 2406.12045, section 4.

    Raises:
        ValueError: the counts contradict each other, or `k` is not positive.
    """
    _check(successes, trials, k)
    return None if trials < k else comb(successes, k) / comb(trials, k)


def _check(successes: int, trials: int, k: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"successes lie between 0 and the trials: {successes} of {trials}")
    if k < 1:
        raise ValueError(f"k counts tries, so it is 1 or more, not {k}")
