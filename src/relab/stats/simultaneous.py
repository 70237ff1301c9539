"""Intervals that hold all their true values at once: how far each must reach.

Comparisons share a baseline and tasks, so their errors go together. The level of each interval is the one at which the
largest of all studentised errors stays inside with the joint level: the max-t method, with the correlations that the
clusters show. It lies between the joint level itself (all comparisons are one) and Bonferroni's. Sources: C. W. Dunnett,
J. Am. Statist. Assoc. 50 (1955) 1096-1121; P. H. Westfall, S. S. Young, "Resampling-Based Multiple Testing", 1993;
T. Hothorn, F. Bretz, P. Westfall, Biometrical J. 50 (2008) 346-363.
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

FEWEST_CLUSTERS = 10
"""With fewer, correlations are guesses: then levels are Bonferroni's."""
MOST_COMPARISONS = 200
"""Beyond, what correlations would win is not worth the time: Bonferroni."""
DRAWS = 40_000
"""The level of each interval is found to within 0.1 points of 5 %."""
_SEED = 20_261_123


@dataclass(frozen=True, slots=True)
class Errors:
    """What each cluster adds to the error of one comparison's estimate.

    Attributes:
        ids: names of the clusters, the same in every comparison, without repetition.
        values: of each cluster, in any unit.
    """

    ids: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Joint:
    """How the intervals of several comparisons hold together.

    Attributes:
        comparisons: how many there are.
        level: with which all intervals hold their true values at once, 0..1.
        each: the level that each interval has by itself, 0..1.
        method: as it should be named to a reader.
    """

    comparisons: int
    level: float
    each: float
    method: str


def joint_level(errors: Sequence[Errors | None], *, level: float = LEVEL, draws: int = DRAWS) -> Joint:
    """Return the level that each of several intervals needs for all of them to hold at once.

    Args:
        errors: one for each comparison; None where nothing is known of how it goes with the others.
        level: the joint level, 0..1.
        draws: of the largest error, for its quantile.

    Raises:
        ValueError: the level is no share.
    """
    check_level(level)
    count = len(errors)
    if count < 2:
        return Joint(count, level, level, "one comparison")
    bonferroni = Joint(count, level, 1 - (1 - level) / count, "Bonferroni")
    known = [found for found in errors if found is not None and found.ids.size >= FEWEST_CLUSTERS]
    if len(known) < count or count > MOST_COMPARISONS:
        return bonferroni
    import numpy as np
    from scipy import special

    # Errors as rows over all clusters, each of length 1: products are correlations, and so are those of normal draws.
    ids = np.unique(np.concatenate([found.ids for found in known]))
    rows = np.zeros((count, ids.size))
    for row, found in zip(rows, known, strict=True):
        largest = float(abs(found.values).max())
        if largest > 0:
            scaled = found.values / largest
            row[np.searchsorted(ids, found.ids)] = scaled / np.sqrt(scaled @ scaled)
    correlations = rows @ rows.T
    # What does not vary goes with nothing.
    np.fill_diagonal(correlations, 1.0)
    values, vectors = np.linalg.eigh(correlations)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    drawn = np.random.default_rng(_SEED).standard_normal((draws, count)) @ root.T
    reached = float(np.quantile(abs(drawn).max(axis=1), level))
    each = 1 - 2 * float(special.ndtr(-reached))
    return Joint(count, level, min(max(each, level), bonferroni.each), "max-t over clusters")
