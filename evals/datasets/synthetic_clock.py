"""Synthetic times for data without timestamps.

A conversation log has an order but no times. Its runs start at a fixed base time, and
entry `i` happens `i` seconds later, which preserves only the order. Ends and latencies
are omitted, so that no analysis can use durations of synthetic times.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

BASE = datetime(2024, 1, 1, tzinfo=UTC)


def moment(index: int) -> str:
    """Return the synthetic time of the entry with the number `index`, from 0, as RFC 3339 text."""
    return (BASE + timedelta(seconds=index)).isoformat().removesuffix("+00:00") + "Z"
