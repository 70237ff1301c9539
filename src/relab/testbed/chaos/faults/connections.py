"""Faults in the use of the database: connections are leaked or used up, or a lock blocks sessions."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import psycopg
from psycopg import sql
from pydantic import Field

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.base import Fault, draw_between
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence

_STATES: Final = frozenset(("53300", "57P03"))
"""SQLSTATEs: too many connections; the server is starting or shutting down."""
_RETAKE_S: Final = 0.02
_HOARDER: Final = "reporting"
_LOCKER: Final = "migration"


class Lock(FaultParameters):
    """Parameters of the fault `db_lock`.

    Attributes:
        table: the name of the table to lock.
    """

    table: str = Field("orders", pattern="^(orders|stock|products)$")


class PoolLeak:
    """Injector that makes the target's workers check out connections of their database pools and never return them.

    The leaked connections of a worker end when the worker's process ends.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._standing = ground.standing("target")

    def set_level(self, level: float) -> None:
        """Leak the share `level` (0 to 1) of the connections of each worker's pool, at least one.

        At level 0, release all leaked connections.
        """
        known = self._ground.plant.settings()["database"]
        wanted = max(round((known["pool_size"] + known["max_overflow"]) * level), 1) if level > 0 else 0
        for number in self._standing.workers():
            held = self._ground.order_worker(number, {"op": "status"})["connections"]
            if held > wanted:
                self._ground.order_worker(number, {"op": "release", "what": "connections"})
                held = 0
            if held < wanted:
                self._leak(number, wanted - held)

    def end(self) -> None:
        """Release the leaked connections in each worker that was not restarted since the injection.

        Raises:
            PlantError: at least one worker did not release its connections. Each worker was asked.
        """
        failed: PlantError | None = None
        for number in self._standing.workers():
            try:
                self._ground.order_worker(number, {"op": "release", "what": "connections"})
            except PlantError as error:
                # A worker that does not answer must not prevent the release in the others.
                failed = error
        if failed is not None:
            raise failed

    def _leak(self, number: int, count: int) -> None:
        # Leak one at a time: each may have to wait until a request returns a connection.
        for _ in range(count):
            try:
                self._ground.order_worker(number, {"op": "leak_connections", "count": 1})
            except PlantError as error:
                # A waiting request got the connection first, but the pool is exhausted in any case.
                if "QueuePool" not in str(error):
                    raise
                return


class Hoard:
    """Injector that acts as another client of the database: it opens idle sessions until no connection is free.

    If something else, such as a repair, ends one of these sessions, the client closes the others and stops.
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
        """Open or close idle sessions, so that this client holds the share `level` of the server's connections.

        `level` is 0 to 1. If the server has too few free connections, a thread takes the missing ones as soon as other
        clients release theirs.
        """
        self._wanted = round(self._room * level)
        with self._lock:
            while len(self._held) > self._wanted:
                self._held.pop().close()
            self._take()
        if not self._thread.is_alive() and not self._ended.is_set():
            self._thread.start()

    def end(self) -> None:
        """Stop this client, and close all its database sessions."""
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
                self._held.append(self._ground.connect(application=_HOARDER))
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
    """Return the file descriptors of the idle connections with unread data; the server has ended their sessions."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection.fileno(), select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(0)]


class LockHolder:
    """Injector that acts as another client of the database: its transaction locks a table and then idles.

    Raises:
        PlantError: the database does not accept the connection.
    """

    def __init__(self, ground: Ground, given: Lock) -> None:
        try:
            self._connection = ground.connect(application=_LOCKER)
        except psycopg.Error as error:
            raise PlantError(f"The database: {error}") from error
        self._table = given.table

    def set_level(self, level: float) -> None:
        """Lock a table of the database in a transaction that stays open; at level 0, end the transaction.

        Raises:
            PlantError: something else has ended the session, or the database rejects the statement.
        """
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
        """Close the database session that locks the table; ignore errors of the database."""
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


class PoolLeakFault(Fault[FaultParameters]):
    """The fault `db_pool`: the target's workers do not return connections to their database pools."""

    name = "db_pool"
    title = "The target leaks connections of its pool"
    cause = "connection_pool_leak"
    parameters = FaultParameters
    symptom = Symptom(
        "requests wait for a connection and fail: QueuePool limit reached",
        "the pool is at its maximum and some requests wait for it, while the server is fast and its sessions are idle",
        ("db_connections", "db_lock", "db_slow_query", "database_latency"),
    )
    repairs = ("restart-target", "remediate-db-pool-exhaustion")
    harms = ("restart-cache", "restart-links")
    can_vary = True
    grows = True

    def injector(self, ground: Ground, _given: FaultParameters) -> PoolLeak:
        """Return an injector that leaks connections in every worker.

        `ground` gives access to the testbed's components.
        """
        return PoolLeak(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether any worker of the target holds leaked connections.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: ground.any_worker(lambda status: status["connections"] > 0))


class ConnectionsFault(Fault[FaultParameters]):
    """The fault `db_connections`: another client holds all connections of the database server."""

    name = "db_connections"
    title = "Another client holds all connections of the database"
    cause = "database_connections_exhausted"
    parameters = FaultParameters
    symptom = Symptom(
        "new connections fail",
        "SQLSTATE 53300, the target's pool below its maximum, many idle sessions of another application",
        ("db_pool", "db_down"),
    )
    repairs = ("end-idle-sessions", "restart-database")
    harms = ("restart-target", "restart-cache")
    can_vary = True

    def injector(self, ground: Ground, _given: FaultParameters) -> Hoard:
        """Return an injector that opens idle sessions until the database has no free connection.

        `ground` gives access to the testbed's components.
        """
        return Hoard(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the client that took the connections still has a database session.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: _has_session(ground, _HOARDER))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity` near 1: the share of the server's connections to hold."""
        return {"intensity": draw_between(rng, 0.96, 1.0)}


class LockFault(Fault[Lock]):
    """The fault `db_lock`: an idle transaction of another client has locked a table."""

    name = "db_lock"
    title = "A transaction has locked a table and is idle"
    cause = "database_lock"
    parameters = Lock
    symptom = Symptom(
        "requests of one kind time out",
        "sessions wait for a lock, and the server names the session that blocks them; the processor is idle",
        ("db_slow_query", "database_latency", "db_pool"),
    )
    repairs = ("end-blocking-sessions", "end-session", "restart-database")
    harms = ("restart-target", "restart-cache")
    can_vary = True

    def injector(self, ground: Ground, given: Lock) -> LockHolder:
        """Return an injector whose own database session locks the table `given.table`.

        `ground` gives access to the testbed's components.
        """
        return LockHolder(ground, given)

    def presence(self, ground: Ground, _given: Lock) -> Presence:
        """Return an object that tests whether the database session with the lock on the table still exists.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: _has_session(ground, _LOCKER))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `table` to lock: `orders` or `stock`."""
        return {"table": rng.choice(("orders", "stock"))}


def _has_session(ground: Ground, application: str) -> bool:
    with ground.plant.database() as connection:
        row = connection.execute(
            "SELECT count(*) AS found FROM pg_stat_activity WHERE application_name = %s", [application]
        ).fetchone()
    return row is not None and row["found"] > 0
