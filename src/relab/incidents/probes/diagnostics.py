"""Read facts from the target's diagnostics of the cache, the search indexes, the feature flags, and the host. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.incidents.probes.failure_kinds import kind_of
from relab.incidents.probes.json_paths import FactCollector, JsonValue, root_of
from relab.incidents.probes.models import Observation, ProbeResponse

CACHE_FACTS: Final = (
    "cache.reachable", "cache.failure", "cache.policy", "cache.used_pct", "cache.refuses_writes", "cache.keys", "cache.uptime_s",
)  # fmt: skip
SEARCH_FACTS: Final = (
    "search.broken",
    "search.broken.worker",
    "search.broken.index",
    "search.broken.state",
    "search.broken.last.worker",
)
FLAG_FACTS: Final = (
    "flags.version", "flags.unusual", "flags.max_concurrency", "flags.target_p95_ms", "flags.policy", "flags.route",
    "flags.limit.usual_policy", "flags.route.usual",
)  # fmt: skip
HOST_FACTS: Final = (
    "host.busy_pct", "host.steal_pct", "host.run_queue_per_cpu", "host.cpu_pressure_pct", "host.memory_free_pct",
    "host.disk_used_pct",
)  # fmt: skip
MIN_CONCURRENCY: Final = 2.0
MIN_TARGET_P95_MS: Final = 20.0
"""With a lower target latency, or a concurrency of at most `MIN_CONCURRENCY`, a service rejects nearly all requests."""


def read_cache(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts: whether the cache answers, how full it is, and whether it refuses writes."""
    found, whole = FactCollector(), root_of(answers, 0)
    found.truth("cache.reachable", whole.at("reachable"))
    if whole.at("reachable").truth is False:
        error = whole.at("error")
        found.see("cache.failure", kind_of(error.text), error)
    info = whole.at("info")
    found.word("cache.policy", info.at("maxmemory_policy"))
    found.amount("cache.uptime_s", info.at("uptime_in_seconds"))
    found.amount("cache.keys", whole.at("keys"))
    used, most = info.at("used_memory").amount, info.at("maxmemory").amount
    if used is not None and most is not None:
        is_full = 0 < most <= used
        found.see("cache.used_pct", min(100 * used / most, 100.0) if most else 0.0, info.at("used_memory"))
        if info.at("maxmemory_policy").word:
            policy = info.at("maxmemory_policy")
            found.see("cache.refuses_writes", is_full and policy.word == "noeviction", policy)
    return found.sightings


def read_search(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about the workers' search indexes that are not ready: their number, the first one and the last one.

    First and last refer to the order in the answer. The facts about the first index are its worker, its name and its
    state. The only fact about the last index is its worker.
    """
    found, workers = FactCollector(), root_of(answers, 0).at("workers")
    if not workers.is_list:
        return found.sightings
    broken = [
        (row, name, index)
        for row in workers.rows()
        for name, index in row.fields()
        if (state := index.at("state").word) is not None and state != "ready"
    ]
    found.see("search.broken", float(len(broken)), workers)
    if broken:
        row, name, index = broken[0]
        number = row.at("worker").amount
        found.see("search.broken.worker", None if number is None else f"{number:.0f}", row.at("worker"))
        last = broken[-1][0].at("worker")
        found.see("search.broken.last.worker", None if last.amount is None else f"{last.amount:.0f}", last)
        found.see("search.broken.index", name, index)
        found.word("search.broken.state", index.at("state"))
    return found.sightings


def read_flags(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about the target's feature flags: the load limit, and the routing of requests.

    The fact `flags.unusual` is `limit` or `route` if this flag has a harmful value, `none` if neither has, and missing
    if the flags cannot be judged. A further fact gives the usual value of the harmful flag.
    """
    found, whole = FactCollector(), root_of(answers, 0)
    control, routing = whole.at("control"), whole.at("routing")
    found.amount("flags.version", whole.at("version"))
    found.amount("flags.max_concurrency", control.at("max_concurrency"))
    found.amount("flags.target_p95_ms", control.at("target_p95_ms"))
    found.word("flags.policy", control.at("policy"))
    enabled = routing.at("enabled")
    if enabled.truth is not None:
        found.see("flags.route", "rules" if enabled.truth else routing.at("manual_backend").word, enabled)
    unusual = _unusual(control, routing)
    if unusual is None:
        return found.sightings
    word, place = unusual
    found.see("flags.unusual", word, place)
    if word == "limit":
        found.see("flags.limit.usual_policy", "aimd", place)
    if word == "route":
        found.see("flags.route.usual", "rules", place)
    return found.sightings


def _unusual(control: JsonValue, routing: JsonValue) -> tuple[str, JsonValue] | None:
    """Return which of the target's two feature flags has a harmful value, and the JSON value that proves it.

    The first case that applies decides the result:
    1. The load limit is harmful: `("limit", the harmful field of control)`.
    2. The routing is switched off: `("route", the field "enabled" of routing)`.
    3. `max_concurrency` or `enabled` is missing, so the flags cannot be judged: None.
    4. Neither flag is harmful: `("none", routing)`.

    Args:
        control: the content of the flag that limits the load.
        routing: the content of the flag that routes requests.
    """
    most, p95_ms = control.at("max_concurrency"), control.at("target_p95_ms")
    if most.amount is not None and most.amount <= MIN_CONCURRENCY:
        return "limit", most
    if p95_ms.amount is not None and p95_ms.amount < MIN_TARGET_P95_MS:
        return "limit", p95_ms
    if routing.at("enabled").truth is False:
        return "route", routing.at("enabled")
    is_known = most.amount is not None and routing.at("enabled").truth is not None
    return ("none", routing) if is_known else None


def read_host(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about the host: the load of its processors, its free memory and its used disk space."""
    found, whole = FactCollector(), root_of(answers, 0)
    found.amount("host.busy_pct", whole.at("cpu", "busy_pct"), 100.0)
    found.amount("host.steal_pct", whole.at("cpu", "steal_pct"), 100.0)
    queue, cpus = whole.at("run_queue"), whole.at("cpus").amount
    if queue.amount is not None and cpus:
        found.see("host.run_queue_per_cpu", queue.amount / cpus, queue)
    found.amount("host.cpu_pressure_pct", whole.at("pressure", "cpu", "some_avg10_pct"), 100.0)
    free, all_of_it = whole.at("memory_kib", "MemAvailable"), whole.at("memory_kib", "MemTotal").amount
    if free.amount is not None and all_of_it:
        found.see("host.memory_free_pct", min(100 * free.amount / all_of_it, 100.0), free)
    found.amount("host.disk_used_pct", whole.at("disk", "used_pct"), 100.0)
    return found.sightings
