"""Faults of the database server: the server is down, or indexes are missing."""

from __future__ import annotations

from random import Random
from typing import Any

from psycopg import sql

from relab.testbed.actions.operations.dependencies import INDEXES, create_index
from relab.testbed.chaos.faults.base import Fault, draw_between
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence


class DroppedIndexes:
    """Injector that drops indexes of the shop's tables from the database."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._dropped: list[str] = []

    def set_level(self, level: float) -> None:
        """Drop the share `level` (0 to 1) of the indexes of the shop's tables, at least one; do nothing at level 0."""
        if level <= 0:
            return
        self._dropped = list(INDEXES)[: max(round(len(INDEXES) * level), 1)]
        with self._ground.plant.database() as connection:
            for name in self._dropped:
                connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))

    def end(self) -> None:
        """Recreate the indexes dropped by this injector, except those that exist again."""
        with self._ground.plant.database() as connection:
            for name in self._dropped:
                connection.execute(create_index(name, if_missing=True))


class ServerKiller:
    """Injector that kills the database server or the cache server.

    Args:
        component: the name of the server as a component of the testbed, such as `postgres`.
    """

    def __init__(self, ground: Ground, component: str) -> None:
        self._ground = ground
        self._component = component

    def set_level(self, level: float) -> None:
        """Kill the server; it stays down until it is started. Do nothing if the strength `level` is 0."""
        if level > 0:
            self._ground.plant.stop(self._component)

    def end(self) -> None:
        """Start the server that this injector killed, unless it is already running."""
        self._ground.plant.start(self._component)


class MissingIndexFault(Fault[FaultParameters]):
    """The fault `db_slow_query`: indexes of the database are missing, so queries read whole tables."""

    name = "db_slow_query"
    title = "Indexes of the database are missing"
    cause = "missing_index"
    parameters = FaultParameters
    symptom = Symptom(
        "reads of orders are slow",
        "an expected index is missing, whole tables are read, no session waits for a lock",
        ("db_lock", "database_latency", "cpu_saturation"),
    )
    repairs = ("recreate-indexes",)
    harms = ("restart-target", "restart-database", "restart-cache")

    def injector(self, ground: Ground, _given: FaultParameters) -> DroppedIndexes:
        """Return an injector that drops indexes of the shop's tables; its level (0 to 1) is the share to drop.

        `ground` gives access to the testbed's components.
        """
        return DroppedIndexes(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether at least one index of the shop's tables is missing or invalid.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: bool(_missing_indexes(ground)))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity`: the share of the shop's database indexes to drop."""
        return {"intensity": draw_between(rng, 0.5, 1.0)}


class ServerDown(Fault[FaultParameters]):
    """Base of the faults in which the database server or the cache server is down.

    Attributes:
        component: the name of the server as a component of the testbed, such as `postgres`.
    """

    parameters = FaultParameters
    component: str

    def injector(self, ground: Ground, _given: FaultParameters) -> ServerKiller:
        """Return an injector that kills the server (PostgreSQL or Redis).

        `ground` gives access to the testbed's components.
        """
        return ServerKiller(ground, self.component)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the server (PostgreSQL or Redis) is down.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: bool(ground.plant.components(self.component)[0]["state"] != "running"))


class DatabaseDownFault(ServerDown):
    """The fault `db_down`: the process of the database server has been killed."""

    name = "db_down"
    title = "The database is down"
    cause = "database_down"
    component = "postgres"
    symptom = Symptom(
        "every request that needs the database fails at once",
        "connections are refused, and the server's process is gone",
        ("database_refuse", "db_connections"),
    )
    repairs = ("restart-database",)
    harms = ("restart-target", "restart-cache")


def _missing_indexes(ground: Ground) -> set[str]:
    with ground.plant.database() as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid"
        ).fetchall()
    return set(INDEXES) - {row["relname"] for row in rows}
