"""The concurrency limiter of a worker: how its limit rises and falls, and which requests it rejects."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relab.flags.models import ControlFlags
from relab.testbed.target.limiter import AIM, DECREASE, INCREASE, LONG_PERIODS, PERIOD_S, SAMPLES, Bounds, Limiter


def bounds(highest: int | None = 16, p95_ms: float = 100.0, *, adaptive: bool = True) -> Bounds:
    return Bounds(adaptive=adaptive, highest=highest, wait_ms=25.0, work_p95_ms=p95_ms)


def run_period(limiter: Limiter, start_s: float, *, at_once: int, times_ms: list[float]) -> float:
    """Pass requests of these durations, `at_once` at a time, in one period; return the time of its end in seconds."""
    left = list(times_ms)
    step_s = PERIOD_S * 1.01 / len(times_ms)
    now_s = start_s
    while left:
        group = left[:at_once]
        del left[:at_once]
        for _ in group:
            assert limiter.start()
        for ms in group:
            now_s += step_s
            limiter.finish(ms, now_s=now_s)
    return now_s


class Machine(RuleBasedStateMachine):
    """Random requests, durations and flags: the limit stays within its bounds, and the number of requests is right."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.limiter = Limiter(bounds(), now_s=self.now_s)
        self.active = 0

    @rule()
    def start(self) -> None:
        limit = self.limiter.limit
        begun = self.limiter.start()
        assert begun == (limit is None or self.active < limit)
        self.active += begun

    @precondition(lambda self: self.active > 0)
    @rule(ms=st.floats(0, 10_000), passed_s=st.floats(0, 1))
    def finish(self, ms: float, passed_s: float) -> None:
        before = self.limiter.limit
        self.now_s += passed_s
        self.limiter.finish(ms, now_s=self.now_s)
        self.active -= 1
        after = self.limiter.limit
        if before is not None and after is not None:
            assert after <= before + INCREASE
            assert after >= math.floor(before * DECREASE)

    @rule(highest=st.none() | st.integers(1, 64), p95_ms=st.floats(1, 1_000), adaptive=st.booleans())
    def change(self, highest: int | None, p95_ms: float, adaptive: bool) -> None:
        self.limiter.change(bounds(highest, p95_ms, adaptive=adaptive and highest is not None), now_s=self.now_s)

    @invariant()
    def holds(self) -> None:
        highest = self.limiter.bounds.highest
        assert self.limiter.active == self.active
        assert (self.limiter.limit is None) == (highest is None)
        if highest is not None:
            assert 1 <= (self.limiter.limit or 0) <= highest
        if highest is not None and not self.limiter.bounds.adaptive:
            assert self.limiter.limit == highest


TestLimiter = Machine.TestCase
TestLimiter.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_the_limit_falls_by_a_factor_when_the_p95_is_above_its_bound() -> None:
    limiter = Limiter(bounds(20), now_s=0.0)

    run_period(limiter, 0.0, at_once=1, times_ms=[10.0] * 18 + [500.0] * 2)

    assert limiter.limit == int(20 * DECREASE)


def test_one_slow_request_of_twenty_does_not_lower_the_limit() -> None:
    limiter = Limiter(bounds(20), now_s=0.0)

    run_period(limiter, 0.0, at_once=1, times_ms=[10.0] * 19 + [500.0])

    assert limiter.limit == 20


def test_the_limit_rises_by_one_only_while_it_is_in_use() -> None:
    limiter = Limiter(bounds(20), now_s=0.0)
    now_s = run_period(limiter, 0.0, at_once=1, times_ms=[500.0] * SAMPLES)
    fallen = limiter.limit
    assert fallen is not None

    now_s = run_period(limiter, now_s, at_once=1, times_ms=[10.0] * SAMPLES)
    assert limiter.limit == fallen

    run_period(limiter, now_s, at_once=fallen, times_ms=[10.0] * fallen * math.ceil(SAMPLES / fallen))
    assert limiter.limit == fallen + 1


def test_limit_is_adjusted_after_a_long_period_with_few_requests() -> None:
    limiter = Limiter(bounds(20), now_s=0.0)
    assert limiter.start()

    limiter.finish(5_000.0, now_s=PERIOD_S * LONG_PERIODS + 0.01)

    assert limiter.limit == int(20 * DECREASE)


def test_overloaded_server_is_limited_to_its_capacity() -> None:
    """The server needs 5 ms for each concurrent request, so that 20 of them reach the bound of 100 ms."""
    limiter = Limiter(bounds(64), now_s=0.0)
    now_s, seen = 0.0, []
    for _ in range(200):
        at_once = 0
        while limiter.start():
            at_once += 1
        for _ in range(at_once):
            now_s += PERIOD_S * 1.01 / at_once
            limiter.finish(5.0 * at_once, now_s=now_s)
        seen.append(limiter.limit or 0)

    settled = seen[50:]
    assert max(settled) <= 21
    assert min(settled) >= int(20 * DECREASE)
    assert len(set(settled)) > 1, "it keeps probing"


@given(st.integers(1, 1_024), st.integers(1, 64), st.floats(1, 60_000))
def test_workers_divide_the_limit_of_the_flags(highest: int, workers: int, target_ms: float) -> None:
    share = Bounds.of(ControlFlags(max_concurrency=highest, target_p95_ms=target_ms), workers=workers)

    assert share.highest is not None
    assert highest <= share.highest * workers < highest + workers or share.highest == 1
    assert share.wait_ms + share.work_p95_ms == pytest.approx(target_ms * AIM)
    assert 0 < share.wait_ms <= 1_000


def test_disabled_limiter_has_no_limit() -> None:
    limiter = Limiter(Bounds.of(ControlFlags(enabled_actuators=()), workers=2), now_s=0.0)

    assert all(limiter.start() for _ in range(500))
    assert limiter.limit is None
    assert limiter.figures()["policy"] == "none"


def test_fixed_limit_does_not_change() -> None:
    limiter = Limiter(Bounds.of(ControlFlags(policy="fixed", max_concurrency=8), workers=2), now_s=0.0)

    run_period(limiter, 0.0, at_once=1, times_ms=[60_000.0] * SAMPLES)

    assert limiter.limit == 4


def test_request_that_would_time_out_is_rejected_at_once() -> None:
    """Four concurrent requests of 40 ms finish one every 10 ms; a request may wait for at most 25 ms."""
    limiter = Limiter(bounds(4), now_s=0.0)
    now_s = run_period(limiter, 0.0, at_once=4, times_ms=[40.0] * SAMPLES)
    assert not limiter.is_too_late(100), "there is room"

    assert all(limiter.start() for _ in range(4))

    assert [limiter.is_too_late(waiting) for waiting in range(4)] == [False, False, True, True]
    limiter.finish(40.0, now_s=now_s)
    assert not limiter.is_too_late(100)


def test_new_or_unlimited_limiter_rejects_no_request() -> None:
    unlimited = Limiter(bounds(None, adaptive=False), now_s=0.0)
    new = Limiter(bounds(1), now_s=0.0)
    for limiter in (unlimited, new):
        assert limiter.start()
        assert not limiter.is_too_late(1_000)
