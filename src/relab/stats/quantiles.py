"""Quantiles of a sample that is given as distinct values, each with the number of its occurrences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def harrell_davis(values: NDArray[np.float64], counts: NDArray[np.int64], share: float) -> float:
    """Return the Harrell-Davis estimate of a quantile: a weighted mean of all sorted values.

    Source: F. E. Harrell, C. E. Davis, Biometrika 69 (1982) 635-640.

    Args:
        values: distinct values in ascending order.
        counts: the number of times that each value occurs.
        share: the quantile, above 0 and below 1; 0.5 is the median.

    Raises:
        ValueError: there is no value, a count is negative, or the share is not between 0 and 1.
    """
    import numpy as np
    from scipy import special

    total = int(counts.sum())
    if total < 1 or bool((counts < 0).any()) or not 0 < share < 1:
        raise ValueError(f"a quantile between 0 and 1 of at least one value is needed, not {share} of {total}")
    shares = np.cumsum(counts) / total
    below = special.betainc((total + 1) * share, (total + 1) * (1 - share), shares)
    return float(np.diff(below, prepend=0.0) @ values)
