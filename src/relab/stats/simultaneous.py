"""Simultaneous confidence intervals: all intervals contain their true values at once with a given probability.

This probability is the joint level; each single interval needs a higher level. Comparisons share a baseline and tasks,
so their errors are correlated. The max-t method simulates the largest studentised error (error / standard error) of all
comparisons; the correlations are estimated from the clusters. The quantile of this error at the joint level gives the
level of each interval. The result lies between the joint level (perfect correlation) and Bonferroni's level. Sources:
C. W. Dunnett, J. Am. Statist. Assoc. 50 (1955) 1096-1121; P. H. Westfall, S. S. Young, "Resampling-Based Multiple
Testing", 1993; T. Hothorn, F. Bretz, P. Westfall, Biometrical J. 50 (2008) 346-363.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.stats.intervals import LEVEL, check_level

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

MIN_CLUSTERS = 10
"""With fewer clusters, estimates of correlations are too uncertain, and Bonferroni's level is used."""
MAX_COMPARISONS = 200
"""With more comparisons, the gain from correlations is not worth the time, and Bonferroni's level is used."""
DRAWS = 40_000
"""With so many random draws, the level of each interval is accurate to 0.1 percentage points of 5 %."""
_SEED = 20_261_123


@dataclass(frozen=True, slots=True)
class Errors:
    """How much each cluster (group of dependent observations) contributes to the statistical error of one estimate.

    Attributes:
        ids: the unique ids of the clusters. A cluster has the same id in every comparison.
        values: for each cluster in `ids`, the sum of (observation - estimate) over its observations. A common factor
            does not matter, because only correlations are computed from the values.
    """

    ids: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Joint:
    """The level that the single intervals of several comparisons need so that they have a joint confidence level.

    Attributes:
        comparisons: number of comparisons.
        level: the joint level: the probability that all intervals contain their true values at once, 0..1.
        each: confidence level of each single interval, 0..1.
        method: name of the method, as shown to a reader.
    """

    comparisons: int
    level: float
    each: float
    method: str


def joint_level(errors: Sequence[Errors | None], *, level: float = LEVEL, draws: int = DRAWS) -> Joint:
    """Return the level that each single interval needs, so that all intervals together have the joint level `level`.

    The result is Bonferroni's level if there are more than `MAX_COMPARISONS` comparisons, or if a comparison has an
    unknown error or fewer than `MIN_CLUSTERS` clusters.

    Args:
        errors: for each comparison, how much each cluster contributes to the error of the estimate. The correlations
            of the estimates are computed from these contributions. None for a comparison without known contributions.
        level: the joint level, 0..1.
        draws: number of simulations. Each draws a random error for every estimate, and keeps the largest absolute
            error. The quantile of these largest errors at the probability `level` gives the level of each interval.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    check_level(level)
    count = len(errors)
    if count < 2:
        return Joint(count, level, level, "one comparison")
    bonferroni = Joint(count, level, 1 - (1 - level) / count, "Bonferroni")
    known = [found for found in errors if found is not None and found.ids.size >= MIN_CLUSTERS]
    if len(known) < count or count > MAX_COMPARISONS:
        return bonferroni
    import numpy as np
    from scipy import special

    # One row of length 1 per comparison over all clusters, so that products of rows are the correlations of the draws.
    ids = np.unique(np.concatenate([found.ids for found in known]))
    rows = np.zeros((count, ids.size))
    for row, found in zip(rows, known, strict=True):
        largest = float(abs(found.values).max())
        if largest > 0:
            scaled = found.values / largest
            row[np.searchsorted(ids, found.ids)] = scaled / np.sqrt(scaled @ scaled)
    correlations = rows @ rows.T
    # A comparison without variance is uncorrelated with the others.
    np.fill_diagonal(correlations, 1.0)
    values, vectors = np.linalg.eigh(correlations)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    drawn = np.random.default_rng(_SEED).standard_normal((draws, count)) @ root.T
    reached = float(np.quantile(abs(drawn).max(axis=1), level))
    each = 1 - 2 * float(special.ndtr(-reached))
    return Joint(count, level, min(max(each, level), bonferroni.each), "max-t over clusters")
