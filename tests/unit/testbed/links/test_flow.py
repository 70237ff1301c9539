"""`ByteQueue`, one direction of a connection: order, delay and back-pressure of its bytes, on a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relab.testbed.links.flow import HIGH_WATER, ByteQueue, Conditions, conditions_of
from relab.testbed.models import Bandwidth, Blackhole, Latency


class Timeline:
    """The clock and timers of an event loop; `run` advances the clock and calls the timers that are due."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, int, Callable[[], None], list[bool]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        cancelled: list[bool] = []
        self._timers.append((self.now + delay, len(self._timers), callback, cancelled))

        class Handle:
            def cancel(self) -> None:
                cancelled.append(True)

        return Handle()

    def run(self, until: float) -> None:
        while due := sorted(timer for timer in self._timers if timer[0] <= until and not timer[3]):
            at, _, callback, cancelled = due[0]
            self.now = max(self.now, at)
            cancelled.append(True)
            callback()
        self.now = until


class Recorder:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.pieces: list[tuple[float, bytes]] = []
        self.finished_at: float | None = None
        self.reading = True

    def write(self, data: bytes) -> None:
        assert self.finished_at is None
        self.pieces.append((self.timeline.now, data))

    def finish(self) -> None:
        self.finished_at = self.timeline.now

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.pieces)


def made() -> tuple[ByteQueue, Timeline, Recorder]:
    timeline = Timeline()
    recorder = Recorder(timeline)

    def read(value: bool) -> Callable[[], None]:
        return lambda: setattr(recorder, "reading", value)

    loop: Any = timeline
    return ByteQueue(loop, sink=recorder, pause=read(False), resume=read(True)), timeline, recorder


def late(ms: float, jitter_ms: float = 0, seed: int = 0) -> Conditions:
    toxic = Latency(kind="latency", latency_ms=ms, jitter_ms=jitter_ms, seed=seed)
    return conditions_of([(toxic, random.Random(seed))])


def test_bytes_pass_immediately_without_toxics() -> None:
    flow, timeline, out = made()
    flow.feed(b"one")
    flow.feed(None)

    assert out.pieces == [(timeline.now, b"one")]
    assert out.finished_at == timeline.now


def test_latency_delays_bytes_and_end_and_not_throughput() -> None:
    flow, timeline, out = made()
    flow.change(late(200))
    flow.feed(b"one")
    timeline.run(100.1)
    flow.feed(b"two")
    flow.feed(None)
    timeline.run(101)

    assert [(round(at, 6), data) for at, data in out.pieces] == [(100.2, b"one"), (100.3, b"two")]
    assert out.finished_at is not None
    assert round(out.finished_at, 6) == 100.3


@given(st.lists(st.tuples(st.floats(0, 0.5), st.binary(min_size=1, max_size=50)), max_size=30), st.integers(0, 5))
def test_jitter_keeps_the_order_and_is_reproducible_from_its_seed(sent: list[tuple[float, bytes]], seed: int) -> None:
    def run() -> list[tuple[float, bytes]]:
        flow, timeline, out = made()
        flow.change(late(100, jitter_ms=100, seed=seed))
        for pause_s, data in sent:
            timeline.run(timeline.now + pause_s)
            flow.feed(data)
        timeline.run(timeline.now + 1)
        return out.pieces

    pieces = run()
    assert [data for _, data in pieces] == [data for _, data in sent]
    assert pieces == run()


def test_bandwidth_delays_in_proportion_to_the_bytes() -> None:
    flow, timeline, out = made()
    flow.change(conditions_of([(Bandwidth(kind="bandwidth", bytes_per_s=10_000), random.Random(0))]))
    flow.feed(b"x" * 20_000)
    timeline.run(101)

    assert 9_500 <= len(out.data) <= 10_500
    timeline.run(102.2)
    assert len(out.data) == 20_000


def test_blackhole_holds_bytes_and_end_until_its_removal() -> None:
    flow, timeline, out = made()
    flow.change(conditions_of([(Blackhole(kind="blackhole"), random.Random(0))]))
    flow.feed(b"one")
    flow.feed(None)
    timeline.run(1_000)
    assert out.data == b""
    assert out.finished_at is None

    flow.change(Conditions())

    assert out.data == b"one"
    assert out.finished_at == 1_000


def test_removed_toxic_releases_delayed_data_at_once_and_in_order() -> None:
    flow, timeline, out = made()
    flow.change(late(10_000))
    flow.feed(b"one")
    flow.change(Conditions())
    flow.feed(b"two")

    assert out.pieces == [(timeline.now, b"one"), (timeline.now, b"two")]


def test_full_queue_pauses_the_sender_until_it_has_room() -> None:
    flow, timeline, out = made()
    flow.change(late(1_000))
    seen = []
    for data in (b"x" * HIGH_WATER, b"x"):
        flow.feed(data)
        seen.append(out.reading)
    timeline.run(102)

    assert [*seen, out.reading] == [True, False, True]
    assert flow.waiting_bytes == 0


def test_full_receiver_pauses_the_sender() -> None:
    flow, _, out = made()
    flow.sink_is_full(full=True)
    assert not out.reading
    flow.sink_is_full(full=False)
    assert out.reading


def test_a_closed_flow_sends_nothing_more() -> None:
    flow, timeline, out = made()
    flow.change(late(100))
    flow.feed(b"one")
    flow.close()
    flow.feed(b"two")
    timeline.run(200)

    assert out.pieces == []
