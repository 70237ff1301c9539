"""Whether the dependencies answer, asked by a connection of its own: the pool's troubles are not theirs."""

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
class Probe:
    """One look at a dependency.

    Attributes:
        ok: whether it answered.
        connect_ms: how long a new connection took.
        answer_ms: how long the smallest question took on it.
        payload_ms: how long `PAYLOAD_BYTES` took; a narrow path is slow with these and fast with little.
        error: what went wrong, in the driver's words.
        sqlstate: PostgreSQL's code of it.
    """

    ok: bool
    connect_ms: float | None = None
    answer_ms: float | None = None
    payload_ms: float | None = None
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
            answered_s = time.perf_counter()
            connection.execute("SELECT repeat('x', %s)", (PAYLOAD_BYTES,))
            return _measured(began_s, connected_s, answered_s)
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
    """Connect anew, then ask `PING`: a wrong password fails here too.

    It waits longer than requests do: on a narrow path they give up before there is anything to measure.
    """
    patient = settings.model_copy(update={"timeout_s": max(settings.timeout_s, PROBE_TIMEOUT_MS / 1_000)})
    try:
        # The client itself reads files when it is made, which takes a descriptor.
        client = make_client(patient)
    except OSError as error:
        return Probe(False, error=words(error))
    began_s = time.perf_counter()
    try:
        await client.ping()
        connected_s = time.perf_counter()
        await client.ping()
        answered_s = time.perf_counter()
        await client.echo("x" * PAYLOAD_BYTES)
        return _measured(began_s, connected_s, answered_s)
    except FAILURES as error:
        return Probe(False, error=words(error))
    finally:
        with suppress(*FAILURES):
            await client.aclose()


def _measured(began_s: float, connected_s: float, answered_s: float) -> Probe:
    ended_s = time.perf_counter()
    return Probe(
        True,
        connect_ms=_ms(connected_s - began_s),
        answer_ms=_ms(answered_s - connected_s),
        payload_ms=_ms(ended_s - answered_s),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
