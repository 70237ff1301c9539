"""Populations whose true values are known, to draw samples from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 999
"""Draws of a bootstrap here, a fifth of what a run takes, so that a thousand runs end."""
Draw = np.random.Generator
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Solving:
    """Tasks and their repeats.

    Attributes:
        rate: the true success rate, over all tasks there could be.
        agreement: of repeats of a task (intraclass correlation): 0 if tasks are alike, 1 if each is always or never solved.
        missing: share of the trials that have no result.
    """

    tasks: int
    repeats: int
    rate: float
    agreement: float
    missing: float = 0.0

    def __str__(self) -> str:
        text = f"{self.tasks} tasks x {self.repeats}, rate {self.rate:g}, repeats agree by {self.agreement:g}"
        return text if not self.missing else f"{text}, {self.missing:.0%} missing"


@dataclass(frozen=True, slots=True)
class Truth:
    """What two responders really differ by."""

    difference: float
    ratio: float


def chances(random: Draw, population: Solving) -> Floats:
    """Return for each task how likely one try solves it."""
    if population.agreement == 0:
        return np.full(population.tasks, population.rate)
    if population.agreement == 1:
        return (random.random(population.tasks) < population.rate).astype(float)
    scale = 1 / population.agreement - 1
    return random.beta(population.rate * scale, (1 - population.rate) * scale, size=population.tasks)


def solved(random: Draw, population: Solving) -> tuple[Ints, Ints]:
    """Return how many of how many trials solved each task."""
    trials = np.maximum(1, random.binomial(population.repeats, 1 - population.missing, size=population.tasks))
    return random.binomial(trials, chances(random, population)), trials


def differences(random: Draw, population: Solving, change: float) -> Floats:
    """Return each task's difference in success between two equal variants, which solve a share of tasks independently."""
    first = chances(random, population)
    second = np.where(random.random(population.tasks) < change, chances(random, population), first)
    repeats = population.repeats
    return (random.binomial(repeats, second) - random.binomial(repeats, first)) / repeats


def latencies(random: Draw, tasks: int, sigma: float) -> tuple[Floats, float]:
    """Return means of tasks, and the mean of all tasks; normal about 10 without a sigma, else log-normal."""
    if sigma == 0:
        return random.normal(10.0, 2.0, size=tasks), 10.0
    return random.lognormal(0.0, sigma, size=tasks), float(np.exp(sigma**2 / 2))


def subjects(random: Draw, population: Solving) -> tuple[list[float], list[int]]:
    """Return whether each episode was a hit, and what it was about."""
    each = np.repeat(chances(random, population), population.repeats)
    return list((random.random(each.size) < each).astype(float)), list(
        np.repeat(range(population.tasks), population.repeats)
    )


def costs(random: Draw, count: int, each: int) -> tuple[list[float], list[float], list[int], Truth]:
    """Return the harm of two responders in the same episodes, 0.4 times as much by the first; log-normal by subject."""
    level = np.repeat(random.lognormal(3.0, 0.8, size=count), each)
    share = np.repeat(random.beta(2.0, 3.0, size=count), each)
    other = level * random.lognormal(-0.08, 0.4, size=count * each)
    own = level * share * random.lognormal(-0.08, 0.4, size=count * each)
    mean = float(np.exp(3.0 + 0.32))
    return list(own), list(other), list(np.repeat(range(count), each)), Truth(-0.6 * mean, 0.4)


def alarms(random: Draw, polls: int, per_poll: float, spread: float) -> int:
    """Return how many polls gave a false alarm; with a spread they come 1 + spread at a time."""
    return int(random.poisson(polls * per_poll / (1 + spread)) * (1 + spread))
