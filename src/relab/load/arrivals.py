"""Compute the due times of the requests of a load from its stages and a seed, without I/O.

Each stage has a rate of requests that is constant or changes linearly. The integral of the rate is the number of
requests expected until time t. The due times are the times at which this integral reaches certain levels: 0, 1, 2, ...
for arrivals at even intervals, and sums of unit exponentials for Poisson arrivals (time rescaling; see Daley and
Vere-Jones, An Introduction to the Theory of Point Processes, 7.4). Therefore linear changes of the rate are exact, too,
and a change of stage neither loses nor adds a request.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from relab.load.models import Arrivals, Stage

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stage of a load; its times, arrival rates and numbers of arrivals are exact fractions.

    `start_s` is the time from the start of the load to the start of this stage, in seconds. `before` is the number of
    arrivals that are expected before this stage. `from_rate` and `to_rate` are the arrivals per second at
    its start and at its end.
    """

    start_s: Fraction
    before: Fraction
    duration_s: Fraction
    from_rate: Fraction
    to_rate: Fraction

    @property
    def until(self) -> Fraction:
        return self.before + (self.from_rate + self.to_rate) / 2 * self.duration_s

    @property
    def end_s(self) -> Fraction:
        return self.start_s + self.duration_s


def arrival_offsets_ns(stages: Sequence[Stage], arrivals: Arrivals, seed: int) -> Iterator[int]:
    """Yield the due time of each request in ns after the start of the load, in ascending order.

    Equal arguments give equal times on every machine.

    Args:
        stages: the stages of the load, in order.
        arrivals: whether requests are due at even intervals or as a Poisson process.
        seed: the seed of the Poisson process.
    """
    return _constant(stages) if arrivals is Arrivals.CONSTANT else _poisson(stages, seed)


def duration_ns(stages: Sequence[Stage]) -> int:
    """Return the total duration of the stages in ns. It is rounded up, so that every request is due before the end."""
    return math.ceil(_pieces(stages)[-1].end_s * NS_PER_S)


def _pieces(stages: Sequence[Stage]) -> list[_Piece]:
    pieces: list[_Piece] = []
    start_s = before = Fraction(0)
    for stage in stages:
        # The decimal number as it was written: 0.1 is exactly a tenth, not the nearest double.
        last = stage.rate_per_s if stage.to_rate_per_s is None else stage.to_rate_per_s
        duration_s, first_rate, last_rate = (
            Fraction(str(value)) for value in (stage.duration_s, stage.rate_per_s, last)
        )
        pieces.append(_Piece(start_s, before, duration_s, first_rate, last_rate))
        start_s, before = pieces[-1].end_s, pieces[-1].until
    return pieces


def _constant(stages: Sequence[Stage]) -> Iterator[int]:
    for piece in _pieces(stages):
        numbers = range(math.ceil(piece.before), math.ceil(piece.until))
        if piece.from_rate == piece.to_rate:
            yield from _evenly(piece, numbers)
        else:
            yield from (_in_ramp(piece, float(number - piece.before)) for number in numbers)


def _evenly(piece: _Piece, numbers: range) -> Iterator[int]:
    if not numbers:
        return
    # Integers over one common denominator: exact for any rate, and fast.
    step = NS_PER_S / piece.from_rate
    base = NS_PER_S * piece.start_s - piece.before * step
    whole = math.lcm(step.denominator, base.denominator)
    step_n = step.numerator * (whole // step.denominator)
    base_n = base.numerator * (whole // base.denominator)
    for number in numbers:
        yield (base_n + number * step_n) // whole


def _poisson(stages: Sequence[Stage], seed: int) -> Iterator[int]:
    pieces = iter(_pieces(stages))
    piece = next(pieces)
    for level in _levels(seed):
        while level >= piece.until:
            following = next(pieces, None)
            if following is None:
                return
            piece = following
        yield _in_ramp(piece, level - float(piece.before))


def _levels(seed: int) -> Iterator[float]:
    rng = random.Random(f"arrivals:{seed}")  # noqa: S311 a reproducible sequence is the purpose
    return itertools.accumulate(-math.log(1.0 - rng.random()) for _ in itertools.count())


def _in_ramp(piece: _Piece, level: float) -> int:
    """Return the time at which `level` arrivals are expected since the start of a stage, in ns after the load's start.

    If the rate changes from a to b within the T seconds of the stage, the time t since the start of the stage solves:

    a t + (b - a) t² / 2T = level
    """
    first, last, duration_s = float(piece.from_rate), float(piece.to_rate), float(piece.duration_s)
    # This form of the root loses no precision where the ramp is nearly flat.
    root = math.sqrt(max(first * first + 2 * (last - first) * level / duration_s, 0.0))
    t_s = min(2 * level / (first + root), duration_s) if level > 0 else 0.0
    start_ns, end_ns = math.floor(piece.start_s * NS_PER_S), math.floor(piece.end_s * NS_PER_S)
    return min(start_ns + int(t_s * NS_PER_S), max(end_ns - 1, start_ns))
