"""Following progress from an API process: one poller for all its subscribers.

However many subscribers there are, the database sees one small query per interval, and a
topic's events are kept once. Redis, where there is one, only makes the poller look sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import structlog
from anyio import to_thread

from relab.progress.models import ProgressEvent
from relab.progress.service import ProgressLog
from relab.progress.signal import ProgressSignal
from relab.storage.errors import DatabaseUnavailableError

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Topic:
    """What this process knows of a topic that somebody follows."""

    events: list[ProgressEvent]
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0


class ProgressTailer:
    """Hands new events to the followers of their topics. Lives on one event loop."""

    def __init__(self, log: ProgressLog, signal: ProgressSignal, *, poll_s: float, heartbeat_s: float) -> None:
        self._log = log
        self._signal = signal
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._topics: dict[str, _Topic] = {}
        self._wake = asyncio.Event()
        self._followed = asyncio.Event()

    @property
    def follower_count(self) -> int:
        """How many subscribers this process serves right now."""
        return sum(topic.followers for topic in self._topics.values())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Poll while the block runs."""
        tasks = [asyncio.create_task(self._signal.listen(self._wake)), asyncio.create_task(self._poll())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(self, topic_id: str, after: int = 0) -> AsyncGenerator[ProgressEvent | None]:
        """Yield the topic's events numbered above `after`, then new ones; None is a heartbeat.

        Ends by itself after the event that ends the work. Closing the generator (a client
        that vanished) frees what the subscription held.
        """
        topic = self._topics.setdefault(topic_id, _Topic([]))
        topic.followers += 1
        self._followed.set()
        try:
            await self._refresh(topic_id, topic)
            position = 0
            while True:
                changed = topic.changed
                for event in topic.events[position:]:
                    if event.seq > after:
                        yield event
                position = len(topic.events)
                if topic.events and topic.events[-1].is_terminal:
                    return
                # Events may have come while a slow client took the last ones.
                if changed.is_set():
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), self._heartbeat_s)
                except TimeoutError:
                    yield None
        finally:
            topic.followers -= 1
            if topic.followers == 0 and self._topics.get(topic_id) is topic:
                del self._topics[topic_id]

    async def _refresh(self, topic_id: str, topic: _Topic) -> None:
        seen = topic.last_seq
        events = await to_thread.run_sync(self._log.read_after, topic_id, seen)
        # Another refresh may have appended the same events while this one waited.
        fresh = [event for event in events if event.seq > topic.last_seq]
        if fresh:
            topic.events.extend(fresh)
            topic.changed.set()
            topic.changed = asyncio.Event()

    async def _poll(self) -> None:
        while True:
            if not self._topics:
                self._followed.clear()
                await self._followed.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll_s)
            self._wake.clear()
            topics = dict(self._topics)
            if not topics:
                continue
            try:
                latest = await to_thread.run_sync(self._log.latest_seqs, list(topics))
                for topic_id, topic in topics.items():
                    if latest.get(topic_id, 0) > topic.last_seq:
                        await self._refresh(topic_id, topic)
            except DatabaseUnavailableError as error:
                # Subscribers keep their heartbeats; their events come when the database is back.
                _log.warning("progress_poll_failed", error=str(error))
