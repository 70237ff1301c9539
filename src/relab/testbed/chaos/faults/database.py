"""Faults of the database, and of the connections to it."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from pydantic import Field

from relab.testbed.actions.operations.dependencies import INDEXES, create_index
from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault, Kind, Parameters, Symptom

_STATES: Final = frozenset(("53300", "57P03"))
"""SQLSTATEs: too many connections; the server is starting or shutting down."""
_RETAKE_S: Final = 0.02


class Lock(Parameters):
    """Which table is locked."""

    table: str = Field("orders", pattern="^(orders|stock|products)$")


class PoolLeak:
    """Connections that the target's workers check out and never return; they end with the worker's process."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._standing = ground.standing("target")

    def set_level(self, level: float) -> None:
        """Leak this share of each worker's pool."""
        known = self._ground.plant.settings()["database"]
        wanted = max(round((known["pool_size"] + known["max_overflow"]) * level), 1) if level > 0 else 0
        for number in self._standing.workers():
            held = self._ground.tell_worker(number, {"op": "status"})["connections"]
            if held > wanted:
                self._ground.tell_worker(number, {"op": "release", "what": "connections"})
                held = 0
            if held < wanted:
                self._leak(number, wanted - held)

    def end(self) -> None:
        """Release the leaked connections in workers that still have the process of the injection."""
        failed: PlantError | None = None
        for number in self._standing.workers():
            try:
                self._ground.tell_worker(number, {"op": "release", "what": "connections"})
            except PlantError as error:
                # A worker that does not answer must not prevent the release in the others.
                failed = error
        if failed is not None:
            raise failed

    def _leak(self, number: int, count: int) -> None:
        # Leak one at a time: each may have to wait until a request returns a connection.
        for _ in range(count):
            try:
                self._ground.tell_worker(number, {"op": "leak_connections", "count": 1})
            except PlantError as error:
                # A waiting request got the connection first; the pool is exhausted even so.
                if "QueuePool" not in str(error):
                    raise
                return


class Hoard:
    """A client that opens idle sessions until the server has no free connection, and takes each one that becomes free.

    It acts like one program: if one of its sessions is ended from outside, it closes all of them and stops.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._held: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._wanted = 0
        self._thread = threading.Thread(target=self._go_on, name="hoard", daemon=True)
        with ground.plant.database() as connection:
            row = connection.execute("SHOW max_connections").fetchone()
        assert row is not None
        self._room = int(row["max_connections"])

    def set_level(self, level: float) -> None:
        """Hold this share of the server's `max_connections`."""
        self._wanted = round(self._room * level)
        with self._lock:
            while len(self._held) > self._wanted:
                self._held.pop().close()
            self._take()
        if not self._thread.is_alive() and not self._ended.is_set():
            self._thread.start()

    def end(self) -> None:
        """Close the sessions that are still open."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._close()

    def _go_on(self) -> None:
        while not self._ended.wait(_RETAKE_S):
            with self._lock:
                is_cut = bool(_readable(self._held))
                try:
                    if not is_cut:
                        self._take()
                except PlantError:
                    # The server is down, and the held sessions have ended with it.
                    is_cut = True
            if is_cut:
                self._ended.set()
                self._close()

    def _take(self) -> None:
        while len(self._held) < self._wanted and not self._ended.is_set():
            try:
                self._held.append(self._ground.connect(application="reporting"))
            except psycopg.OperationalError as error:
                if error.sqlstate in _STATES or "too many" in str(error) or "remaining connection" in str(error):
                    return
                raise PlantError(f"The database: {error}") from error

    def _close(self) -> None:
        with self._lock:
            for connection in self._held:
                connection.close()
            self._held.clear()


def _readable(connections: Sequence[psycopg.Connection[Any]]) -> list[int]:
    """Return the sockets with unread data from the server; it sends data unasked only when it ends a session."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection.fileno(), select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(0)]


