"""The polls of a target as they come, for those who wait for the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from relab.incidents.models import Snapshot

_MOST: Final = 2_000


class Feed:
    """Hands polls from the one who makes them to those who wait for them, within one event loop."""

    def __init__(self) -> None:
        self._polls: deque[tuple[int, Snapshot]] = deque(maxlen=_MOST)
        self._number = 0
        self._came = asyncio.Condition()

    @property
    def number(self) -> int:
        """How many polls there were so far."""
        return self._number

    @property
    def latest(self) -> Snapshot | None:
        """The last poll."""
        return self._polls[-1][1] if self._polls else None

    @property
    def polls(self) -> list[Snapshot]:
        """The last polls, in order; some 2,000 of them."""
        return [poll for _, poll in self._polls]

    async def clear(self) -> None:
        """Forget the polls of until now; their numbers are not used again."""
        async with self._came:
            self._polls.clear()

    async def put(self, poll: Snapshot) -> None:
        """Hand out a poll."""
        async with self._came:
            self._number += 1
            self._polls.append((self._number, poll))
            self._came.notify_all()

    async def after(self, number: int) -> list[Snapshot]:
        """Return the polls that came after the first `number`; wait for one if there is none."""
        async with self._came:
            await self._came.wait_for(lambda: self._number > number)
            return [poll for at, poll in self._polls if at > number]
