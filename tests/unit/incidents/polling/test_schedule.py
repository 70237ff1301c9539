"""The poll schedule: evenly spaced polls, and an earlier one if a pressing anomaly needs confirmation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.polling.schedule import EARLY_SHARE, PollSchedule, requested_window_s

STEPS = st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=50)


def test_polls_are_evenly_spaced_for_any_duration() -> None:
    rhythm = PollSchedule(10.0, 100.0)
    assert [rhythm.after(now, is_pressing=False) for now in (100.5, 112.0, 129.9)] == [110.0, 120.0, 130.0]


def test_missed_polls_are_skipped() -> None:
    rhythm = PollSchedule(10.0, 0.0)
    assert rhythm.after(35.0, is_pressing=False) == 35.0
    assert rhythm.after(36.0, is_pressing=False) == 45.0


def test_pressing_anomaly_is_polled_soon_but_not_continuously() -> None:
    rhythm = PollSchedule(10.0, 0.0)
    found = [rhythm.after(0.0, is_pressing=True) for _ in range(4)]
    assert found == pytest.approx([3.0, 13.0, 16.0, 26.0])


@given(STEPS)
def test_next_poll_is_never_in_the_past_and_polls_are_not_clustered(steps: list[tuple[float, bool]]) -> None:
    rhythm, now, due = PollSchedule(10.0, 0.0), 0.0, [0.0]
    for took, is_pressing in steps:
        now = due[-1] + took
        due.append(rhythm.after(now, is_pressing=is_pressing))
        assert due[-1] >= now
    for before, after in zip(due, due[2:], strict=False):
        assert after - before >= 10.0 * (1 + EARLY_SHARE) - 1e-6


def test_polls_request_figures_of_some_intervals_but_not_of_long_times() -> None:
    assert [requested_window_s(interval_s) for interval_s in (0.2, 2.0, 5.0, 300.0)] == [5, 8, 20, 20]
