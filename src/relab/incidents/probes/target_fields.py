"""For each signal, the path of its value in the JSON that the target returns for health, metrics and pool requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "errors.pct": ("error_rate",),
    "latency.avg_ms": ("avg_response_time_ms",),
    "latency.p50_ms": ("p50_ms",),
    "latency.p95_ms": ("p95_ms",),
    "latency.p99_ms": ("p99_ms",),
    "traffic.rps": ("requests_per_second",),
    "traffic.requests": ("requests",),
    "errors.count": ("errors",),
    "traffic.shed": ("shed",),
    "traffic.abandoned": ("abandoned",),
    "cache.errors": ("cache", "errors"),
    "cache.write_errors": ("cache", "write_errors"),
    "cache.hits": ("cache", "hits"),
    "cache.misses": ("cache", "misses"),
    "database.errors": ("database", "errors"),
    "database.pool_wait_p95_ms": ("database", "pool_wait_p95_ms"),
    "search.fallbacks": ("search", "fallbacks"),
    "search.faiss_share_pct": ("search", "faiss_share_pct"),
}
"""For each signal, the path of its value in the answer to a metrics request."""
HEALTH: Final[Mapping[str, str]] = {"errors.pct": "error_rate", "latency.avg_ms": "avg_response_time_ms"}
"""For each signal that the answer to a health request repeats, its field."""
POOL: Final[Mapping[str, str]] = {
    "pool.used_pct": "utilization_pct",
    "pool.used": "used",
    "pool.max": "max",
    "pool.pending": "pending",
    "pool.timeouts": "timeouts",
}
"""For each signal, its field in the answer to a pool request."""
PERCENTAGES: Final = frozenset(("errors.pct", "pool.used_pct", "search.faiss_share_pct"))
"""The signals that are percentages, so that values above 100 are impossible."""
