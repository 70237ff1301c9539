"""Store the last polls of a target, and wake the consumers that wait for the next poll."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from relab.incidents.models import Snapshot

_MAX_POLLS: Final = 2_000


class PollFeed:
    """Passes polls (the values that the target had at one time) from a producer to waiting consumers.

    All calls come from one event loop.
    """

    def __init__(self) -> None:
        self._polls: deque[tuple[int, Snapshot]] = deque(maxlen=_MAX_POLLS)
        self._number = 0
        self._arrival = asyncio.Condition()

    @property
    def number(self) -> int:
        """How many polls were added so far. Polls are numbered from 1, so this is also the number of the last poll."""
        return self._number

    @property
    def latest(self) -> Snapshot | None:
        """The last poll (values of the target at one time); None before the first poll."""
        return self._polls[-1][1] if self._polls else None

    @property
    def polls(self) -> list[Snapshot]:
        """The last polls, oldest first; at most 2,000."""
        return [poll for _, poll in self._polls]

    async def clear(self) -> None:
        """Delete all stored polls (values of the target). The numbers of later polls do not start at 1 again."""
        async with self._arrival:
            self._polls.clear()

    async def put(self, poll: Snapshot) -> None:
        """Add a poll (values of the target at one time), and wake the tasks that wait for it in the method `after`."""
        async with self._arrival:
            self._number += 1
            self._polls.append((self._number, poll))
            self._arrival.notify_all()

    async def after(self, number: int) -> list[Snapshot]:
        """Return the stored polls (values of the target) after the poll with the number `number`, oldest first.

        Wait if there is no later poll yet. The polls are numbered from 1 in the order in which they were added.
        """
        async with self._arrival:
            await self._arrival.wait_for(lambda: bool(self._polls) and self._number > number)
            return [poll for at, poll in self._polls if at > number]
