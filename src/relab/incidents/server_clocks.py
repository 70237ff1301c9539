"""The clocks of those who answer: what they say of times is by theirs, and theirs may be wrong, or ours. Pure."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from relab.core.clock import EPOCH, MICROSECOND

_COARSE_US: Final = 2_000_000
"""`Date` tells whole seconds, and an answer takes its time: less than this is no difference."""


def ahead_us(date: str | None, now_us: int) -> int:
    """Return how far the clock of whoever answers is ahead of ours; 0 where it is not, or does not tell.

    Args:
        date: the `Date` header of the answer (RFC 9110, 6.6.1).
        now_us: by our clock, as it came.
    """
    if date is None:
        return 0
    try:
        told = parsedate_to_datetime(date[:100])
        us = (told.replace(tzinfo=told.tzinfo or UTC) - EPOCH) // MICROSECOND
    except (ValueError, OverflowError, TypeError, IndexError):
        return 0
    ahead = us - now_us
    return ahead if abs(ahead) > _COARSE_US else 0
