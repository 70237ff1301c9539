"""Faults of the cache."""

from __future__ import annotations

import secrets

from relab.testbed.chaos.faults.database import Down
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault, Kind, Parameters, Symptom


class Setting:
    """Changed configuration of the cache, which a restart of the cache resets."""

    def __init__(self, ground: Ground, values: dict[str, str], *, drops_clients: bool = False) -> None:
        self._ground = ground
        self._values = values
        self._drops_clients = drops_clients
        self._before: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._standing = ground.standing("cache")

    def set_level(self, level: float) -> None:
        """Change or restore the configuration; do nothing if the cache was restarted or reconfigured since."""
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
        """Restore each value that is still the one set here."""
        with self._ground.plant.cache() as cache:
            for name, value in self._before.items():
                if str(cache.config_get(name)[name]) == self._values[name]:
                    cache.config_set(name, value)


def faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return the faults of the cache."""
    found: list[tuple[Fault, Make]] = [
        (
            Fault(
                "cache_down", "The cache is down", Kind.FAULT, Parameters,
                Symptom(
                    "reads are slower, since each goes to the database",
                    "connections are refused, and the server's process is gone",
                    ("cache_refuse", "cache_auth", "cache_full"),
                ),
                repairs=("restart-cache",),
                harms=("restart-target", "restart-database"),
            ),
            lambda _: Down(ground, "redis"),
        ),
        (
            Fault(
                "cache_full", "The cache is full and may not evict", Kind.FAULT, Parameters,
                Symptom(
                    "reads are slower, since what was read is not kept",
                    "only writes fail, with OOM; reads of what is there work",
                    ("cache_down", "cache_auth"),
                ),
                repairs=("set-cache-memory", "restart-cache"),
                harms=("restart-target", "restart-database"),
                can_vary=True,
            ),
            # The limit of 1 byte is below the server's own use, so there is never room for a write.
            lambda _: Setting(ground, {"maxmemory-policy": "noeviction", "maxmemory": "1"}),
        ),
        (
            Fault(
                "cache_auth", "The cache wants a password that the target does not have", Kind.FAULT, Parameters,
                Symptom(
                    "reads are slower, since each goes to the database",
                    "every command fails with NOAUTH, reads and writes alike",
                    ("cache_down", "cache_full"),
                ),
                repairs=("rotate-credential", "restart-cache"),
                harms=("restart-target", "restart-database"),
            ),
            lambda _: Setting(ground, {"requirepass": secrets.token_urlsafe(12)}, drops_clients=True),
        ),
    ]  # fmt: skip
    return {fault.name: (fault, make) for fault, make in found}
