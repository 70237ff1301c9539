"""Diagnostics of the cache: Redis' own statistics."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from relab.testbed.target.cache import FAILURES, make_client, words
from relab.testbed.target.settings import CacheSettings

_FIELDS: Final = (
    "redis_version", "uptime_in_seconds", "connected_clients", "blocked_clients", "maxclients", "used_memory",
    "used_memory_rss", "maxmemory", "maxmemory_policy", "mem_fragmentation_ratio", "evicted_keys", "expired_keys",
    "keyspace_hits", "keyspace_misses", "rejected_connections", "total_error_replies", "instantaneous_ops_per_sec",
    "loading", "rdb_last_bgsave_status", "role",
)  # fmt: skip


async def cache_diagnostics(settings: CacheSettings) -> dict[str, Any]:
    """Return Redis' own statistics as JSON: `reachable`, `info`, `errors` and `keys`.

    `info` has selected values of the command INFO, `errors` the number of errors by kind, `keys` the number of keys. If
    the cache does not answer, the result is `{"reachable": False, "error": message}`.
    """
    client = make_client(settings)
    try:
        info = await client.info()
        errors = await client.info("errorstats")
        return {
            "reachable": True,
            "info": {name: info[name] for name in _FIELDS if name in info},
            "errors": {name.removeprefix("errorstat_"): value for name, value in errors.items()},
            "keys": await client.dbsize(),
        }
    except FAILURES as error:
        return {"reachable": False, "error": words(error)}
    finally:
        with suppress(*FAILURES):
            await client.aclose()
