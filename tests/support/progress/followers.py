"""Followers and publishers of progress events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

from sqlalchemy import event

from relab.core.clock import SystemClock
from relab.progress.models import ProgressEvent
from relab.progress.service import ProgressLog
from relab.progress.signal import ProgressSignal
from relab.progress.tailer import ProgressTailer
from relab.storage import Database

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Stream:
    """A progress log and the signal that wakes its readers."""

    database: Database
    redis_url: str
    signal: ProgressSignal
    poll_s: float

    @property
    def log(self) -> ProgressLog:
        """The log for publishing."""
        return ProgressLog(self.database, SystemClock(), self.signal)

    async def publish(self, topic: str, *messages: str, status: str = "running") -> None:
        """Publish messages from a thread, like workers."""
        for message in messages:
            await asyncio.to_thread(self.log.publish, topic, status=status, step="step", pct=50, message=message)

    @asynccontextmanager
    async def tailing(
        self, *, poll_s: float | None = None, heartbeat_s: float = 60.0
    ) -> AsyncGenerator[ProgressTailer[ProgressEvent]]:
        """Run a tailer while the block runs."""
        tailer = ProgressTailer(self.log, self.signal, poll_s=poll_s or self.poll_s, heartbeat_s=heartbeat_s)
        async with tailer.running():
            yield tailer


async def next_item(stream: AsyncIterator[ProgressEvent | None]) -> ProgressEvent | None:
    """Return the next event or heartbeat; fail if none arrives in time."""
    async with asyncio.timeout(PATIENCE_S):
        return await anext(stream)


async def to_end(tailer: ProgressTailer[ProgressEvent], topic: str, after: int = 0) -> list[ProgressEvent]:
    """Return all events of a topic until its stream ends."""
    async with asyncio.timeout(PATIENCE_S), aclosing(tailer.follow(topic, after)) as stream:
        return [item async for item in stream if item is not None]


async def followed_by(tailer: ProgressTailer[ProgressEvent], count: int) -> None:
    """Wait until the tailer has `count` followers."""
    async with asyncio.timeout(PATIENCE_S):
        while tailer.follower_count < count:  # noqa: ASYNC110 a count is no event
            await asyncio.sleep(0.001)


async def quiet(database: Database) -> None:
    """Wait until the database gets no query for 0.1 s, which is many polls."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with counted_statements(database) as statements:
                await asyncio.sleep(0.1)
            if not statements:
                return


async def queried(statements: list[str], count: int) -> None:
    """Wait until `count` statements have run."""
    async with asyncio.timeout(PATIENCE_S):
        while len(statements) < count:  # noqa: ASYNC110 a count is no event
            await asyncio.sleep(0.01)


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    """Collect the SQL statements that run during the block, except for BEGIN."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
