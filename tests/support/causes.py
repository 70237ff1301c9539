"""What an operator calls each fault of the testbed: on this side of the wall alone the two are known together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PATHS: Final = {
    f"{dependency}_{fault}": f"{dependency}_path_{cause}"
    for dependency in ("database", "cache")
    for fault, cause in (
        ("latency", "latency"),
        ("bandwidth", "bandwidth"),
        ("blackhole", "blackhole"),
        ("refuse", "refused"),
        ("reset", "reset"),
    )
}
CAUSES: Final[Mapping[str, str]] = {
    "db_pool": "connection_pool_leak",
    "db_connections": "database_connections_exhausted",
    "db_lock": "database_lock",
    "db_slow_query": "missing_index",
    "db_down": "database_down",
    **_PATHS,
    "cache_down": "cache_down",
    "cache_full": "cache_full",
    "cache_auth": "cache_credential",
    "hang": "process_stopped",
    "memory_leak": "memory_leak",
    "descriptors": "descriptor_leak",
    "cpu_throttle": "cpu_limit",
    "oom": "memory_limit",
    "crash_loop": "crash_loop",
    "disk_full": "disk_full",
    "bad_setting": "bad_setting",
    "bad_credential": "database_credential",
    "bad_flags": "bad_flags",
    "search_index": "search_index_broken",
    "cpu_saturation": "cpu_saturation",
    "traffic_spike": "traffic_spike",
    "retry_storm": "retry_storm",
}
"""Of each fault the cause in the runbooks."""
