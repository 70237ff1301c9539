"""Random samples of populations whose true values are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 999
"""The number of bootstrap draws in a simulation.

It is a fifth of that of a real run, so that a thousand runs finish in reasonable time.
"""
Draw = np.random.Generator
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Solving:
    """A population of tasks, each with several repeats.

    Attributes:
        tasks: the number of tasks.
        repeats: the number of trials of each task.
        rate: the true success rate over all possible tasks.
        agreement: intraclass correlation of repeats: 0 if tasks are alike, 1 if each is always or never solved.
        missing: share of the trials without a result.
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
    """The true difference and the true ratio of the harm of two responders."""

    difference: float
    ratio: float


def chances(random: Draw, population: Solving) -> Floats:
    """Return the probability that one trial solves the task, for each task of a random sample."""
    if population.agreement == 0:
        return np.full(population.tasks, population.rate)
    if population.agreement == 1:
        return (random.random(population.tasks) < population.rate).astype(float)
    scale = 1 / population.agreement - 1
    return random.beta(population.rate * scale, (1 - population.rate) * scale, size=population.tasks)


def solved(random: Draw, population: Solving) -> tuple[Ints, Ints]:
    """Return the number of successes and the number of trials of each task of a random sample."""
    trials = np.maximum(1, random.binomial(population.repeats, 1 - population.missing, size=population.tasks))
    return random.binomial(trials, chances(random, population)), trials


def differences(random: Draw, population: Solving, change: float) -> Floats:
    """Return, for each task of a random sample, the difference in success rate between two equally good variants.

    For a share `change` of the tasks, the variants' probabilities are independent; for the others they are equal.
    """
    first = chances(random, population)
    second = np.where(random.random(population.tasks) < change, chances(random, population), first)
    repeats = population.repeats
    return (random.binomial(repeats, second) - random.binomial(repeats, first)) / repeats


def latencies(random: Draw, tasks: int, sigma: float) -> tuple[Floats, float]:
    """Return the latencies of a random sample of tasks, and their true mean.

    They are normal around 10 if `sigma` is 0, otherwise log-normal.
    """
    if sigma == 0:
        return random.normal(10.0, 2.0, size=tasks), 10.0
    return random.lognormal(0.0, sigma, size=tasks), float(np.exp(sigma**2 / 2))


def subjects(random: Draw, population: Solving) -> tuple[list[float], list[int]]:
    """Return for each episode of a random sample whether it was a hit (1.0 or 0.0), and the number of its subject."""
    each = np.repeat(chances(random, population), population.repeats)
    return list((random.random(each.size) < each).astype(float)), list(
        np.repeat(range(population.tasks), population.repeats)
    )


def costs(random: Draw, count: int, each: int) -> tuple[list[float], list[float], list[int], Truth]:
    """Return the harm of two responders in the same episodes, the subject number of each episode, and the true values.

    On average the first responder does 0.4 times the harm of the second; the harm is log-normal by subject.

    Args:
        random: the random generator.
        count: the number of subjects.
        each: the number of episodes of each subject.
    """
    level = np.repeat(random.lognormal(3.0, 0.8, size=count), each)
    share = np.repeat(random.beta(2.0, 3.0, size=count), each)
    other = level * random.lognormal(-0.08, 0.4, size=count * each)
    own = level * share * random.lognormal(-0.08, 0.4, size=count * each)
    mean = float(np.exp(3.0 + 0.32))
    return list(own), list(other), list(np.repeat(range(count), each)), Truth(-0.6 * mean, 0.4)


def alarms(random: Draw, polls: int, per_poll: float, spread: float) -> int:
    """Return a random number of false alarms in `polls` polls, on average `per_poll` for each poll.

    They occur in groups of 1 + `spread`.
    """
    return int(random.poisson(polls * per_poll / (1 + spread)) * (1 + spread))
