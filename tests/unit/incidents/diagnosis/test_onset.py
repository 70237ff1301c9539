"""Onset order: which signal left its usual range first, or None if that cannot be decided."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.detection.baseline import Baseline, SignalBaseline
from relab.incidents.diagnosis.onset import first_to_leave
from relab.incidents.models import Snapshot

GOOD: dict[str, float] = {"errors.pct": 0.0, "latency.p95_ms": 20.0, "traffic.rps": 10.0, "pool.used_pct": 15.0}
WORDS = {"dependency.database": "ok", "worker.1": "running"}
BUSY, FULL, SLOW, FAILING = (
    {"traffic.rps": 40.0},
    {"pool.used_pct": 90.0},
    {"latency.p95_ms": 900.0},
    {"errors.pct": 30.0},
)


def poll(at: int, words: dict[str, str] | None = None, **changed: float) -> Snapshot:
    return Snapshot(at, numbers={**GOOD, **changed}, words={**WORDS, **(words or {})})


BASELINE = Baseline()
for _number in range(20):
    BASELINE.learn(poll(_number, **{"latency.p95_ms": 20.0 + _number % 3, "traffic.rps": 10.0 + _number % 2}))


def first(*rows: dict[str, Any]) -> str | None:
    """Return the first signal found in a healthy poll followed by one poll per row."""
    polls = [Snapshot(0, numbers=GOOD, words=WORDS)]
    for at, row in enumerate(rows, 1):
        words = {name: word for name, word in row.items() if isinstance(word, str)}
        numbers = {name: value for name, value in row.items() if not isinstance(value, str)}
        polls.append(poll(at, words, **numbers))
    return first_to_leave(polls, BASELINE.usual)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([BUSY, {**BUSY, **SLOW}], "traffic"),
        ([SLOW, {**BUSY, **SLOW}], "latency"),
        ([FAILING, FAILING, {**SLOW, **FAILING}], "errors"),
        # Momentary values change sooner than windowed ones, so their order shows nothing.
        ([FULL, FULL, {**FULL, **FAILING}], None),
        ([{"worker.1": "starting"}, {"worker.1": "starting", **FAILING}], None),
        # A fluctuation is not a new onset, and neither is a deviation that ended long ago.
        ([BUSY, {}, {**BUSY, **SLOW}], "traffic"),
        ([BUSY, *[{}] * 5, SLOW, {**SLOW, **FAILING}], "latency"),
        # A signal that was normal for four polls has begun to deviate again; three normal polls are a fluctuation.
        ([SLOW, *[{}] * 3, BUSY, {**BUSY, **SLOW}], "traffic"),
        ([SLOW, *[{}] * 2, BUSY, {**BUSY, **SLOW}], "latency"),
        # Several signals at once, a single one, or none.
        ([{**BUSY, **SLOW}], None),
        ([SLOW, SLOW], None),
        ([{}], None),
        # A small deviation is within the usual range.
        ([{"traffic.rps": 12.0}, SLOW, {"traffic.rps": 12.0, **SLOW}], None),
        # So is a latency that rose by less than 50 ms, although it is more than twice as high.
        ([{"latency.p95_ms": 60.0}, {**BUSY, "latency.p95_ms": 60.0}], None),
        ([{"latency.p95_ms": 80.0}, {**BUSY, "latency.p95_ms": 80.0}], "latency"),
    ],
)
def test_first_signal_to_leave_its_range_is_found(rows: list[dict[str, Any]], told: str | None) -> None:
    assert first(*rows) == told


def test_anomaly_from_the_first_poll_on_has_no_onset() -> None:
    assert first_to_leave([poll(0, **BUSY), poll(1, **BUSY, **SLOW)], BASELINE.usual) is None
    assert first_to_leave([], BASELINE.usual) is None


@pytest.mark.parametrize(
    ("kind", "signal", "usual", "bound"),
    [
        ("traffic", "traffic.rps", SignalBaseline(100.0, 1.0, 20), 130.0),
        ("traffic", "traffic.rps", SignalBaseline(100.0, 10.0, 20), 140.0),
        ("traffic", "traffic.rps", SignalBaseline(0.0, 0.0, 20), 0.0),
        ("latency", "latency.p95_ms", SignalBaseline(100.0, 1.0, 20), 200.0),
        ("latency", "latency.p95_ms", SignalBaseline(20.0, 0.0, 20), 70.0),
        ("errors", "errors.pct", SignalBaseline(10.0, 0.0, 20), 11.0),
    ],
)
def test_signal_deviates_above_its_bound(kind: str, signal: str, usual: SignalBaseline, bound: float) -> None:
    other = "latency.p95_ms" if kind == "errors" else "errors.pct"
    known = {signal: usual, other: SignalBaseline(0.0, 0.0, 20)}

    def first_at(value: float) -> str | None:
        polls = [Snapshot(0), Snapshot(1, numbers={signal: value}), Snapshot(2, numbers={signal: value, other: 1e6})]
        return first_to_leave(polls, known.get)

    assert first_at(bound) is None
    assert first_at(bound + 0.005) == kind


def test_signal_without_a_baseline_does_not_deviate() -> None:
    known = {"traffic.rps": SignalBaseline(10.0, 0.0, 20)}

    assert first_to_leave([poll(0), poll(1, **BUSY), poll(2, **BUSY, **SLOW)], known.get) is None


@given(st.lists(st.sampled_from([{}, BUSY, FULL, SLOW, FAILING, {**BUSY, **SLOW}]), max_size=30))
def test_first_signal_is_still_anomalous(rows: list[dict[str, float]]) -> None:
    told = first(*rows)
    names = {"traffic": "traffic.rps", "latency": "latency.p95_ms", "errors": "errors.pct"}
    assert told is None or names[told] in rows[-1]
