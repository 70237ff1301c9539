"""Follow progress events in a server process: one poller reads them for all subscribers.

For any number of subscribers, the database gets one small query per poll interval, and the events of a topic are held
in memory once. Redis, if configured, only makes the poller poll earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from anyio import to_thread

from relab.core.logging import get_logger
from relab.progress.signal import ProgressSignal
from relab.storage.errors import DatabaseUnavailableError

BURST_S = 0.02
CANCEL_AGAIN_S = 0.2

_log = get_logger(__name__)


class NumberedEvent(Protocol):
    """An event of a topic. A topic is the id of the analysis, training, rollout or incident that has the events."""

    @property
    def seq(self) -> int:
        """The number of the event; numbers count up from 1 within the topic."""
        ...

    @property
    def is_terminal(self) -> bool:
        """Whether the analysis, training, rollout or incident of the topic ended with this event."""
        ...


Event = TypeVar("Event", bound=NumberedEvent)
Event_co = TypeVar("Event_co", bound=NumberedEvent, covariant=True)


class EventLog(Protocol[Event_co]):
    """The stored events of all topics; every process reads the same events.

    Examples of topics are analyses, with events about their progress, and incidents, with the events of their timeline.
    """

    def read_after(self, topic_id: str, seq: int = 0, /) -> Sequence[Event_co]:
        """Return the events of a topic with a number greater than `seq`, in order.

        If there are many events, only the first ones are returned. The caller then calls again, with the number of the
        last returned event as `seq`.
        """
        ...

    def latest_seqs(self, topic_ids: Collection[str], /) -> Mapping[str, int]:
        """Return the number of each topic's last event, as `{topic: number}`; topics without events are left out."""
        ...


@dataclass(slots=True)
class _Topic(Generic[Event]):
    """A topic that has followers (subscribers) in this process: its events so far, and whether its work has ended.

    The work, such as an analysis or an incident, emits the events.
    """

    events: list[Event]
    followers: int = 0
    is_over: bool = False
    """Whether a terminal event was read; further events may follow it."""
    deleted: bool = False
    """Whether the events were deleted, together with their work."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    def wake_followers(self) -> None:
        """Wake the followers that wait for new events of this topic."""
        self.changed.set()
        self.changed = asyncio.Event()


class ProgressTailer(Generic[Event]):
    """Polls for new events of topics, and passes each event to the followers (subscribers) of its topic.

    All coroutines must run on one event loop.

    Args:
        log: the stored events.
        signal: starts the next poll at once when there may be new events.
        poll_s: the time from one poll to the next, in seconds, if no signal arrives.
        heartbeat_s: a follower that gets no event for this number of seconds gets a heartbeat (None).
    """

    def __init__(self, log: EventLog[Event], signal: ProgressSignal, *, poll_s: float, heartbeat_s: float) -> None:
        self._log = log
        self._signal = signal
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._topics: dict[str, _Topic[Event]] = {}
        self._wake = asyncio.Event()
        self._followed = asyncio.Event()
        self._ending = False
        self._follower_count = 0

    @property
    def follower_count(self) -> int:
        """The number of subscribers to events that this process serves at present; any thread may read it."""
        return self._follower_count

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Poll for events while the `async with` block runs."""
        tasks = [asyncio.create_task(self._signal.listen(self._wake)), asyncio.create_task(self._poll())]
        for task in tasks:
            task.add_done_callback(_report_failure)
        try:
            yield
        finally:
            pending = set(tasks)
            while pending:
                # Cancel repeatedly: redis-py can swallow a cancellation while it connects.
                for task in pending:
                    task.cancel()
                _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)

    def end_all(self) -> None:
        """End all current and future subscriptions because the server stops.

        Clients can later resume with the header `Last-Event-ID`.
        """
        self._ending = True
        for topic in self._topics.values():
            topic.wake_followers()

    async def follow(self, topic_id: str, after: int = 0) -> AsyncGenerator[Event | None]:
        """Yield the events of a topic with a number greater than `after`, then new events; None is a heartbeat.

        The generator ends after a terminal event (one that ends the work), after the deletion of the topic, or when the
        server stops. Closing the generator ends the subscription.
        """
        topic = self._topics.setdefault(topic_id, _Topic[Event]([]))
        topic.followers += 1
        self._follower_count += 1
        self._followed.set()
        try:
            await self._refresh(topic_id, topic)
            position = 0
            while True:
                changed = topic.changed
                # New events may arrive while a slow client receives one, so the length is read each time.
                while position < len(topic.events):
                    event = topic.events[position]
                    position += 1
                    if event.seq > after:
                        yield event
                if self._ending or topic.deleted or topic.is_over:
                    return
                if not await _set_within(changed, self._heartbeat_s):
                    yield None
        finally:
            topic.followers -= 1
            self._follower_count -= 1
            if topic.followers == 0 and self._topics.get(topic_id) is topic:
                del self._topics[topic_id]

    async def _refresh(self, topic_id: str, topic: _Topic[Event]) -> None:
        seen = topic.last_seq
        events = await to_thread.run_sync(self._log.read_after, topic_id, seen)
        # A concurrent refresh may have appended the same events while this refresh waited.
        fresh = [event for event in events if event.seq > topic.last_seq]
        if fresh:
            topic.events.extend(fresh)
            topic.is_over = topic.is_over or any(event.is_terminal for event in fresh)
            topic.wake_followers()

    async def _poll(self) -> None:
        while True:
            if not self._topics:
                self._followed.clear()
                await self._followed.wait()
            if await _set_within(self._wake, self._poll_s):
                # Wait briefly, so that a burst of signals causes one poll.
                await asyncio.sleep(min(BURST_S, self._poll_s))
            self._wake.clear()
            topics = dict(self._topics)
            if not topics:
                continue
            begun = {topic_id for topic_id, topic in topics.items() if topic.events}
            try:
                latest = await to_thread.run_sync(self._log.latest_seqs, list(topics))
                for topic_id, topic in topics.items():
                    seq = latest.get(topic_id, 0)
                    if seq > topic.last_seq:
                        await self._refresh(topic_id, topic)
                    elif seq == 0 and topic_id in begun:
                        topic.deleted = True
                        topic.wake_followers()
            except DatabaseUnavailableError as error:
                # Subscribers still get heartbeats, and get their events when the database is available again.
                _log.warning("progress_poll_failed", error=str(error))


def _report_failure(task: asyncio.Task[None]) -> None:
    """Log the error that ended a background task of the tailer: the poller, or the task that listens for signals.

    Without the poller, followers get no new events. Without the other task, they get them only at regular polls.
    """
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("progress_tailer_failed", exc_info=error)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until `event` is set; return False if it is not set within `seconds`."""
    # `asyncio.wait_for` is not used, because in Python 3.11 it can swallow a cancellation.
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
