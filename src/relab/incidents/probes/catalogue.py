"""The catalogue of probes, by name. If several probes that run together need the same request, it is sent once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from relab.incidents.probes import database, diagnostics, log_lines, processes, service_health, settings_history
from relab.incidents.probes.models import BUDGET_S, Probe, ProbeRequest, ProbeServer
from relab.incidents.probes.requests import HEALTH_PATH, METRICS_PATH

_DATABASE: Final = ProbeRequest(ProbeServer.TARGET, "/api/v1/diagnostics/database", within_s=BUDGET_S)
"""The request for diagnostics of the database. The target sends about twenty queries for it, so it may take long."""

_ALL: Final = (
    Probe(
        "service", "health, error rate, response times, traffic, how dependencies fail",
        (ProbeRequest(ProbeServer.TARGET, HEALTH_PATH), ProbeRequest(ProbeServer.TARGET, f"{METRICS_PATH}?window_s=10")), service_health.read_service, service_health.SERVICE_FACTS,
    ),
    Probe(
        "pool", "connections of the pool: used, waited for, given up",
        (ProbeRequest(ProbeServer.TARGET, "/api/v1/pool/status"),), service_health.read_pool, service_health.POOL_FACTS,
    ),
    Probe(
        "paths", "how long little and much take to each dependency",
        (ProbeRequest(ProbeServer.TARGET, HEALTH_PATH, times=3, pause_s=0.5),), service_health.read_paths, service_health.PATH_FACTS, cost=2.0,
    ),
    Probe(
        "database.sessions", "whether the database answers, and whose sessions it has",
        (_DATABASE,), database.read_sessions, database.SESSION_FACTS, cost=1.5,
    ),
    Probe(
        "database.waits", "which database sessions wait for which",
        (_DATABASE,), database.read_waits, database.WAIT_FACTS, cost=1.5,
    ),
    Probe(
        "database.indexes", "missing indexes, and how the server does the target's statements",
        (_DATABASE,), database.read_indexes, database.INDEX_FACTS, cost=1.5,
    ),
    Probe(
        "cache", "the cache's memory and eviction",
        (ProbeRequest(ProbeServer.TARGET, "/api/v1/diagnostics/cache"),), diagnostics.read_cache, diagnostics.CACHE_FACTS,
    ),
    Probe(
        "search", "whether the search indexes are whole",
        (ProbeRequest(ProbeServer.TARGET, "/api/v1/diagnostics/search"),), diagnostics.read_search, diagnostics.SEARCH_FACTS,
    ),
    Probe("flags", "the flags in force", (ProbeRequest(ProbeServer.TARGET, "/ops/flags"),), diagnostics.read_flags, diagnostics.FLAG_FACTS),
    Probe(
        "host", "how busy the machine is",
        (ProbeRequest(ProbeServer.TARGET, "/api/v1/diagnostics/host"),), diagnostics.read_host, diagnostics.HOST_FACTS, cost=1.5,
    ),
    Probe(
        "processes", "which processes run, how they ended, what they use and may use",
        (ProbeRequest(ProbeServer.ACTIONS, "/components", times=2, pause_s=1.0),), processes.read_processes, processes.PROCESS_FACTS,
        cost=2.0,
    ),
    Probe(
        "jobs", "jobs that run beside the service",
        (ProbeRequest(ProbeServer.ACTIONS, "/components"), ProbeRequest(ProbeServer.ACTIONS, "/logs?component=report-job&lines=100")),
        processes.read_jobs, processes.JOB_FACTS,
    ),
    Probe(
        "settings.history", "who changed which settings when",
        (ProbeRequest(ProbeServer.ACTIONS, "/settings/history"),), settings_history.read_changes, settings_history.CHANGE_FACTS,
    ),
    Probe(
        "logs", "how often the log reports each kind of failure",
        (ProbeRequest(ProbeServer.ACTIONS, "/logs?component=target&lines=500"),), log_lines.read_logs, log_lines.LOG_FACTS,
    ),
)  # fmt: skip

PROBES: Final[Mapping[str, Probe]] = MappingProxyType({probe.name: probe for probe in _ALL})


def probes_for(facts: Iterable[str]) -> list[str]:
    """Return the names of the probes that can give any of these facts, in the order of the catalogue."""
    wanted = set(facts)
    return [probe.name for probe in _ALL if not wanted.isdisjoint(probe.facts)]
