"""Signals that wake the readers of progress events: by Redis pub/sub, or no signals (readers only poll).

A signal has no content; it makes a reader poll without delay. The events are rows of a table, so a reader that misses a
signal finds them at its next poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from relab.core.logging import get_logger

if TYPE_CHECKING:
    import asyncio

    from redis import Redis

RECONNECT_PAUSE_S = 1.0
CHANNEL = "relab:progress"

_log = get_logger(__name__)


class ProgressSignal(Protocol):
    """Wakes the readers of progress events in all processes, so that they read a new event without delay.

    Call `notify` only after the event was committed.
    """

    def notify(self) -> None:
        """Wake the readers of progress events in all processes, so that they poll without delay.

        An implementation must not raise an error if its broker, such as Redis, is unavailable.
        """
        ...

    async def listen(self, wake: asyncio.Event) -> None:
        """Set `wake` at every signal, until this coroutine is cancelled."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class PollingSignal:
    """A signal that does nothing: readers find new events only at their regular polls."""

    def notify(self) -> None:
        """Do nothing: readers poll."""

    async def listen(self, wake: asyncio.Event) -> None:  # noqa: ARG002 the protocol's parameter
        """Wait until this coroutine is cancelled; `wake` is never set."""
        import asyncio

        await asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Do nothing: there is no connection."""


class RedisSignal:
    """Wakes the readers of progress events in all processes by messages over Redis pub/sub.

    The readers then read new events without delay.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._publisher: Redis | None = None

    def notify(self) -> None:
        """Publish a signal that a progress event was stored; if Redis is unavailable, log a warning.

        Without the signal, readers find the event at their next poll.
        """
        from redis import Redis
        from redis.exceptions import RedisError

        if self._publisher is None:
            self._publisher = Redis.from_url(self._redis_url, socket_connect_timeout=3, socket_timeout=3)
        try:
            self._publisher.publish(CHANNEL, b"")
        except RedisError as error:
            _log.warning("broker_unavailable", error=str(error))

    async def listen(self, wake: asyncio.Event) -> None:
        """Set `wake` at every signal until this coroutine is cancelled; reconnect if the connection is lost."""
        import asyncio

        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        while True:
            try:
                async with Redis.from_url(self._redis_url) as client, client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    async for _ in subscription.listen():
                        wake.set()
            except (RedisError, OSError) as error:
                _log.warning("broker_unavailable", error=str(error))
                await asyncio.sleep(RECONNECT_PAUSE_S)

    def close(self) -> None:
        """Close the publisher's connection."""
        if self._publisher is not None:
            self._publisher.close()
