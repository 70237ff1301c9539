"""Measure the difference between a server's clock and the local one; either may be wrong. Pure functions."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from relab.core.clock import EPOCH, MICROSECOND

_COARSE_US: Final = 2_000_000
"""Smaller differences, in microseconds, are ignored: `Date` has whole seconds, and an answer takes time."""


def clock_skew_us(date: str | None, now_us: int) -> int:
    """Return how many microseconds the server's clock is ahead of the local clock; negative if it is behind.

    The result is 0 if the clocks differ by at most 2 s, or if `date` is None or not a valid date.

    Args:
        date: the `Date` header of the answer (RFC 9110, 6.6.1).
        now_us: the local time when the answer came, in microseconds since 1970.
    """
    if date is None:
        return 0
    try:
        sent_at = parsedate_to_datetime(date[:100])
        us = (sent_at.replace(tzinfo=sent_at.tzinfo or UTC) - EPOCH) // MICROSECOND
    except (ValueError, OverflowError, TypeError, IndexError):
        return 0
    ahead = us - now_us
    return ahead if abs(ahead) > _COARSE_US else 0
