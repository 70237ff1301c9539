"""pass@k and pass^k: estimate from a task's repeats the probability that one, or all, of k attempts succeed."""

from __future__ import annotations

from math import comb


def pass_at_k(successes: int, trials: int, k: int) -> float | None:
    """Estimate the probability that at least one of `k` attempts at a task succeeds (pass@k), without bias.

    Source: M. Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, eq. 1.

    Args:
        successes: number of successful trials.
        trials: number of trials of the task; with fewer than `k`, the result is None.
        k: number of attempts.

    Raises:
        ValueError: the counts contradict each other, or `k` is not positive.
    """
    _check(successes, trials, k)
    if trials < k:
        return None
    # Integers up to the single division: 1 minus a quotient would lose precision for small results.
    return (comb(trials, k) - comb(trials - successes, k)) / comb(trials, k)


def pass_hat_k(successes: int, trials: int, k: int) -> float | None:
    """Estimate the probability that all of `k` attempts at a task succeed (pass^k), without bias.

    Source: S. Yao et al., "tau-bench", arXiv 2406.12045, section 4.

    Args:
        successes: number of successful trials.
        trials: number of trials of the task; with fewer than `k`, the result is None.
        k: number of attempts.

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
