"""Deliver the bytes of one direction of a connection through a link (a TCP proxy): at once, later, slowly, or not yet.

Toxics (simulated network faults) decide this. Without toxics, bytes are written as they arrive. With toxics, bytes wait
in a queue of pieces, and each piece has an earliest delivery time. The end of the stream is a piece too, so that it is
delayed like the bytes before it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from relab.testbed.models import Bandwidth, Blackhole, Latency, Toxic

HIGH_WATER: Final = 262_144
"""If more bytes are queued, reading pauses: the sender then sees a full TCP window, as on a slow path."""
_LOW_WATER: Final = 65_536
_SLICE_S: Final = 0.02
_MIN_SLICE: Final = 64


class Sink(Protocol):
    """The socket to which a `ByteQueue` delivers bytes."""

    def write(self, data: bytes) -> None:
        """Send bytes to the receiver."""
        ...

    def finish(self) -> None:
        """Pass the end of the stream on to the receiver: no more bytes follow."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """The combined effects of all toxics (simulated network faults) on one direction of one connection.

    Attributes:
        latency: `(latency in ms, jitter in ms, source of random numbers)` of each latency toxic. The delays add up.
        bytes_per_s: the maximum throughput; None for no limit.
        held: whether delivery is suspended, so that bytes wait in the queue until the conditions change.
    """

    latency: tuple[tuple[float, float, random.Random], ...] = ()
    bytes_per_s: float | None = None
    held: bool = False

    @property
    def clear(self) -> bool:
        """Whether the toxics (simulated network faults) have no effect, so that bytes are delivered at once."""
        return not (self.latency or self.held or self.bytes_per_s is not None)

    def delay_s(self) -> float:
        """Return the delay, in seconds, of bytes that arrive now, including a random jitter."""
        return sum(max(0.0, ms + rng.uniform(-jitter, jitter)) for ms, jitter, rng in self.latency) / 1_000


def conditions_of(toxics: Iterable[tuple[Toxic, random.Random]]) -> Conditions:
    """Return the combined effects of toxics (simulated network faults) on one direction of a connection.

    The lowest bandwidth applies, and latencies add up.

    Args:
        toxics: each toxic with the source of its random numbers. Only toxics of the kinds `latency`, `bandwidth` and
            `blackhole` count.
    """
    latency: list[tuple[float, float, random.Random]] = []
    rates: list[float] = []
    held = False
    for toxic, rng in toxics:
        if isinstance(toxic, Latency):
            latency.append((toxic.latency_ms, toxic.jitter_ms, rng))
        elif isinstance(toxic, Bandwidth):
            rates.append(toxic.bytes_per_s)
        elif isinstance(toxic, Blackhole):
            held = True
    return Conditions(tuple(latency), min(rates, default=None), held)


class ByteQueue:
    """Delivers the bytes of one direction of a connection, as the toxics (simulated network faults) require.

    Args:
        loop: the event loop, which also provides the time.
        sink: receives the bytes.
        pause: called to pause reading from the sender, because too many bytes are queued.
        resume: called to resume reading from the sender.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, sink: Sink, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._sink = sink
        self._pause = pause
        self._resume = resume
        self._conditions = Conditions()
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._queued = 0
        self._latest = 0.0
        self._next_free = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused_by_queue = False
        self._paused_by_sink = False
        self._closed = False

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that were read and not yet written."""
        return self._queued

    @property
    def held(self) -> bool:
        """Whether delivery is suspended: bytes wait in the queue until the conditions change."""
        return self._conditions.held

    def change(self, conditions: Conditions) -> None:
        """Replace the conditions (delays, maximum throughput, suspension) under which bytes are delivered.

        If the new conditions have no effect (`Conditions.clear`), deliver all queued bytes at once. Otherwise the queued
        bytes keep their delays, but the new maximum throughput and suspension apply to them, too.
        """
        self._conditions = conditions
        if conditions.clear:
            self._queue = deque((0.0, data) for _, data in self._queue)
            self._latest = self._next_free = 0.0
        self._drain()

    def feed(self, data: bytes | None) -> None:
        """Deliver bytes, or the end of the stream (None), as the current network faults require: at once or later."""
        if self._closed:
            return
        if self._conditions.clear and not self._queue:
            self._put(data)
            return
        due = max(self._latest, self._loop.time() + self._conditions.delay_s())
        self._latest = due
        self._queue.append((due, data))
        self._queued += len(data or b"")
        if self._queued > HIGH_WATER and not self._paused_by_queue:
            self._paused_by_queue = True
            self._pause()
        if self._timer is None:
            self._drain()

    def sink_is_full(self, full: bool) -> None:
        """Pause reading from the sender if the receiver's buffer is full; otherwise resume reading.

        While too many bytes are queued, reading stays paused in both cases.
        """
        self._paused_by_sink = full
        if full:
            self._pause()
        elif not self._paused_by_queue and not self._closed:
            self._resume()

    def close(self) -> None:
        """Discard the queued bytes and stop delivery."""
        self._closed = True
        self._queue.clear()
        self._queued = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _put(self, data: bytes | None) -> None:
        if data is None:
            self._sink.finish()
        else:
            self._sink.write(data)

    def _drain(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and not self._conditions.held and not self._closed:
            due, data = self._queue[0]
            wait_s = max(due, self._next_free) - self._loop.time()
            if wait_s > 0:
                self._timer = self._loop.call_later(wait_s, self._drain)
                break
            self._queue.popleft()
            self._send(due, data)
        if self._paused_by_queue and self._queued < _LOW_WATER and not self._closed:
            self._paused_by_queue = False
            if not self._paused_by_sink:
                self._resume()

    def _send(self, due: float, data: bytes | None) -> None:
        rate = self._conditions.bytes_per_s
        if data is None or rate is None:
            self._queued -= len(data or b"")
            self._put(data)
            return
        piece = max(int(rate * _SLICE_S), _MIN_SLICE if rate >= _MIN_SLICE else 1)
        head, rest = data[:piece], data[piece:]
        if rest:
            self._queue.appendleft((due, rest))
        self._queued -= len(head)
        self._next_free = max(self._next_free, self._loop.time() - _SLICE_S) + len(head) / rate
        self._put(head)
