"""Probe the database and the cache over separate connections, so that a broken connection pool affects no result."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from relab.testbed.target.cache import FAILURES, make_client, words
from relab.testbed.target.database import as_database_error, connect_arguments
from relab.testbed.target.settings import CacheSettings, DatabaseSettings

PROBE_TIMEOUT_MS = 2_000
PAYLOAD_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class DependencyProbeResult:
    """The result of one probe of a dependency. The durations are None if the dependency did not answer.

    Attributes:
        ok: whether the dependency answered.
        connect_ms: time to open a connection; for the cache, including a first `PING`.
        answer_ms: duration of a minimal request on the connection: `SELECT 1` or `PING`.
        payload_ms: duration of a request whose answer has `PAYLOAD_BYTES` bytes; it is long if the bandwidth is low.
        error: the driver's error message; None without an error.
        sqlstate: PostgreSQL's error code; None if there is no error, or the error has no code.
    """

    ok: bool
    connect_ms: float | None = None
    answer_ms: float | None = None
    payload_ms: float | None = None
    error: str | None = None
    sqlstate: str | None = None

    def figures(self) -> dict[str, Any]:
        """Return the result as JSON, with the attributes as keys."""
        return asdict(self)


def probe_database(settings: DatabaseSettings) -> DependencyProbeResult:
    """Connect to the database, run `SELECT 1`, fetch `PAYLOAD_BYTES` bytes; return the durations or the error.

    The call blocks the calling thread. Connecting has a time-out, and the server cancels a statement after
    `PROBE_TIMEOUT_MS`.
    """
    began_s = time.perf_counter()
    try:
        with direct_connection(settings, name="shop-health") as connection:
            connected_s = time.perf_counter()
            connection.execute("SELECT 1")
            answered_s = time.perf_counter()
            connection.execute("SELECT repeat('x', %s)", (PAYLOAD_BYTES,))
            return _measured(began_s, connected_s, answered_s)
    except (psycopg.Error, OSError) as error:
        failure = as_database_error(error)
        cause, sqlstate = (failure.cause, failure.sqlstate) if failure else (words(error), None)
        return DependencyProbeResult(False, error=cause, sqlstate=sqlstate)


def direct_connection(settings: DatabaseSettings, *, name: str) -> psycopg.Connection[Any]:
    """Return a new database connection outside the pool, with a statement time-out of `PROBE_TIMEOUT_MS`.

    Args:
        settings: the address of the server, and the shop's user and password.
        name: the `application_name` of the session on the server.

    Raises:
        psycopg.Error: the connection fails.
    """
    bounded = settings.model_copy(update={"statement_timeout_ms": PROBE_TIMEOUT_MS})
    return psycopg.connect(**connect_arguments(bounded, name=name), autocommit=True)


async def probe_cache(settings: CacheSettings) -> DependencyProbeResult:
    """Connect to the cache, send `PING` and `ECHO` with `PAYLOAD_BYTES` bytes; return the durations or the error.

    If the cache rejects the password, the result is an error, too.
    """
    # The time-out for the shop's requests is too short to measure a path with low bandwidth.
    patient = settings.model_copy(update={"timeout_s": max(settings.timeout_s, PROBE_TIMEOUT_MS / 1_000)})
    try:
        # Creating the client reads files, which fails if no descriptor is free.
        client = make_client(patient)
    except OSError as error:
        return DependencyProbeResult(False, error=words(error))
    began_s = time.perf_counter()
    try:
        await client.ping()
        connected_s = time.perf_counter()
        await client.ping()
        answered_s = time.perf_counter()
        await client.echo("x" * PAYLOAD_BYTES)
        return _measured(began_s, connected_s, answered_s)
    except FAILURES as error:
        return DependencyProbeResult(False, error=words(error))
    finally:
        with suppress(*FAILURES):
            await client.aclose()


def _measured(began_s: float, connected_s: float, answered_s: float) -> DependencyProbeResult:
    ended_s = time.perf_counter()
    return DependencyProbeResult(
        True,
        connect_ms=_ms(connected_s - began_s),
        answer_ms=_ms(answered_s - connected_s),
        payload_ms=_ms(ended_s - answered_s),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
