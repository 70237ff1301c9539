"""Stored signals of an incident: of bounded size, and read back from any content."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relab.core.json import canonical_json
from relab.incidents.models import Snapshot
from relab.incidents.postmortem.models import Signals
from relab.incidents.postmortem.signal_events import (
    BEFORE_S,
    KIND,
    MAX_POINTS,
    MAX_SHOWN,
    MAX_SIGNALS,
    dump_signals,
    load_signals,
    recorded,
    signals_event,
    signals_of,
    thinned,
)
from relab.incidents.storage.timeline import MAX_EVENT_BYTES
from support.incidents.acts import NOW_US, SECOND_US
from support.incidents.postmortems import event


def series(count: int, peak_at: int = -1) -> list[Snapshot]:
    return [
        Snapshot(NOW_US + number * SECOND_US, numbers={"errors.pct": 99.0 if number == peak_at else 1.0, "odd": number / 7})
        for number in range(count)
    ]  # fmt: skip


def test_signals_are_read_back_unchanged() -> None:
    found = signals_of(series(20), ["odd"])
    read = load_signals(dump_signals(found))
    assert read.times_us == found.times_us
    assert read.points("errors.pct") == found.points("errors.pct")
    assert load_signals(dump_signals(Signals())) == Signals()


def test_outlier_of_many_polls_is_kept() -> None:
    found = signals_of(series(5_000, peak_at=2_345))
    assert len(found.times_us) <= MAX_POINTS
    assert max(value for _, value in found.points("errors.pct")) == 99.0


def test_signals_event_fits_the_size_limit_of_a_timeline_event() -> None:
    names = [f"signal.{number}" for number in range(50)]
    polls = [
        Snapshot(NOW_US + number * SECOND_US, numbers=dict.fromkeys(names, number * 1.2345678 + 1000000.0))
        for number in range(2_000)
    ]
    for most in (MAX_POINTS, MAX_SHOWN):
        told = signals_event(polls, NOW_US, names, once="signals.learn", most=most)
        assert len(canonical_json(told.content)) < MAX_EVENT_BYTES * 0.9
        assert len(load_signals(told.content).numbers) == MAX_SIGNALS


def test_old_polls_are_left_out_and_a_later_signal_is_kept() -> None:
    polls = [
        Snapshot(NOW_US - int(2 * BEFORE_S * SECOND_US), numbers={"errors.pct": 1.0}),
        Snapshot(NOW_US, numbers={"errors.pct": 2.0}),
        Snapshot(NOW_US + SECOND_US, numbers={"errors.pct": 3.0, "late": 4.0}),
    ]
    found = load_signals(signals_event(polls, NOW_US, ["late"], once="x").content)
    assert found.points("errors.pct") == [(NOW_US, 2.0), (NOW_US + SECOND_US, 3.0)]
    assert found.points("late") == [(NOW_US + SECOND_US, 4.0)]


def test_overlapping_events_give_each_row_once() -> None:
    first, second = (dump_signals(signals_of(series(20)[start:end])) for start, end in ((0, 12), (8, 20)))
    found = recorded([event(1, KIND, content=first), event(2, "thought"), event(3, KIND, content=second)])
    assert found == signals_of(series(20))


def test_poll_stored_twice_has_one_time() -> None:
    polls = [Snapshot(NOW_US + number * 1_000_777, numbers={"errors.pct": 1.0}) for number in range(10)]
    parts = [dump_signals(signals_of(polls[start:])) for start in (0, 3)]
    found = recorded([event(number, KIND, content=part) for number, part in enumerate(parts, 1)])
    assert len(found.times_us) == len(polls)


def test_user_visible_signals_come_first() -> None:
    numbers = {"cache.errors": [1.0], "errors.pct": [2.0], "a": [3.0], "latency.p95_ms": [4.0]}
    found = recorded([event(1, KIND, content={"began_us": NOW_US, "after_ms": [0], "numbers": numbers})])
    assert list(found.numbers) == ["errors.pct", "latency.p95_ms", "cache.errors", "a"]


def test_extreme_points_are_kept_when_thinning() -> None:
    points = [(number, 5.0) for number in range(3_000)]
    points[1_234], points[2_001] = (1_234, 90.0), (2_001, 0.0)
    shown = thinned(points)
    assert len(shown) == MAX_SHOWN
    assert {(1_234, 90.0), (2_001, 0.0)} <= set(shown)
    assert thinned(points[:10]) == points[:10]


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(began=_ANY | st.just(NOW_US), after=_ANY | st.lists(st.integers(0, 9), max_size=4), numbers=_ANY)
def test_signals_are_read_from_any_timeline(began: Any, after: Any, numbers: Any) -> None:
    for told in (numbers, {"errors.pct": numbers}):
        found = recorded([event(1, KIND, content={"began_us": began, "after_ms": after, "numbers": told})])
        assert list(found.times_us) == sorted(set(found.times_us))
        assert all(len(values) == len(found.times_us) for values in found.numbers.values())
