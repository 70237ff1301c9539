"""A clock whose time changes only when a test moves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MovableClock:
    """A `Clock` whose time is a number that the test sets."""

    us: int = 1_700_000_000_000_000

    def now_us(self) -> int:
        """Return the time that the test has set."""
        return self.us

    def move(self, seconds: float) -> None:
        """Move the time by some seconds, forward or back."""
        self.us += int(seconds * 1_000_000)
