"""The catalogue of looks, by name. Looks that are taken together make a shared request only once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from relab.incidents.looks import changes, components, database, log_lines, parts, service
from relab.incidents.looks.models import Ask, Base, Look

_HEALTH: Final = "/api/v1/health"
_DATABASE: Final = Ask(Base.TARGET, "/api/v1/diagnostics/database", within_s=8.0)
"""The target answers it with about twenty queries, which take long over a slow path to the database."""

_ALL: Final = (
    Look(
        "service", "health, error rate, response times, traffic, how dependencies fail",
        (Ask(Base.TARGET, _HEALTH), Ask(Base.TARGET, "/api/v1/metrics?window_s=10")), service.read_service, service.SERVICE_FACTS,
    ),
    Look(
        "pool", "connections of the pool: used, waited for, given up",
        (Ask(Base.TARGET, "/api/v1/pool/status"),), service.read_pool, service.POOL_FACTS,
    ),
    Look(
        "paths", "how long little and much take to each dependency",
        (Ask(Base.TARGET, _HEALTH, times=3, pause_s=0.5),), service.read_paths, service.PATH_FACTS, cost=2.0,
    ),
    Look(
        "database.sessions", "whether the database answers, and whose sessions it has",
        (_DATABASE,), database.read_sessions, database.SESSION_FACTS, cost=1.5,
    ),
    Look(
        "database.waits", "who waits for whom in the database",
        (_DATABASE,), database.read_waits, database.WAIT_FACTS, cost=1.5,
    ),
    Look(
        "database.indexes", "missing indexes, and how the server does the target's statements",
        (_DATABASE,), database.read_indexes, database.INDEX_FACTS, cost=1.5,
    ),
    Look(
        "cache", "the cache's memory and eviction",
        (Ask(Base.TARGET, "/api/v1/diagnostics/cache"),), parts.read_cache, parts.CACHE_FACTS,
    ),
    Look(
        "search", "whether the search indexes are whole",
        (Ask(Base.TARGET, "/api/v1/diagnostics/search"),), parts.read_search, parts.SEARCH_FACTS,
    ),
    Look("flags", "the flags in force", (Ask(Base.TARGET, "/ops/flags"),), parts.read_flags, parts.FLAG_FACTS),
    Look(
        "host", "how busy the machine is",
        (Ask(Base.TARGET, "/api/v1/diagnostics/host"),), parts.read_host, parts.HOST_FACTS, cost=1.5,
    ),
    Look(
        "processes", "which processes run, how they ended, what they use and may use",
        (Ask(Base.ACTIONS, "/components", times=2, pause_s=1.0),), components.read_processes, components.PROCESS_FACTS,
        cost=2.0,
    ),
    Look(
        "jobs", "jobs that run beside the service",
        (Ask(Base.ACTIONS, "/components"), Ask(Base.ACTIONS, "/logs?component=report-job&lines=100")),
        components.read_jobs, components.JOB_FACTS,
    ),
    Look(
        "settings.history", "who changed which settings when",
        (Ask(Base.ACTIONS, "/settings/history"),), changes.read_changes, changes.CHANGE_FACTS,
    ),
    Look(
        "logs", "how often the log tells of each kind of failure",
        (Ask(Base.ACTIONS, "/logs?component=target&lines=500"),), log_lines.read_logs, log_lines.LOG_FACTS,
    ),
)  # fmt: skip

LOOKS: Final[Mapping[str, Look]] = MappingProxyType({look.name: look for look in _ALL})


def looks_for(facts: Iterable[str]) -> list[str]:
    """Return the names of the looks that can give any of these facts, in the order of the catalogue."""
    wanted = set(facts)
    return [look.name for look in _ALL if not wanted.isdisjoint(look.facts)]
