"""Times for data that has none.

A conversation log keeps an order and no clock. Its runs begin at a fixed base time and
entry `i` happens `i` seconds later: the order survives, and nothing else is claimed.
Ends and latencies are left out, so that no duration can be read into made-up times.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

BASE = datetime(2024, 1, 1, tzinfo=UTC)


def moment(index: int) -> str:
    """Return the RFC 3339 time of entry `index`, counted from 0."""
    return (BASE + timedelta(seconds=index)).isoformat().removesuffix("+00:00") + "Z"
