"""Durations as text for people."""

from __future__ import annotations

from typing import Final

_SECOND_MS: Final = 1_000.0
_DAY_MS: Final = 86_400 * _SECOND_MS
_UNITS: Final = (
    (120 * _SECOND_MS, _SECOND_MS, "s"),
    (7_200 * _SECOND_MS, 60 * _SECOND_MS, "min"),
    (2 * _DAY_MS, 3_600 * _SECOND_MS, "h"),
    (730 * _DAY_MS, _DAY_MS, "days"),
)
"""`(limit, size, name)`: a duration below the limit is shown in this unit; the first such unit is used."""


def duration_text(duration_ms: float) -> str:
    """Return a duration in ms as text in a unit that fits it: `340 ms`, `2.5 s`, `12.3 min`, `5 h`, `9 days`, `3.4 years`."""
    if duration_ms < _SECOND_MS:
        return f"{duration_ms:.0f} ms"
    fitting = ((size, name) for limit, size, name in _UNITS if duration_ms < limit)
    size, name = next(fitting, (365.25 * _DAY_MS, "years"))
    return f"{f'{duration_ms / size:,.1f}'.removesuffix('.0')} {name}"
