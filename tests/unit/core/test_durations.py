"""Durations as text: the unit fits the duration."""

from __future__ import annotations

import pytest

from relab.core.durations import duration_text

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0 ms"),
        (340.4, "340 ms"),
        (2_500, "2.5 s"),
        (30_000, "30 s"),
        (119_000, "119 s"),
        (738 * SECOND_MS, "12.3 min"),
        (5 * 3_600 * SECOND_MS, "5 h"),
        (9 * DAY_MS, "9 days"),
        (3.4 * 365.25 * DAY_MS, "3.4 years"),
        (1e15, "31,688.1 years"),
    ],
)
def test_duration_is_shown_in_a_unit_that_fits_it(duration_ms: float, text: str) -> None:
    assert duration_text(duration_ms) == text
