"""The poll feed: each reader gets every poll once, in order."""

from __future__ import annotations

import asyncio

from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed


def test_each_reader_gets_every_poll_once_and_in_order() -> None:
    async def read(feed: PollFeed) -> list[int]:
        found: list[int] = []
        number = 0
        while len(found) < 5:
            came = await feed.after(number)
            number = feed.number
            found.extend(poll.at_us for poll in came)
        return found

    async def go() -> list[list[int]]:
        feed = PollFeed()
        readers = [asyncio.create_task(read(feed)) for _ in range(3)]
        for at_us in range(1, 6):
            await feed.put(Snapshot(at_us=at_us))
            await asyncio.sleep(0)
        assert feed.latest == Snapshot(at_us=5)
        assert [poll.at_us for poll in feed.polls] == [1, 2, 3, 4, 5]
        return await asyncio.gather(*readers)

    assert asyncio.run(go()) == [[1, 2, 3, 4, 5]] * 3


def test_consumer_waits_for_a_poll_after_all_polls_are_deleted() -> None:
    async def go() -> list[Snapshot]:
        feed = PollFeed()
        await feed.put(Snapshot(at_us=1))
        await feed.clear()
        waiting = asyncio.create_task(feed.after(0))
        await asyncio.sleep(0)
        await feed.put(Snapshot(at_us=2))
        return await waiting

    assert asyncio.run(go()) == [Snapshot(at_us=2)]
