"""Faults of the cache: it is down, full, or requires another password."""

from __future__ import annotations

import secrets
from typing import Any, Final

import redis

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.base import Fault
from relab.testbed.chaos.faults.database import ServerDown
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence

_RESPONSE_TIMEOUT_S: Final = 1.0


class Setting:
    """Injector that changes the cache's configuration at run time; a restart of the cache resets the configuration.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        values: new values by the name of the configuration parameter.
        drops_clients: whether to end the connections of all clients after the change.
    """

    def __init__(self, ground: Ground, values: dict[str, str], *, drops_clients: bool = False) -> None:
        self._ground = ground
        self._values = values
        self._drops_clients = drops_clients
        self._before: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._standing = ground.standing("cache")

    def set_level(self, level: float) -> None:
        """Set the cache's parameters to the fault's values; at `level` 0, restore the values from before the injection.

        All levels above 0 have the same effect. In two cases do nothing:

        - The cache was restarted after this injector was created.
        - Something else, such as a repair, has changed one of the parameters since the previous call.
        """
        if not self._standing.is_whole():
            return
        with self._ground.plant.cache() as cache:
            if not self._before:
                self._before = {name: str(cache.config_get(name)[name]) for name in self._values}
                self._made = self._before
            if any(str(cache.config_get(name)[name]) != value for name, value in self._made.items()):
                return
            self._made = self._values if level > 0 else self._before
            for name, value in self._made.items():
                cache.config_set(name, value)
            if self._drops_clients and level > 0:
                # Connected clients stay authenticated; only new connections need the new password, so end the old ones.
                cache.client_kill_filter(_type="normal", skipme=True)

    def end(self) -> None:
        """Restore the earlier value of each cache parameter that still has the value set by this injector."""
        with self._ground.plant.cache() as cache:
            for name, value in self._before.items():
                if str(cache.config_get(name)[name]) == self._values[name]:
                    cache.config_set(name, value)


class CacheDownFault(ServerDown):
    """The fault `cache_down`: the process of the cache server has been killed."""

    name = "cache_down"
    title = "The cache is down"
    cause = "cache_down"
    component = "redis"
    symptom = Symptom(
        "reads are slower, since each goes to the database",
        "connections are refused, and the server's process is gone",
        ("cache_refuse", "cache_auth", "cache_full"),
    )
    repairs = ("restart-cache",)
    harms = ("restart-target", "restart-database")


class CacheFullFault(Fault[FaultParameters]):
    """The fault `cache_full`: the cache rejects writes, because it is full and is not allowed to evict entries."""

    name = "cache_full"
    title = "The cache is full and may not evict entries"
    cause = "cache_full"
    parameters = FaultParameters
    symptom = Symptom(
        "reads are slower, since the cache stores no new entries",
        "only writes fail, with OOM; reads of stored entries succeed",
        ("cache_down", "cache_auth"),
    )
    repairs = ("set-cache-memory", "restart-cache")
    harms = ("restart-target", "restart-database")
    can_vary = True

    def injector(self, ground: Ground, _given: FaultParameters) -> Setting:
        """Return an injector that sets the cache's memory limit to 1 byte, and turns off the eviction of entries.

        `ground` gives access to the testbed's components.
        """
        # The limit of 1 byte is below the server's own use, so there is never room for a write.
        return Setting(ground, {"maxmemory-policy": "noeviction", "maxmemory": "1"})

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the cache is full and is not allowed to evict entries.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: _is_full(ground))


class CacheAuthFault(Fault[FaultParameters]):
    """The fault `cache_auth`: the cache requires a password that the target does not have."""

    name = "cache_auth"
    title = "The cache requires a password that the target does not have"
    cause = "cache_credential"
    parameters = FaultParameters
    symptom = Symptom(
        "reads are slower, since each goes to the database",
        "every command fails with NOAUTH, reads and writes alike",
        ("cache_down", "cache_full"),
    )
    repairs = ("rotate-credential", "restart-cache")
    harms = ("restart-target", "restart-database")

    def injector(self, ground: Ground, _given: FaultParameters) -> Setting:
        """Return an injector that sets a new password in the cache, and ends all client connections of the cache.

        `ground` gives access to the testbed's components.
        """
        return Setting(ground, {"requirepass": secrets.token_urlsafe(12)}, drops_clients=True)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the cache rejects the password in the target's settings.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: _rejects_the_target(ground))


def _is_full(ground: Ground) -> bool:
    with ground.plant.cache() as cache:
        memory: Any = cache.info("memory")
    return bool(memory["maxmemory_policy"] == "noeviction" and memory["used_memory"] >= memory["maxmemory"] > 0)


def _rejects_the_target(ground: Ground) -> bool:
    server, target = ground.plant.access()["cache"], ground.plant.settings()["cache"]
    client = redis.Redis(
        host=server["host"],
        port=server["port"],
        password=target["password"],
        socket_timeout=_RESPONSE_TIMEOUT_S,
        socket_connect_timeout=_RESPONSE_TIMEOUT_S,
    )
    try:
        client.ping()
    except (redis.AuthenticationError, redis.ResponseError):
        return True
    except redis.RedisError as error:
        raise PlantError(f"The cache: {error}") from error
    finally:
        client.close()
    return False
