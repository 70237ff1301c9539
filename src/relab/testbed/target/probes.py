"""Whether the dependencies answer, asked by a connection of its own: the pool's troubles are not theirs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from redis.exceptions import RedisError

from relab.testbed.target.cache import make_client, words
from relab.testbed.target.database import as_database_error, connect_arguments
from relab.testbed.target.settings import CacheSettings, DatabaseSettings

PROBE_TIMEOUT_MS = 2_000


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at a dependency.

    Attributes:
        ok: whether it answered.
        connect_ms: how long a new connection took.
        answer_ms: how long the smallest question took on it.
        error: what went wrong, in the driver's words.
        sqlstate: PostgreSQL's code of it.
    """

    ok: bool
    connect_ms: float | None = None
    answer_ms: float | None = None
    error: str | None = None
    sqlstate: str | None = None

    def figures(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def probe_database(settings: DatabaseSettings) -> Probe:
    """Connect anew and ask `SELECT 1`. Blocks for the time-outs of the settings at most."""
    began_s = time.perf_counter()
    try:
        with direct_connection(settings, name="shop-health") as connection:
            connected_s = time.perf_counter()
            connection.execute("SELECT 1")
            return Probe(True, _ms(connected_s - began_s), _ms(time.perf_counter() - connected_s))
    except (psycopg.Error, OSError) as error:
        failure = as_database_error(error)
        cause, sqlstate = (failure.cause, failure.sqlstate) if failure else (words(error), None)
        return Probe(False, error=cause, sqlstate=sqlstate)


def direct_connection(settings: DatabaseSettings, *, name: str) -> psycopg.Connection[Any]:
    """Return a new connection past the pool, with a short time for each statement.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses.
    """
    bounded = settings.model_copy(update={"statement_timeout_ms": PROBE_TIMEOUT_MS})
    return psycopg.connect(**connect_arguments(bounded, name=name), autocommit=True)


async def probe_cache(settings: CacheSettings) -> Probe:
    """Connect anew, then ask `PING`: a wrong password fails here too."""
    client = make_client(settings)
    began_s = time.perf_counter()
    try:
        await client.ping()
        connected_s = time.perf_counter()
        await client.ping()
        return Probe(True, _ms(connected_s - began_s), _ms(time.perf_counter() - connected_s))
    except (RedisError, OSError, TimeoutError) as error:
        return Probe(False, error=words(error))
    finally:
        with suppress(RedisError, OSError):
            await client.aclose()


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
