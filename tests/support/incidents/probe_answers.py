"""Responses of a healthy target and action server to probes, in their real formats, shortened."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from relab.core.clock import parse_time
from relab.incidents.models import AbsenceReason
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import ProbeResponse
from relab.knowledge.models import FactValue

NOW = "2026-11-21T18:41:00Z"
NOW_US = parse_time(NOW)


def component(name: str, group: str, **changes: Any) -> dict[str, Any]:
    """Return a component that runs."""
    return {
        "name": name, "group": group, "state": "running", "pid": 9_890, "started_at": "2026-11-21T18:40:00Z",
        "ready_at": "2026-11-21T18:40:04Z", "restarts": 0, "starts": 1, "exit_code": None, "exits": [],
        "limits": {"rlimits": {}, "cpu_pct": None, "memory_mb": None},
        "counted": {"throttled_periods": 0, "memory_refusals": 0, "oom_kills": 0},
        "process": {"kernel_state": "sleeping", "rss_bytes": 150 << 20, "cpu_ticks": 247, "descriptors": 28,
                    "descriptors_limit": 1_024},
        **changes,
    }  # fmt: skip


def log_line(event: str, message: str, *, seconds_ago: int = 1, level: str = "error", **fields: Any) -> dict[str, Any]:
    """Return a line of the target's log."""
    return {
        "time": f"2026-11-21T18:40:{60 - seconds_ago:02}Z", "level": level, "event": event, "message": message,
        "route": "order", "worker": 1, "fields": fields,
    }  # fmt: skip


def version(
    number: int, author: str, changes: Mapping[str, Any], *, at: str = "2026-11-21T18:40:30Z"
) -> dict[str, Any]:
    """Return a version of the settings in the format of their history."""
    told = {name: {"from": 1, "to": value} for name, value in changes.items()}
    return {"version": number, "time": at, "author": author, "note": "", "changes": told}


_PROBE = {"ok": True, "connect_ms": 4.1, "answer_ms": 0.6, "payload_ms": 0.7, "error": None, "sqlstate": None}
_ROUTE = {"requests_per_second": 25.0, "errors": 0, "shed": 0, "error_rate": 0.0, "p95_ms": 8.5}
_PLAN = {"nodes": ["Index Scan on orders_number_idx"], "server_ms": 0.2, "client_ms": 0.8}
_CONTROL = {"policy": "aimd", "target_p95_ms": 1_200.0, "max_concurrency": 32}

WELL: dict[str, Any] = {
    "/api/v1/health": {
        "timestamp": NOW, "health_status": "healthy", "reasons": [],
        "dependencies": {"database": _PROBE, "cache": _PROBE, "search": {"ok": True, "faiss": "ready"}},
        "workers": [{"worker": 1, "state": "running"}, {"worker": 2, "state": "running"}],
    },
    "/api/v1/metrics?window_s=10": {
        "timestamp": NOW, "requests": 1_000, "requests_per_second": 100.0, "errors": 0, "shed": 0, "error_rate": 0.0,
        "avg_response_time_ms": 5.1, "p50_ms": 3.1, "p95_ms": 12.5,
        "routes": {"order": {**_ROUTE, "requests": 450}, "place_order": {**_ROUTE, "requests": 550}},
        "search": {"fallbacks": 0, "faiss_share_pct": 100.0}, "cache": {"errors": 0, "write_errors": 0},
        "database": {"errors": 0}, "flow_control": [{"worker": 1, "limit": 16, "active": 0, "waiting": 0}],
    },
    "/api/v1/pool/status": {
        "timestamp": NOW, "pool_health": "healthy", "utilization_pct": 6.7, "max": 30, "used": 2, "pending": 0,
        "timeouts": 0, "workers": [{"worker": 1, "max": 15, "used": 2}, {"worker": 2, "max": 15, "used": 0}],
    },
    "/api/v1/diagnostics/database": {
        "reachable": True, "answer_ms": 1.0, "server": {"uptime_s": 60.0, "connections": 9},
        "sessions": [{"state": "idle", "application_name": "shop-1", "sessions": 4, "longest_s": 0.02}],
        "blocked": [], "blockers": [], "slow": [],
        "indexes": {"expected": ["orders_number_idx"], "missing": [], "invalid": []},
        "limits": {"max_connections": "50"}, "plans": {"order by number": _PLAN},
    },
    "/api/v1/diagnostics/cache": {
        "reachable": True, "keys": 3,
        "info": {"used_memory": 1_212_520, "maxmemory": 67_108_864, "maxmemory_policy": "allkeys-lru", "uptime_in_seconds": 9},
    },
    "/api/v1/diagnostics/search": {
        "routing": {"enabled": True},
        "workers": [{"worker": number, "faiss": {"state": "ready"}, "qdrant": {"state": "ready"}} for number in (1, 2)],
    },
    "/ops/flags": {"control": _CONTROL, "routing": {"enabled": True, "manual_backend": None}, "version": 0},
    "/api/v1/diagnostics/host": {
        "cpu": {"busy_pct": 20.0, "steal_pct": 0.0}, "cpus": 2, "run_queue": 1,
        "memory_kib": {"MemTotal": 1_000, "MemAvailable": 900}, "disk": {"used_pct": 0.1},
        "pressure": {"cpu": {"some_avg10_pct": 5.0}},
    },
    "/components": {
        "components": [
            component("postgres", "database"), component("redis", "cache"), component("links", "links"),
            component("worker-1", "target"), component("worker-2", "target"),
            component("report-job", "jobs", state="new", pid=None, process=None),
        ],
        "kernel": {"oom_kills": 0, "cpus": 2, "load_1m": 0.5, "running": 1},
        "volume": {"total_bytes": 67_108_864, "free_bytes": 67_000_000},
    },
    "/logs?component=report-job&lines=100": {"component": "report-job", "lines": []},
    "/settings/history": {"versions": [version(1, "supervisor", {})]},
    "/logs?component=target&lines=500": {"component": "target", "lines": []},
}  # fmt: skip
"""The responses by path."""


def changed(path: str, keys: Sequence[str | int], value: Any) -> dict[str, Any]:
    """Return the healthy responses with one value changed."""
    found = copy.deepcopy(WELL)
    place = found[path]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return found


def answers_to(name: str, *answered: Mapping[str, Any]) -> list[ProbeResponse]:
    """Return the responses to a probe: if it sends several requests, each of the documents in turn, a second apart."""
    documents = answered or (WELL,)
    found = []
    for ask in PROBES[name].requests:
        for number in range(ask.times):
            told = documents[min(number, len(documents) - 1)]
            if ask.path in told:
                found.append(ProbeResponse(str(ask), copy.deepcopy(told[ask.path]), at_s=100.0 + number))
            else:
                found.append(
                    ProbeResponse(str(ask), None, AbsenceReason.REFUSED, "nobody listens", at_s=100.0 + number)
                )
    return found


def facts_of(name: str, *answered: Mapping[str, Any], now_us: int = NOW_US) -> dict[str, FactValue]:
    """Return the facts that a probe reads from responses."""
    return {seen.fact: seen.value for seen in PROBES[name].read(answers_to(name, *answered), now_us)}
