"""Choose the candidate that a search measures next. Pure.

The method `grid` takes the next combination. The method `bayesian` begins with candidates far apart, and then takes the
candidate with the greatest expected improvement, by a Gaussian process with a Matérn kernel (smoothness 5/2). The
noise at a candidate is the standard error of its measured effect. Sources: Rasmussen and Williams, "Gaussian Processes
for Machine Learning", chapters 2 and 4; Jones, Schonlau and Welch, "Efficient Global Optimization", 1998.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relab.core.json import is_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from relab.rollouts.search.spec import Parameter, Values

    Floats = NDArray[np.float64]

_POOL: Final = 1_000
_LENGTHS: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_LEAST_SD: Final = 0.02
_JITTER: Final = 1e-8


@dataclass(frozen=True, slots=True)
class MeasuredCandidate:
    """Values of plan fields that a search has tried, with the measured effect and its standard error.

    The effect is the log ratio of arm B (these values) to arm A (the old flags); it is None without a valid
    measurement.
    """

    values: Values
    effect: float | None
    error: float


def grid(parameters: Mapping[str, Parameter]) -> list[Values]:
    """Return all combinations of the parameters' values; the last parameter varies fastest."""
    names = list(parameters)
    return [
        dict(zip(names, chosen, strict=True))
        for chosen in itertools.product(*(parameters[name].choices() for name in names))
    ]


def propose(
    parameters: Mapping[str, Parameter], trials: Sequence[MeasuredCandidate], *, method: str, candidates: int, seed: int
) -> Values | None:
    """Return the values of the next candidate of a search; None if the search is over.

    It is over if `candidates` candidates or all combinations were tried. Equal arguments give equal results.

    Args:
        parameters: the values to try for each field of the plan.
        trials: the candidates that were tried so far.
        method: `grid` or `bayesian`.
        candidates: the greatest number of candidates.
        seed: the seed of the random choices of `bayesian`.
    """
    if len(trials) >= candidates:
        return None
    tried = {_key(trial.values) for trial in trials}
    if method == "grid":
        return next((values for values in grid(parameters) if _key(values) not in tried), None)
    # Equal results let an interrupted search continue as if it had not been interrupted.
    draw = random.Random(f"search:{seed}:{len(trials)}")  # noqa: S311 reproducible on purpose
    pool = [values for values in _pool(parameters, draw) if _key(values) not in tried]
    if not pool:
        return None
    known = [trial for trial in trials if trial.effect is not None]
    if len(trials) < min(candidates, 2 + len(parameters)) or len(known) < 2:
        return _farthest(parameters, pool, trials, draw)
    improvements = _expected_improvement(
        _points(parameters, [trial.values for trial in known]),
        [trial.effect or 0.0 for trial in known],
        [trial.error for trial in known],
        _points(parameters, pool),
    )
    return pool[int(improvements.argmax())]


def _pool(parameters: Mapping[str, Parameter], draw: random.Random) -> list[Values]:
    """Return all combinations of the parameters' values; if there are more than `_POOL`, return `_POOL` random ones."""
    if math.prod(len(parameter.choices()) for parameter in parameters.values()) <= _POOL:
        return grid(parameters)
    return [{name: draw.choice(one.choices()) for name, one in parameters.items()} for _ in range(_POOL)]


def _farthest(
    parameters: Mapping[str, Parameter], pool: list[Values], trials: Sequence[MeasuredCandidate], draw: random.Random
) -> Values:
    """Return the candidate of `pool` that is farthest from its nearest tried candidate.

    Without tried candidates, return a random one.
    """
    import numpy as np

    if not trials:
        return draw.choice(pool)
    points, tried = _points(parameters, pool), _points(parameters, [trial.values for trial in trials])
    nearest = np.linalg.norm(points[:, None, :] - tried[None, :, :], axis=2).min(axis=1)
    return pool[int(nearest.argmax())]


def _points(parameters: Mapping[str, Parameter], candidates: Sequence[Values]) -> Floats:
    """Return the candidates as points, one row for each candidate.

    A field with numbers has one coordinate: the rank of the value, scaled to 0..1. Any other field has one coordinate
    for each possible value: √½ for the candidate's value, 0 for the others, so different values have the distance 1.
    """
    import numpy as np

    places = {name: [_key(value) for value in parameter.choices()] for name, parameter in parameters.items()}
    rows = []
    for values in candidates:
        row: list[float] = []
        for name, parameter in parameters.items():
            place, choices = places[name].index(_key(values[name])), parameter.choices()
            if all(map(is_number, choices)):
                ascending = sorted(choices, key=lambda choice: float(str(choice)))
                row.append(ascending.index(choices[place]) / max(len(choices) - 1, 1))
            else:
                row += [math.sqrt(0.5) * (place == other) for other in range(len(choices))]
        rows.append(row)
    return np.array(rows, dtype=np.float64)


def _expected_improvement(points: Floats, effects: Sequence[float], errors: Sequence[float], pool: Floats) -> Floats:
    """Return the expected improvement of each candidate in `pool` on the best effect so far, as a log ratio.

    A Gaussian process is fitted to the measured candidates. An effect is the log ratio of arm B (the candidate's flags)
    to arm A (the old flags).

    Args:
        points: the measured candidates, one row each, from `_points`.
        effects: the measured effect of each row of `points`.
        errors: the standard error of each effect.
        pool: the candidates to choose from, one row each, from `_points`.
    """
    import numpy as np
    from scipy import linalg, special

    measured, noise = np.array(effects), np.square(np.maximum(errors, _LEAST_SD))
    centre = float(measured.mean())
    variance = max(float(measured.var() - noise.mean()), _LEAST_SD**2)

    def factors(length: float) -> tuple[float, Floats, Floats]:
        covariance = variance * _matern(points, points, length) + np.diag(noise + _JITTER)
        lower = linalg.cholesky(covariance, lower=True)
        weights = linalg.cho_solve((lower, True), measured - centre)
        fit = -0.5 * float((measured - centre) @ weights) - float(np.log(np.diag(lower)).sum())
        return fit, lower, weights

    length = max(_LENGTHS, key=lambda one: factors(one)[0])
    _, lower, weights = factors(length)
    beside = variance * _matern(pool, points, length)
    mean = centre + beside @ weights
    explained = linalg.solve_triangular(lower, beside.T, lower=True)
    sd = np.sqrt(np.maximum(variance - np.square(explained).sum(axis=0), _JITTER))
    # The best posterior mean, and not the best measured effect, which is partly luck.
    best = float((centre + variance * _matern(points, points, length) @ weights).min())
    gain = (best - mean) / sd
    return np.asarray(sd * (gain * special.ndtr(gain) + np.exp(-0.5 * gain**2) / math.sqrt(2 * math.pi)))


def _matern(one: Floats, other: Floats, length: float) -> Floats:
    import numpy as np

    distance = math.sqrt(5) * np.linalg.norm(one[:, None, :] - other[None, :, :], axis=2) / length
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True)
