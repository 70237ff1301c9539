"""Redis as a cache that may be missing: a failure is counted and told, and never the caller's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relab.testbed.target.recorder import Recorder
from relab.testbed.target.settings import CacheSettings

Failed = Callable[[str, str], None]
"""Takes the operation (`read`, `write`) and the error's words."""

FAILURES: Final = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a call of the cache may end in. uvloop says so with a bare `RuntimeError` where the other side has closed a connection
that is just being written to."""
_CONNECTIONS = 64
_CLOSED = "the handler is closed"


class Cache:
    """Product pages by their key.

    Args:
        settings: of the server.
        recorder: counts hits, misses and errors.
        failed: is told of every failure.
    """

    def __init__(self, settings: CacheSettings, recorder: Recorder, failed: Failed) -> None:
        self._settings = settings
        self._recorder = recorder
        self._failed = failed
        self.client = make_client(settings)

    async def get(self, key: str) -> bytes | None:
        """Return what is stored, or None: also when the cache cannot be asked."""
        try:
            value: Any = await self.client.get(key)
        except FAILURES as error:
            self._recorder.event("cache_errors")
            self._failed("read", words(error))
            return None
        self._recorder.event("cache_misses" if value is None else "cache_hits")
        return None if value is None else bytes(value)

    async def put(self, key: str, value: bytes) -> None:
        """Store a value for its time to live, if that works."""
        try:
            await self.client.set(key, value, ex=self._settings.ttl_s)
        except FAILURES as error:
            self._note_write(error)

    async def drop(self, key: str) -> None:
        """Forget a value, if that works; otherwise it lives to its end."""
        try:
            await self.client.delete(key)
        except FAILURES as error:
            self._note_write(error)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def _note_write(self, error: Exception) -> None:
        self._recorder.event("cache_write_errors")
        self._failed("write", words(error))


def make_client(settings: CacheSettings) -> redis.Redis:
    """Return a client that waits once, for a bounded time; it connects with its first command."""
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
    """Return the error's kind and words in one line."""
    if isinstance(error, RuntimeError) and _CLOSED in str(error):
        return "ConnectionError: Connection closed by server while it was written to."
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
