"""Redis as an optional cache: failures are counted and reported, but never raised to the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relab.testbed.target.recorder import WorkerRecorder
from relab.testbed.target.settings import CacheSettings

Failed = Callable[[str, str], None]
"""A function that is called with the operation (`read` or `write`) and the error message."""

FAILURES: Final = (RedisError, OSError, TimeoutError, RuntimeError)
"""The exceptions of a failed cache command. uvloop raises a bare `RuntimeError` if the server has closed a connection
that is just being written to."""
_CONNECTIONS = 64
_CLOSED = "the handler is closed"


class Cache:
    """A cache of product pages by key, in Redis.

    Args:
        settings: the address of the Redis server, and the time limits.
        recorder: counts hits, misses and errors.
        failed: called on every failure of the cache, with the operation (`read` or `write`) and the error message.
    """

    def __init__(self, settings: CacheSettings, recorder: WorkerRecorder, failed: Failed) -> None:
        self._settings = settings
        self._recorder = recorder
        self._failed = failed
        self.client = make_client(settings)

    async def get(self, key: str) -> bytes | None:
        """Return the cached value of a key; None if the cache has no value or fails."""
        try:
            value: Any = await self.client.get(key)
        except FAILURES as error:
            self._recorder.event("cache_errors")
            self._failed("read", words(error))
            return None
        self._recorder.event("cache_misses" if value is None else "cache_hits")
        return None if value is None else bytes(value)

    async def put(self, key: str, value: bytes) -> None:
        """Store the value of a key for `ttl_s` seconds (a setting). A failure is counted and reported, not raised."""
        try:
            await self.client.set(key, value, ex=self._settings.ttl_s)
        except FAILURES as error:
            self._note_write(error)

    async def drop(self, key: str) -> None:
        """Delete the value of a key; if the deletion fails, the value stays until it expires."""
        try:
            await self.client.delete(key)
        except FAILURES as error:
            self._note_write(error)

    async def close(self) -> None:
        """Close the connections to the Redis server."""
        await self.client.aclose()

    def _note_write(self, error: Exception) -> None:
        self._recorder.event("cache_write_errors")
        self._failed("write", words(error))


def make_client(settings: CacheSettings) -> redis.Redis:
    """Return a Redis client that connects with its first command, does not retry, and times out after `timeout_s`."""
    return redis.Redis(
        host=settings.host,
        port=settings.port,
        password=settings.password.get_secret_value() if settings.password else None,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        max_connections=_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
    )


def words(error: Exception) -> str:
    """Return the type of an error and the first line of its message, as `Type: message`."""
    if isinstance(error, RuntimeError) and _CLOSED in str(error):
        return "ConnectionError: Connection closed by server while it was written to."
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
