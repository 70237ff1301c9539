"""Determine the health status of the target from its metrics. The most severe status in this table applies.

| status | when |
|---|---|
| critical | the database does not answer; or at least half of the requests fail; or most workers are not running |
| critical | all connections of a pool are in use, and requests wait for one or have timed out |
| degraded | the cache does not answer or rejects writes; or an index is not ready; or receipts cannot be written |
| degraded | a worker uses more than 400 MiB of memory, or all of its file descriptors |
| degraded | at least 1 % of the requests fail; or the P95 latency is above its target |
| degraded | a worker is not running; or at least 80 % of a pool's connections are in use; or waits for one timed out |

The share of failed requests and the P95 are only considered if the window has at least `MIN_REQUESTS` requests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from relab.testbed.target.process_figures import state_of
from relab.testbed.target.recorder import WorkerCounters
from relab.testbed.target.stats_files import STALE_AFTER_S, WorkerStats

MIN_REQUESTS: Final = 5
ERROR_RATE_DEGRADED_PCT: Final = 1.0
ERROR_RATE_CRITICAL_PCT: Final = 50.0
UTILIZATION_NORMAL_PCT: Final = 50.0
UTILIZATION_HIGH_PCT: Final = 80.0
MEMORY_DEGRADED_MIB: Final = 400
"""A worker that uses more memory than this is degraded; it is more than twice what a worker needs."""

_RANK = ("healthy", "degraded", "critical")
_LEVELS = ("low", "normal", "high", "exhausted")


def worker_state(worker: WorkerStats | None, *, now_s: float, state: Callable[[int], str] = state_of) -> str:
    """Return whether a worker is `running`, `stopped`, `not responding` or `down`.

    `stopped`: a signal or debugger has stopped the process. `not responding`: its statistics are older than
    `STALE_AFTER_S`. `down`: there is no process, or it has published no statistics.

    Args:
        worker: the last statistics of the worker; None if it has published none.
        now_s: the current time of the machine's monotonic clock.
        state: returns the kernel's state of a process as a word, such as `stopped`, for the process's pid.
    """
    if worker is None:
        return "down"
    if worker.pid != os.getpid():
        kernel = state(worker.pid)
        if kernel in {"gone", "zombie"}:
            return "down"
        if kernel in {"stopped", "traced"}:
            return "stopped"
    return "running" if now_s - worker.written_s <= STALE_AFTER_S else "not responding"


def pool_status(workers: list[WorkerStats], recent: dict[int, WorkerCounters]) -> dict[str, Any]:
    """Return the state of the workers' connection pools, as JSON.

    Each worker has one pool. In the result, `workers` has one row for each pool, `pool_health` and `pool_utilization`
    are the values of the worst pool, and the other fields are totals of all pools.

    Args:
        workers: the last statistics of each worker.
        recent: the counters of each worker in the metrics window, by the worker's number.
    """
    rows = []
    for worker in workers:
        pool, timeouts = worker.gauges["pool"], recent[worker.worker].events.get("pool_timeouts", 0)
        used_pct = 100 * pool["used"] / pool["max"]
        exhausted = pool["used"] >= pool["max"]
        if exhausted and (pool["pending"] or timeouts):
            health = "critical"
        else:
            health = "degraded" if timeouts or used_pct >= UTILIZATION_HIGH_PCT else "healthy"
        rows.append(
            {
                "worker": worker.worker,
                "pool_health": health,
                "pool_utilization": _level(used_pct),
                "utilization_pct": round(used_pct, 1),
                **pool,
                "timeouts": timeouts,
            }
        )
    whole = {name: sum(row[name] for row in rows) for name in ("max", "used", "idle", "pending", "timeouts")}
    return {
        "pool_health": max((row["pool_health"] for row in rows), key=_RANK.index, default="healthy"),
        "pool_utilization": max((row["pool_utilization"] for row in rows), key=_LEVELS.index, default="low"),
        "utilization_pct": round(100 * whole["used"] / whole["max"], 1) if whole["max"] else 0.0,
        **whole,
        "workers": rows,
    }


def judge(
    *,
    figures: dict[str, Any],
    pool: dict[str, Any],
    workers: dict[int, str],
    probes: dict[str, dict[str, Any]],
    indexes: dict[str, str],
    receipt_errors: int,
    target_p95_ms: float,
    processes: Mapping[int, Mapping[str, Any]] | None = None,
) -> tuple[str, list[str]]:
    """Return the health status (`healthy`, `degraded` or `critical`) and its reasons, the most severe first.

    Args:
        figures: the metrics of the whole target, as the metrics route returns them.
        pool: the state of the connection pools of all workers, from `pool_status`.
        workers: `{worker's number: state}`; a state is `running`, `stopped`, `not responding` or `down`.
        probes: the result of the last probe of each dependency, by the name of the dependency.
        indexes: the state of each search index, by name.
        receipt_errors: number of orders in the metrics window that failed because no receipt could be written.
        target_p95_ms: the P95 latency above which the target counts as degraded.
        processes: the resource use of each worker's process, by the worker's number; None if unknown.
    """
    critical: list[str] = []
    degraded: list[str] = []
    for name, probe in probes.items():
        if not probe["ok"]:
            (critical if name == "database" else degraded).append(f"{name} does not answer: {probe['error']}")
    silent = [f"worker {number} is {state}" for number, state in workers.items() if state != "running"]
    (critical if silent and 2 * len(silent) > len(workers) else degraded).extend(silent)
    if pool["pool_health"] != "healthy":
        message = f"connection pool: {pool['used']} of {pool['max']} used, {pool['pending']} waiting"
        (critical if pool["pool_health"] == "critical" else degraded).append(f"{message}, {pool['timeouts']} timed out")
    degraded += [f"search index {name} is {state}" for name, state in indexes.items() if state != "ready"]
    if receipt_errors:
        degraded.append(f"{receipt_errors} orders could not be written to files")
    if figures["cache"]["write_errors"] and probes["cache"]["ok"]:
        degraded.append(f"cache refused {figures['cache']['write_errors']} writes")
    degraded += [
        message for number, process in (processes or {}).items() for message in _process_reasons(number, process)
    ]
    if figures["requests"] >= MIN_REQUESTS:
        if figures["error_rate"] >= ERROR_RATE_DEGRADED_PCT:
            grave = figures["error_rate"] >= ERROR_RATE_CRITICAL_PCT
            (critical if grave else degraded).append(f"error rate is {figures['error_rate']:.1f} %")
        if figures["p95_ms"] > target_p95_ms:
            degraded.append(f"P95 is {figures['p95_ms']:.0f} ms, above {target_p95_ms:.0f} ms")
    return "critical" if critical else "degraded" if degraded else "healthy", critical + degraded


def _process_reasons(number: int, process: Mapping[str, Any]) -> Iterator[str]:
    used_mib = process.get("rss_bytes", 0) >> 20
    if used_mib > MEMORY_DEGRADED_MIB:
        yield f"worker {number} uses {used_mib} MiB of memory, above {MEMORY_DEGRADED_MIB} MiB"
    if process.get("fds", 0) >= process.get("fd_limit", 1):
        yield f"worker {number} has all of its {process['fd_limit']} descriptors open"


def _level(used_pct: float) -> str:
    if used_pct >= 100:
        return "exhausted"
    return "high" if used_pct >= UTILIZATION_HIGH_PCT else "normal" if used_pct >= UTILIZATION_NORMAL_PCT else "low"
