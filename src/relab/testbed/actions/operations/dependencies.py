"""Actions on the database's indexes, the cache's memory, and the disk that the target writes to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from psycopg import sql
from pydantic import Field

from relab.testbed.actions.models import Action, ActionClass, ActionParameters, BlastRadius, PreconditionError
from relab.testbed.actions.operations.base import Nothing, PlantOperation

INDEXES: Final[dict[str, tuple[str, str, bool]]] = {
    "orders_number_idx": ("orders", "number", True),
    "orders_customer_idx": ("orders", "customer, created_at DESC", False),
    "orders_product_idx": ("orders", "product_id, created_at DESC", False),
}
"""The indexes of the target's schema without primary keys: `(table, columns, is unique)` by the name of the index."""
_DISPOSABLE: Final = ("*.tmp", "*.old", "*.dump")


class CacheRoom(ActionParameters):
    """The new memory limit and the new eviction policy of the cache.

    Attributes:
        max_memory_mb: the memory limit, in MiB.
        policy: Redis' name of the eviction policy: it says which entries a full cache deletes.
    """

    max_memory_mb: int = Field(64, ge=1, le=1_024)
    policy: Literal["allkeys-lru", "allkeys-lfu", "volatile-lru", "noeviction"] = "allkeys-lru"


class RecreateIndexes(PlantOperation[Nothing]):
    """The action that recreates the missing and invalid indexes of the database."""

    ACTION = Action(
        "recreate-indexes", "Create the missing indexes of the database", ActionClass.REPAIR, BlastRadius.NONE, Nothing,
        "queries that read whole tables use an index again", ("an index is missing",), part="database",
    )  # fmt: skip

    def _find(self, _given: Nothing) -> dict[str, Any]:
        with self.plant.database() as connection:
            rows = connection.execute(
                "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            ).fetchall()
        valid = {row["relname"] for row in rows if row["indisvalid"]}
        missing = [name for name in INDEXES if name not in valid]
        if not missing:
            raise PreconditionError("No index is missing.")
        return {"missing": missing, "invalid": [row["relname"] for row in rows if not row["indisvalid"]]}

    def _do(self, _given: Nothing, before: Mapping[str, Any]) -> dict[str, Any]:
        with self.plant.database() as connection:
            for name in before["missing"]:
                # A failed attempt may have left an invalid index of this name.
                connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))
                connection.execute(create_index(name))
        return {"made": before["missing"]}


class SetCacheRoom(PlantOperation[CacheRoom]):
    """The action that sets the cache's memory limit and eviction policy."""

    ACTION = Action(
        "set-cache-memory", "Change the memory and the eviction of the cache", ActionClass.SETTING,
        BlastRadius.ONE_DEPENDENCY, CacheRoom, "the cache accepts writes as long as it may evict an entry",
        inverse="set-cache-memory", part="cache",
    )  # fmt: skip

    def _find(self, _given: CacheRoom) -> dict[str, Any]:
        with self.plant.cache() as cache:
            return {name: str(cache.config_get(name)[name]) for name in ("maxmemory", "maxmemory-policy")}

    def _do(self, given: CacheRoom, _before: Mapping[str, Any]) -> dict[str, Any]:
        return self._set({"maxmemory": f"{given.max_memory_mb}mb", "maxmemory-policy": given.policy})

    def _take_back(self, _given: CacheRoom, before: Mapping[str, Any]) -> dict[str, Any]:
        return self._set({name: before[name] for name in ("maxmemory", "maxmemory-policy")})

    def _set(self, values: Mapping[str, str]) -> dict[str, Any]:
        with self.plant.cache() as cache:
            for name, value in values.items():
                cache.config_set(name, value)
            return {name: str(cache.config_get(name)[name]) for name in values}


class FlushCache(PlantOperation[Nothing]):
    """The action that deletes all keys of the cache."""

    ACTION = Action(
        "flush-cache", "Empty the cache", ActionClass.REPAIR, BlastRadius.ONE_DEPENDENCY, Nothing,
        "every read goes to the database until the cache is filled again", part="cache",
    )  # fmt: skip

    def _find(self, _given: Nothing) -> dict[str, Any]:
        with self.plant.cache() as cache:
            return {"keys": int(cache.dbsize())}

    def _do(self, _given: Nothing, _before: Mapping[str, Any]) -> dict[str, Any]:
        with self.plant.cache() as cache:
            cache.flushall()
            return {"keys": int(cache.dbsize())}


class FreeDisk(PlantOperation[Nothing]):
    """The action that deletes disposable files (`*.tmp`, `*.old`, `*.dump`) in the target's data folder."""

    ACTION = Action(
        "free-disk", "Delete disposable files from the target's data folder", ActionClass.REPAIR, BlastRadius.NONE,
        Nothing, "the target can write again", ("there are disposable files",), part="target",
    )  # fmt: skip

    def _find(self, _given: Nothing) -> dict[str, Any]:
        files = self._files()
        if not files:
            raise PreconditionError(f"There is no disposable file ({', '.join(_DISPOSABLE)}).")
        return {"files": [path.name for path in files], "bytes": sum(path.stat().st_size for path in files)}

    def _do(self, _given: Nothing, _before: Mapping[str, Any]) -> dict[str, Any]:
        deleted = []
        for path in self._files():
            path.unlink(missing_ok=True)
            deleted.append(path.name)
        return {"deleted": deleted}

    def _files(self) -> list[Path]:
        folder = Path(self.plant.settings()["data_dir"])
        found = {path for pattern in _DISPOSABLE for path in folder.glob(pattern)}
        # Neither folders nor symbolic links: delete only regular files in this folder.
        return sorted(path for path in found if path.is_file() and not path.is_symlink())


def create_index(name: str, *, if_missing: bool = False) -> sql.Composed:
    """Return the SQL statement that creates an index of `INDEXES` concurrently, that is, without blocking writes.

    Args:
        name: a key of `INDEXES`.
        if_missing: True for a statement that does nothing if the index exists.
    """
    table, columns, unique = INDEXES[name]
    kind = sql.SQL("UNIQUE INDEX" if unique else "INDEX")
    order = sql.SQL("CREATE {} CONCURRENTLY {} {} ON {} ({})")
    unless = sql.SQL("IF NOT EXISTS" if if_missing else "")
    return order.format(kind, unless, sql.Identifier(name), sql.Identifier(table), sql.SQL(columns))


OPERATIONS = (RecreateIndexes, SetCacheRoom, FlushCache, FreeDisk)
