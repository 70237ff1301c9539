"""Correction of p-values for multiple tests."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted by Holm's step-down procedure, in the order of the input.

    The procedure controls the family-wise error rate under any dependence of the tests.

    Source: S. Holm, Scand. J. Statist. 6 (1979) 65-70.

    Raises:
        ValueError: a p-value lies outside 0..1.
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = floor
    return tuple(adjusted)
