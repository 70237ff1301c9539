"""Clock skew of a server, measured from its `Date` header."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.transport.clock_skew import clock_skew_us

NOW = datetime(2026, 3, 1, 12, 0, 0, 600_000, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("ahead_s", "least_s", "most_s"), [(7_200, 7_199, 7_201), (-90, -91, -89), (1, 0, 0), (-1, 0, 0)]
)
def test_clock_skew_below_the_resolution_of_a_date_is_ignored(ahead_s: int, least_s: int, most_s: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=ahead_s), usegmt=True)
    assert least_s * 1_000_000 <= clock_skew_us(date, NOW_US) <= most_s * 1_000_000


@pytest.mark.parametrize("date", [None, "", "soon", "Thu, 99 Foo 2026 00:00:00 GMT", "x" * 100_000])
def test_invalid_date_gives_no_skew(date: str | None) -> None:
    assert clock_skew_us(date, NOW_US) == 0


@given(st.text(max_size=60))
def test_any_date_header_is_read(date: str) -> None:
    assert isinstance(clock_skew_us(date, NOW_US), int)
