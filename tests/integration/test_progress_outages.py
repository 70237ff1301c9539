"""Progress streams during an outage of Redis or the database, and with 1,000 followers."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Collection, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import structlog

from relab.core.clock import SystemClock
from relab.core.ids import new_id
from relab.progress.models import ProgressEvent
from relab.progress.repository import TOPICS_PER_QUERY
from relab.progress.service import ProgressLog
from relab.progress.signal import PollingSignal, RedisSignal
from relab.progress.tailer import ProgressTailer
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from rig.servers import RedisServer
from support.progress.followers import PATIENCE_S, Stream, counted_statements, next_item, queried, to_end
from support.storage.migrated import migrate

pytestmark = pytest.mark.anyio

FOLLOWERS = 1_000
BYTES_PER_FOLLOWER = 30_000


@pytest.fixture
def anyio_backend() -> str:
    """relab runs on asyncio alone."""
    return "asyncio"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database."""
    opened = Database.open(f"sqlite:///{tmp_path}/progress.db")
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    server = RedisServer.create()
    yield server
    server.destroy()


@pytest.fixture
def stream(database: Database, own_redis: RedisServer) -> Iterator[Stream]:
    """A progress log with signals by a Redis that a test may stop, and a poll only once an hour."""
    signal = RedisSignal(own_redis.url)
    with structlog.testing.capture_logs():
        yield Stream(database, own_redis.url, signal, poll_s=3_600.0)
    signal.close()


async def test_events_come_by_polling_while_redis_is_down(stream: Stream, own_redis: RedisServer) -> None:
    topic = new_id()
    async with stream.tailing(poll_s=0.05) as tailer, aclosing(tailer.follow(topic)) as followed:
        await stream.publish(topic, "with Redis")
        assert await next_item(followed) is not None
        own_redis.stop()
        await stream.publish(topic, "without")
        await stream.publish(topic, "the end", status="done")
        async with asyncio.timeout(PATIENCE_S):
            assert [event.message async for event in followed if event is not None] == ["without", "the end"]


async def test_readers_get_missed_events_after_redis_returns(stream: Stream, own_redis: RedisServer) -> None:
    topic = new_id()
    async with stream.tailing() as tailer, aclosing(tailer.follow(topic)) as followed:
        await stream.publish(topic, "before")
        assert await next_item(followed) is not None
        own_redis.stop()
        await stream.publish(topic, "missed")
        own_redis.start()
        # Only the new subscription can deliver this event: its signal is lost, and no poll is due.
        missed = await next_item(followed)
        assert missed is not None
        assert missed.message == "missed"
        await stream.publish(topic, "after", status="done")
        last = await next_item(followed)
        assert last is not None
        assert last.message == "after"


class LogOfAFlakyDatabase(ProgressLog):
    """A progress log whose database is unavailable during the first three polls."""

    failures_left = 3

    def latest_seqs(self, topics: Collection[str]) -> dict[str, int]:
        """Raise in the first three calls; query in later ones."""
        if self.failures_left > 0:
            self.failures_left -= 1
            raise DatabaseUnavailableError("gone")
        return super().latest_seqs(topics)


async def test_followers_keep_their_stream_while_the_database_is_away(database: Database) -> None:
    log = LogOfAFlakyDatabase(database, SystemClock(), PollingSignal())
    tailer = ProgressTailer(log, PollingSignal(), poll_s=0.01, heartbeat_s=0.01)
    topic = new_id()
    with structlog.testing.capture_logs() as logs:
        async with tailer.running(), aclosing(tailer.follow(topic)) as followed:
            # After the first heartbeat only a poll can deliver the event.
            assert await next_item(followed) is None
            await asyncio.to_thread(log.publish, topic, status="done", step="s", pct=100, message="m")
            async with asyncio.timeout(PATIENCE_S):
                events = [event.message async for event in followed if event is not None]
    assert events == ["m"]
    assert log.failures_left == 0
    assert [entry["event"] for entry in logs].count("progress_poll_failed") == 3


@pytest.mark.full
async def test_a_thousand_idle_followers_cost_little_memory_and_few_queries(database: Database) -> None:
    stream = Stream(database, "", PollingSignal(), poll_s=0.05)
    topics = [new_id() for _ in range(FOLLOWERS)]
    for topic in topics:
        await stream.publish(topic, "queued")
    async with stream.tailing() as tailer:
        assert len(await asyncio.gather(*(_first(tailer, topic) for topic in topics[:50]))) == 50
        gc.collect()
        tracemalloc.start()
        followers = [tailer.follow(topic) for topic in topics]
        firsts = await asyncio.gather(*(next_item(follower) for follower in followers))
        assert {event.message for event in firsts if event is not None} == {"queued"}
        waiting = [asyncio.create_task(next_item(follower)) for follower in followers]
        await asyncio.sleep(0)
        assert tailer.follower_count == FOLLOWERS
        gc.collect()
        per_follower = tracemalloc.get_traced_memory()[0] / FOLLOWERS
        tracemalloc.stop()
        assert per_follower < BYTES_PER_FOLLOWER

        began = time.monotonic()
        with counted_statements(database) as statements:
            await queried(statements, 10 * FOLLOWERS // TOPICS_PER_QUERY)
        polls = (time.monotonic() - began) / stream.poll_s + 1
        assert len(statements) <= polls * -(-FOLLOWERS // TOPICS_PER_QUERY)

        await stream.publish(topics[0], "the end", status="done")
        last = await waiting[0]
        assert last is not None
        assert last.message == "the end"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for follower in followers:
            await follower.aclose()
        assert tailer.follower_count == 0


async def _first(tailer: ProgressTailer[ProgressEvent], topic: str) -> ProgressEvent | None:
    async with aclosing(tailer.follow(topic)) as follower:
        return await next_item(follower)


async def test_the_end_of_finished_work_needs_no_running_tailer(database: Database) -> None:
    stream = Stream(database, "", PollingSignal(), poll_s=0.05)
    topic = new_id()
    await stream.publish(topic, "over", status="done")
    tailer = ProgressTailer(stream.log, stream.signal, poll_s=60, heartbeat_s=60)
    assert [event.message for event in await to_end(tailer, topic)] == ["over"]
