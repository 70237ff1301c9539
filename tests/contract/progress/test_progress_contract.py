"""Followers of a progress stream: all events in order, resuming, heartbeats, concurrent writers, and cleanup."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing

import pytest

from relab.core.ids import new_id
from rig.children import read_line, send_line
from support.lab.forked import forked
from support.progress.followers import PATIENCE_S, Stream, followed_by, next_item, quiet, to_end
from support.storage.transactions import roll_back

pytestmark = pytest.mark.anyio


async def test_late_follower_gets_all_events_and_the_end(stream: Stream) -> None:
    topic = new_id()
    await stream.publish(topic, "a", "b")
    await stream.publish(topic, "c", status="done")
    async with stream.tailing() as tailer:
        events = await to_end(tailer, topic)
    assert [(event.seq, event.message, event.status) for event in events] == [
        (1, "a", "running"), (2, "b", "running"), (3, "c", "done"),
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["done", "failed"])
async def test_stream_sends_events_live_and_ends_after_the_last(stream: Stream, status: str) -> None:
    topic, other = new_id(), new_id()
    async with stream.tailing() as tailer, aclosing(tailer.follow(topic)) as followed:
        waiting = asyncio.create_task(next_item(followed))
        for number in range(5):
            await stream.publish(other, f"of another topic {number}")
            await stream.publish(topic, str(number))
            event = await waiting
            assert event is not None
            assert event.seq == number + 1
            assert event.message == str(number)
            waiting = asyncio.create_task(next_item(followed))
        await stream.publish(topic, "end", status=status)
        last = await waiting
        assert last is not None
        assert last.status == status
        assert last.is_terminal is True
        with pytest.raises(StopAsyncIteration):
            await next_item(followed)
        assert tailer.follower_count == 0


@pytest.mark.parametrize(("after", "expected"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (3, [4]), (4, []), (99, [])])
async def test_resuming_follower_gets_only_missed_events(stream: Stream, after: int, expected: list[int]) -> None:
    topic = new_id()
    await stream.publish(topic, "1", "2", "3")
    await stream.publish(topic, "4", status="done")
    async with stream.tailing() as tailer:
        assert [event.seq for event in await to_end(tailer, topic, after)] == expected


async def test_follower_that_resumes_during_the_work_gets_later_events_live(stream: Stream) -> None:
    topic = new_id()
    await stream.publish(topic, "1", "2")
    async with stream.tailing() as tailer, aclosing(tailer.follow(topic, 2)) as followed:
        waiting = asyncio.create_task(next_item(followed))
        await stream.publish(topic, "3")
        event = await waiting
        assert event is not None
        assert event.seq == 3


async def test_idle_stream_gets_heartbeats(stream: Stream) -> None:
    topic = new_id()
    async with stream.tailing(heartbeat_s=0.01) as tailer, aclosing(tailer.follow(topic)) as followed:
        assert [await next_item(followed) for _ in range(3)] == [None, None, None]
        await stream.publish(topic, "a")
        while (event := await next_item(followed)) is None:
            pass
        assert event.message == "a"


async def test_slow_follower_misses_no_event(stream: Stream) -> None:
    topic = new_id()
    await stream.publish(topic, "1", "2")
    async with stream.tailing() as tailer, aclosing(tailer.follow(topic)) as slow:
        first = await next_item(slow)
        await stream.publish(topic, "3", "4")
        await stream.publish(topic, "5", status="done")
        # Another follower has received all events, so the tailer has read them, while the slow one has received one.
        assert len(await to_end(tailer, topic)) == 5
        async with asyncio.timeout(PATIENCE_S):
            rest = [event async for event in slow]
    assert [event.seq for event in [first, *rest] if event is not None] == [1, 2, 3, 4, 5]


async def test_every_follower_of_a_topic_gets_every_event(stream: Stream) -> None:
    topic = new_id()
    async with stream.tailing() as tailer:
        followers = [asyncio.create_task(to_end(tailer, topic)) for _ in range(10)]
        await stream.publish(topic, "a", "b")
        await stream.publish(topic, "c", status="done")
        for events in await asyncio.gather(*followers):
            assert [event.message for event in events] == ["a", "b", "c"]


async def test_events_of_two_processes_on_one_topic_are_numbered_without_gaps(stream: Stream) -> None:
    topic, times = new_id(), 40
    arguments = (stream.database.engine.url.render_as_string(hide_password=False), stream.redis_url, topic, str(times))
    with ExitStack() as stack:
        writers = [stack.enter_context(forked("support.progress.child", *arguments, name)) for name in ("one", "other")]
        assert [read_line(writer) for writer in writers] == ["ready", "ready"]
        async with stream.tailing() as tailer:
            follower = asyncio.create_task(to_end(tailer, topic))
            for writer in writers:
                send_line(writer)
            assert [await asyncio.to_thread(read_line, writer) for writer in writers] == ["done", "done"]
            await stream.publish(topic, "end", status="done")
            events = await follower
    assert [event.seq for event in events] == list(range(1, 2 * times + 2))
    for name in ("one", "other"):
        assert [event.message for event in events if event.step == name] == [str(number) for number in range(times)]


async def test_events_of_many_threads_on_one_topic_are_numbered_without_gaps(stream: Stream) -> None:
    topic = new_id()
    await asyncio.gather(*(stream.publish(topic, *map(str, range(10))) for _ in range(8)))
    assert [event.seq for event in stream.log.read_after(topic)] == list(range(1, 81))


async def test_event_of_a_rolled_back_transaction_is_not_sent(stream: Stream) -> None:
    topic = new_id()
    roll_back(
        stream.database,
        lambda unit: stream.log.publish_within(unit, topic, status="running", step="s", pct=1, message="lost"),
    )
    await stream.publish(topic, "kept", status="done")
    async with stream.tailing() as tailer:
        assert [(event.seq, event.message) for event in await to_end(tailer, topic)] == [(1, "kept")]


async def test_a_topic_that_is_deleted_ends_its_streams(stream: Stream) -> None:
    topic = new_id()
    await stream.publish(topic, "a")
    async with stream.tailing(poll_s=0.02) as tailer, aclosing(tailer.follow(topic)) as followed:
        await next_item(followed)
        with stream.database.write() as unit:
            stream.log.delete_in(unit, [topic])
        with pytest.raises(StopAsyncIteration):
            await next_item(followed)


async def test_cancelled_and_closed_followers_are_removed(stream: Stream) -> None:
    async with stream.tailing(poll_s=0.01) as tailer:
        cancelled = asyncio.create_task(to_end(tailer, new_id()))
        closed = tailer.follow(new_id())
        await stream.publish(kept := new_id(), "a")
        halfway = tailer.follow(kept)
        assert await next_item(halfway) is not None
        waiting = asyncio.create_task(next_item(closed))
        await followed_by(tailer, 3)
        for task in (cancelled, waiting):
            task.cancel()
        await asyncio.gather(cancelled, waiting, return_exceptions=True)
        await halfway.aclose()
        assert tailer.follower_count == 0
        # Without followers the tailer does not query the database.
        await quiet(stream.database)


async def test_tailer_can_be_stopped_while_it_starts(stream: Stream) -> None:
    for turns in range(60):
        async with asyncio.timeout(PATIENCE_S), stream.tailing():
            # The number of turns decides at which point of connecting the tailer is stopped.
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_tailer_stops_despite_a_follower(stream: Stream) -> None:
    before = asyncio.all_tasks()
    async with stream.tailing() as tailer:
        follower = asyncio.create_task(to_end(tailer, new_id()))
        await followed_by(tailer, 1)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    assert asyncio.all_tasks() == before
