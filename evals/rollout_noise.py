"""Simulated windows of rollouts: log-normal levels that vary, drift and depend on each other in several ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relab.rollouts.judging.effects import Pairs
from relab.rollouts.judging.procedure import last_rounds, positions
from relab.rollouts.plans.models import Plan

Floats = NDArray[np.float64]
Draw = np.random.Generator

SAMPLING_SD = 0.036
"""Sampling deviation of the log P95 of every window, for 1,200 log-normal latencies (sigma 0.6):
sigma * sqrt(0.95 * 0.05 / 1200) / density of the normal distribution at its 95th percentile."""


def normal(draw: Draw, shape: tuple[int, int]) -> Floats:
    """Return independent normal noise of deviation 1."""
    return draw.standard_normal(shape)


def heavy(draw: Draw, shape: tuple[int, int]) -> Floats:
    """Return noise with heavy tails: Student's t with 3 degrees of freedom, scaled to deviation 1."""
    return draw.standard_t(3, shape) / math.sqrt(3)


def spikes(draw: Draw, shape: tuple[int, int]) -> Floats:
    """Return normal noise with a slow window in ten, about deviation 1."""
    return (draw.standard_normal(shape) * 0.6 + (draw.random(shape) < 0.1) * draw.exponential(2.2, shape)) / 1.1


def correlated(share: float) -> Callable[[Draw, tuple[int, int]], Floats]:
    """Return a function that draws noise of deviation 1 whose neighbours correlate by `share` (autoregressive)."""

    def draw_noise(draw: Draw, shape: tuple[int, int]) -> Floats:
        steps = draw.standard_normal(shape)
        noise = steps.copy()
        for place in range(1, shape[1]):
            noise[:, place] = share * noise[:, place - 1] + math.sqrt(1 - share**2) * steps[:, place]
        return noise

    return draw_noise


@dataclass(frozen=True, slots=True)
class Service:
    """How the windows of a service vary when its flags stay the same.

    Attributes:
        sd: deviation of a window's log level.
        drift: change of the log level per window.
        step: a change of the log level at a random moment of each rollout.
        wave: amplitude of a wave, as a log level.
        wave_windows: its length in windows.
        noise: draws noise of deviation 1.
    """

    sd: float
    drift: float = 0.0
    step: float = 0.0
    wave: float = 0.0
    wave_windows: float = 4.0
    noise: Callable[[Draw, tuple[int, int]], Floats] = normal

    def pairs(self, plan: Plan, change_pct: float, *, runs: int, draw: Draw) -> Pairs:
        """Return simulated rollouts of a plan, with as many rounds as it may measure.

        Args:
            plan: the plan: order and number of windows.
            change_pct: the true change of arm B.
            runs: number of rollouts.
            draw: the random generator.
        """
        rounds = last_rounds(plan)
        index_a, index_b = positions(plan, rounds, runs=runs, draw=draw)
        shape = (runs, 2 * rounds)
        place = np.arange(2 * rounds)
        level = self.sd * self.noise(draw, shape) + SAMPLING_SD * draw.standard_normal(shape) + self.drift * place
        if self.step:
            level += self.step * (place >= draw.random((runs, 1)) * 2 * rounds)
        if self.wave:
            level += self.wave * np.sin(2 * np.pi * (place / self.wave_windows + draw.random((runs, 1))))
        log_a, log_b = (np.take_along_axis(level, index.astype(int), axis=-1) for index in (index_a, index_b))
        return Pairs(log_a, log_b + math.log1p(change_pct / 100), index_a, index_b)
