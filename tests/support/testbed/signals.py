"""Signals that distinguish faults, each read from public responses of the target and the action server.

This module does not know the injected causes: a signal uses only what an investigator could query.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

POLL_INTERVAL_S = 1.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Shared by all clients, because loading the machine's certificates takes longer than a request."""
SLOW_MS = 60.0
LARGE_BYTES = 300 << 20
"""Twice the memory that a worker needs."""
OPERATORS = frozenset(("supervisor", "operator"))


@dataclass(frozen=True)
class Sight:
    """Two observations of a service, `POLL_INTERVAL_S` apart; missing responses are empty.

    Attributes:
        then: the components in the first observation, by name.
        components: the components in the second observation, by name.
    """

    then: dict[str, dict[str, Any]]
    components: dict[str, dict[str, Any]]
    kernel: dict[str, Any]
    kernel_then: dict[str, Any]
    volume: dict[str, int]
    history: list[dict[str, Any]]
    log: list[dict[str, Any]]
    job_log: list[Any]
    health: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
    database: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def take(cls, target: str, actions: httpx.Client) -> Sight:
        """Observe the service twice."""
        first = actions.get("/components").raise_for_status().json()
        time.sleep(POLL_INTERVAL_S)
        second = actions.get("/components").raise_for_status().json()
        paths = {
            "health": "/api/v1/health", "pool": "/api/v1/pool/status", "metrics": "/api/v1/metrics",
            "flags": "/ops/flags", "database": "/api/v1/diagnostics/database", "cache": "/api/v1/diagnostics/cache",
            "search": "/api/v1/diagnostics/search",
        }  # fmt: skip
        return cls(
            then={item["name"]: item for item in first["components"]},
            components={item["name"]: item for item in second["components"]},
            kernel=second["kernel"],
            kernel_then=first["kernel"],
            volume=second["volume"] or {},
            history=actions.get("/settings/history").raise_for_status().json()["versions"],
            log=actions.get("/logs", params={"component": "target", "lines": 300}).raise_for_status().json()["lines"],
            job_log=actions.get("/logs", params={"component": "report-job"}).raise_for_status().json()["lines"],
            **_ask_all(target, paths),
        )

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return the target's components."""
        return {name: item for name, item in self.components.items() if item["group"] == "target"}

    def is_running(self, component: str) -> bool:
        """Return whether a component runs."""
        return bool(self.components[component]["state"] == "running")

    def dependency(self, name: str) -> dict[str, Any]:
        """Return the last status of a dependency that the target reported."""
        found: dict[str, Any] = self.health.get("dependencies", {}).get(name, {})
        return found

    def error_of(self, name: str) -> str:
        """Return the error of a dependency that the target reported, in lower case; "" without an error."""
        return str(self.dependency(name).get("error") or "").lower()

    def said(self, words: str, *, within_s: float = 5.0) -> bool:
        """Return whether the target has logged these words in the last `within_s` seconds."""
        return any(words.lower() in str(line).lower() for line in self.recent(within_s))

    def recent(self, within_s: float) -> list[dict[str, Any]]:
        """Return the lines of the target's log from the last `within_s` seconds."""
        return [line for line in self.log if time.time() - _seconds(line["time"]) <= within_s]

    def last_change(self) -> dict[str, Any]:
        """Return the changes of the newest version of the settings, unless an operator or the supervisor made it."""
        newest = self.history[-1]
        return dict(newest["changes"]) if newest["author"] not in OPERATORS else {}


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _ask_all(target: str, paths: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    health = _ask(target, paths["health"])
    # A target that does not report its health would let all other requests time out too.
    return {name: _ask(target, path) for name, path in paths.items()} if health else {}


def _ask(target: str, path: str) -> dict[str, Any]:
    # Connections to a stopped worker time out, and a new connection may reach another worker.
    for _ in range(3):
        try:
            with httpx.Client(base_url=target, timeout=2.5, trust_env=False, verify=NO_TLS) as client:
                answer = client.get(path)
                found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
                return found
        except (httpx.HTTPError, ValueError):
            continue
    return {}


Signal = Callable[[Sight], bool]
_SERVERS = {"database": "postgres", "cache": "redis"}


def db_pool(sight: Sight) -> bool:
    """A pool of normal size is fully used, although the server is fast and no session waits."""
    full = [row for row in sight.pool.get("workers", []) if row["used"] >= row["max"] >= 5]
    return (
        bool(full)
        and (sight.dependency("database").get("answer_ms") or 1e9) < SLOW_MS
        and sight.database.get("blocked") == []
        and sight.database.get("slow") == []
    )


def db_connections(sight: Sight) -> bool:
    """The server rejects connections because it has too many."""
    return bool(sight.dependency("database").get("sqlstate") == "53300")


def db_lock(sight: Sight) -> bool:
    """Sessions wait for a lock that another session holds."""
    blocked = sight.database.get("blocked")
    return isinstance(blocked, list) and any(row["wait_event_type"] == "Lock" for row in blocked)


def db_slow_query(sight: Sight) -> bool:
    """An expected index is missing."""
    return bool(sight.database.get("indexes", {}).get("missing"))


def db_down(sight: Sight) -> bool:
    """The process of PostgreSQL does not run."""
    return not sight.is_running("postgres")


def cache_down(sight: Sight) -> bool:
    """The process of Redis does not run."""
    return not sight.is_running("redis")


def cache_full(sight: Sight) -> bool:
    """The cache can neither store more nor evict entries."""
    info = sight.cache.get("info", {})
    return info.get("maxmemory_policy") == "noeviction" and info["used_memory"] >= info["maxmemory"] > 0


def cache_auth(sight: Sight) -> bool:
    """The cache requires a password."""
    return "auth" in sight.error_of("cache")


def latency(name: str) -> Signal:
    """Return the signal that small and large responses are equally slow, while the server works."""

    def found(sight: Sight) -> bool:
        seen = sight.dependency(name)
        return bool(seen.get("ok")) and seen["answer_ms"] >= SLOW_MS and seen["payload_ms"] < 2 * seen["answer_ms"]

    return found


def bandwidth(name: str) -> Signal:
    """Return the signal that large responses are much slower than small ones."""

    def found(sight: Sight) -> bool:
        seen = sight.dependency(name)
        return bool(seen.get("ok")) and seen["payload_ms"] >= max(SLOW_MS, 3 * seen["answer_ms"])

    return found


def failing(name: str, *words: str) -> Signal:
    """Return the signal that calls fail with one of these words, although the server runs at its usual address."""

    def found(sight: Sight) -> bool:
        is_elsewhere = any(changed.startswith(f"{name}.") for changed in sight.last_change())
        return (
            not is_elsewhere
            and sight.is_running(_SERVERS[name])
            and any(word in sight.error_of(name) for word in words)
        )

    return found


def cut(name: str) -> Signal:
    """Return the signal that connections succeed and break soon afterwards."""
    event = {"database": "db_error", "cache": "cache_error"}[name]

    def found(sight: Sight) -> bool:
        told = [str(line["message"]).lower() for line in sight.recent(5.0) if line["event"] == event]
        is_cut = any(words in text for text in told for words in ("reset", "closed the connection", "closed by server"))
        is_refused = any(word in sight.error_of(name) for word in ("refused", "timeout", "timed out"))
        return is_cut and not is_refused and sight.is_running(_SERVERS[name])

    return found


def hang(sight: Sight) -> bool:
    """A worker's process is stopped."""
    return any((item["process"] or {}).get("kernel_state") == "stopped" for item in sight.workers().values())


def memory_leak(sight: Sight) -> bool:
    """The memory of one worker process has grown far beyond its initial size."""
    grown = []
    for name, now in sight.workers().items():
        then = sight.then[name]
        is_same = now["process"] and then["process"] and now["pid"] == then["pid"]
        if is_same and now["process"]["rss_bytes"] >= LARGE_BYTES:
            grown.append(now["process"]["rss_bytes"] - then["process"]["rss_bytes"])
    return any(more >= 4 << 20 for more in grown)


def descriptors(sight: Sight) -> bool:
    """A worker has reached its limit of open descriptors, and logs it."""
    return any(
        item["process"] and item["process"]["descriptors"] >= item["process"]["descriptors_limit"]
        for item in sight.workers().values()
    ) and sight.said("too many open files")


def cpu_throttle(sight: Sight) -> bool:
    """The kernel keeps throttling workers that have used up their CPU quota."""
    return any(
        (item["counted"]["throttled_periods"] or 0) > (sight.then[name]["counted"]["throttled_periods"] or 0)
        for name, item in sight.workers().items()
    )


def oom(sight: Sight) -> bool:
    """A worker ended with SIGKILL twice in a row, and the kernel has killed its processes for lack of memory."""
    return any(
        item["exits"][-2:] == [-9, -9] and item["state"] != "running" and (item["counted"]["oom_kills"] or 0) >= 2
        for item in sight.workers().values()
    )


def crash_loop(sight: Sight) -> bool:
    """Workers exit with a code above 0 since a change of the settings."""
    ended = [(item["exits"][-1:] or [0])[0] > 0 and item["state"] != "running" for item in sight.workers().values()]
    return any(ended) and bool(sight.last_change())


def disk_full(sight: Sight) -> bool:
    """The volume has no space left."""
    return sight.volume.get("free_bytes", 1 << 30) < 4_096


def bad_setting(sight: Sight) -> bool:
    """A person changed a setting other than a password, and the workers run with it."""
    changed = [name for name in sight.last_change() if not name.endswith("password")]
    return bool(changed) and not crash_loop(sight)


def bad_credential(sight: Sight) -> bool:
    """The server rejects the password."""
    return sight.dependency("database").get("sqlstate") == "28P01"


def bad_flags(sight: Sight) -> bool:
    """The limits are so low that requests are shed, or routing is off."""
    control, routing = sight.flags.get("control", {}), sight.flags.get("routing", {})
    return (
        control.get("max_concurrency", 32) <= 2
        or control.get("target_p95_ms", 1_200) < 10
        or routing.get("enabled") is False
    )


def search_index(sight: Sight) -> bool:
    """A worker's search index is incomplete."""
    return any(row["faiss"]["state"] != "ready" for row in sight.search.get("workers", []))


def _job(sight: Sight) -> dict[str, Any]:
    if not sight.is_running("report-job"):
        return {}
    told = [line for line in sight.job_log if isinstance(line, dict)]
    started = [at for at, line in enumerate(told) if line["event"] == "job_started"]
    is_done = bool(started) and any(line["event"] == "job_done" for line in told[started[-1] :])
    return dict(told[started[-1]]) if started and not is_done else {}


def cpu_saturation(sight: Sight) -> bool:
    """A job runs more processes than there are processors, with the target's priority."""
    job = _job(sight)
    return bool(job) and job["processes"] >= sight.kernel["cpus"] and job["priority"] == 0


def batch_job(sight: Sight) -> bool:
    """A job runs with a lower priority."""
    return bool(_job(sight).get("priority", 0) > 10)


def deploy_restart(sight: Sight) -> bool:
    """The newest version of the settings is by a deploy and changes nothing."""
    newest = sight.history[-1]
    return newest["author"] == "deploy" and not newest["changes"]


SIGNALS: dict[str, Signal] = {
    "db_pool": db_pool,
    "db_connections": db_connections,
    "db_lock": db_lock,
    "db_slow_query": db_slow_query,
    "db_down": db_down,
    "cache_down": cache_down,
    "cache_full": cache_full,
    "cache_auth": cache_auth,
    **{f"{name}_latency": latency(name) for name in _SERVERS},
    **{f"{name}_bandwidth": bandwidth(name) for name in _SERVERS},
    **{f"{name}_blackhole": failing(name, "timeout", "timed out", "no answer") for name in _SERVERS},
    **{f"{name}_refuse": failing(name, "refused") for name in _SERVERS},
    **{f"{name}_reset": cut(name) for name in _SERVERS},
    "hang": hang,
    "memory_leak": memory_leak,
    "descriptors": descriptors,
    "cpu_throttle": cpu_throttle,
    "oom": oom,
    "crash_loop": crash_loop,
    "disk_full": disk_full,
    "bad_setting": bad_setting,
    "bad_credential": bad_credential,
    "bad_flags": bad_flags,
    "search_index": search_index,
    "cpu_saturation": cpu_saturation,
    "batch_job": batch_job,
    "deploy_restart": deploy_restart,
}