class LockHolder:
    """A transaction of another client that holds a lock on a table and sits idle."""

    def __init__(self, ground: Ground, given: Lock) -> None:
        try:
            self._connection = ground.connect(application="migration")
        except psycopg.Error as error:
            raise PlantError(f"The database: {error}") from error
        self._table = given.table

    def set_level(self, level: float) -> None:
        """Lock the table, or roll back to release the lock."""
        try:
            if self._connection.closed:
                raise PlantError("The session that held the lock has been ended.")
            if level > 0:
                self._connection.execute(
                    sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(self._table))
                )
            else:
                self._connection.rollback()
        except psycopg.Error as error:
            raise PlantError(f"The database: {error}") from error

    def end(self) -> None:
        """Close the session; ignore it if it was already ended."""
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


class DroppedIndexes:
    """Indexes dropped from the database."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._dropped: list[str] = []

    def set_level(self, level: float) -> None:
        """Drop indexes; a higher level drops more of them."""
        if level <= 0:
            return
        self._dropped = list(INDEXES)[: max(round(len(INDEXES) * level), 1)]
        with self._ground.plant.database() as connection:
            for name in self._dropped:
                connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))

    def end(self) -> None:
        """Recreate the dropped indexes that do not exist again."""
        with self._ground.plant.database() as connection:
            for name in self._dropped:
                connection.execute(create_index(name, if_missing=True))


class Down:
    """A server that is down."""

    def __init__(self, ground: Ground, component: str) -> None:
        self._ground = ground
        self._component = component

    def set_level(self, level: float) -> None:
        """Kill it, as a crash does."""
        if level > 0:
            self._ground.plant.stop(self._component)

    def end(self) -> None:
        """Start it, unless it is already running."""
        self._ground.plant.start(self._component)


_POOL: Final = Fault(
    "db_pool", "The target leaks connections of its pool", Kind.FAULT, Parameters,
    Symptom(
        "requests wait for a connection and fail: QueuePool limit reached",
        "used connections are at their maximum and some requests wait, while the server is fast and its "
        "sessions are idle",
        ("db_connections", "db_lock", "db_slow_query", "database_latency"),
    ),
    repairs=("restart-target", "remediate-db-pool-exhaustion"),
    harms=("restart-cache", "restart-links"),
    can_vary=True,
)  # fmt: skip
_CONNECTIONS: Final = Fault(
    "db_connections", "Another client holds all connections of the database", Kind.FAULT, Parameters,
    Symptom(
        "new connections fail",
        "SQLSTATE 53300, the target's pool below its maximum, many idle sessions of another application",
        ("db_pool", "db_down"),
    ),
    repairs=("end-idle-sessions", "restart-database"),
    harms=("restart-target", "restart-cache"),
    can_vary=True,
)  # fmt: skip
_LOCK: Final = Fault(
    "db_lock", "A transaction has locked a table and sits idle", Kind.FAULT, Lock,
    Symptom(
        "requests of one kind run into their time-out",
        "sessions wait for a lock and name the one that blocks them; the processor is idle",
        ("db_slow_query", "database_latency", "db_pool"),
    ),
    repairs=("end-blocking-sessions", "end-session", "restart-database"),
    harms=("restart-target", "restart-cache"),
    can_vary=True,
)  # fmt: skip
_SLOW_QUERY: Final = Fault(
    "db_slow_query", "Indexes of the database are gone", Kind.FAULT, Parameters,
    Symptom(
        "reads of orders are slow",
        "an expected index is missing, whole tables are read, nobody waits for a lock",
        ("db_lock", "database_latency", "cpu_saturation"),
    ),
    repairs=("recreate-indexes",),
    harms=("restart-target", "restart-database", "restart-cache"),
)  # fmt: skip
_DOWN: Final = Fault(
    "db_down", "The database is down", Kind.FAULT, Parameters,
    Symptom(
        "every request that needs the database fails at once",
        "connections are refused, and the server's process is gone",
        ("database_refuse", "db_connections"),
    ),
    repairs=("restart-database",),
    harms=("restart-target", "restart-cache"),
)  # fmt: skip


def faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return the faults of the database."""
    found: list[tuple[Fault, Make]] = [
        (_POOL, lambda _: PoolLeak(ground)),
        (_CONNECTIONS, lambda _: Hoard(ground)),
        (_LOCK, lambda given: LockHolder(ground, given if isinstance(given, Lock) else Lock())),
        (_SLOW_QUERY, lambda _: DroppedIndexes(ground)),
        (_DOWN, lambda _: Down(ground, "postgres")),
    ]
    return {fault.name: (fault, make) for fault, make in found}
