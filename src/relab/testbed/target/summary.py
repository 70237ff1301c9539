"""Compute the metrics of the whole target from the counters of all workers in the last seconds. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relab.testbed.target.histogram import add, quantile_ms
from relab.testbed.target.recorder import RouteCounts, WorkerCounters
from relab.testbed.target.stats_files import WorkerStats


def merge(seconds: Iterable[WorkerCounters]) -> WorkerCounters:
    """Return the sum of the counters of several seconds, of one worker or of several."""
    merged = WorkerCounters()
    for second in seconds:
        for name, counts in second.routes.items():
            into = merged.routes.setdefault(name, RouteCounts())
            add_counts(into, counts)
        for event, count in second.events.items():
            merged.events[event] = merged.events.get(event, 0) + count
        add(merged.waits, second.waits)
    return merged


def add_counts(into: RouteCounts, counts: RouteCounts) -> None:
    """Add the counters `counts` to the counters `into`; the function changes `into`."""
    into.count += counts.count
    into.errors_5xx += counts.errors_5xx
    into.errors_4xx += counts.errors_4xx
    into.shed += counts.shed
    into.total_ms += counts.total_ms
    add(into.histogram, counts.histogram)


def window(workers: Iterable[WorkerStats], *, now_s: float, window_s: int) -> WorkerCounters:
    """Return the counters of the last `window_s` seconds, including the current one, summed over all workers.

    Args:
        workers: the statistics of each worker.
        now_s: the current time of the machine's monotonic clock.
        window_s: number of seconds.
    """
    first = int(now_s) - window_s + 1
    return merge(
        second for worker in workers for moment, second in worker.seconds.items() if first <= moment <= int(now_s)
    )


def covered_s(workers: Iterable[WorkerStats], *, now_s: float, window_s: int) -> float:
    """Return how long the target has run within the last `window_s` seconds, in seconds; the result is at least 1.

    Args:
        workers: the statistics of each worker, with its start.
        now_s: the current time of the machine's monotonic clock.
        window_s: length of the window that ends now, in seconds.
    """
    began = min((worker.started_s for worker in workers), default=now_s)
    first = int(now_s) - window_s + 1
    return max(now_s - max(began, first), 1.0)


def route_figures(counts: RouteCounts, *, seconds: float) -> dict[str, Any]:
    """Return the metrics of one route, or of the sum of all routes, as JSON.

    - `requests`: number of answered requests, failed ones included.
    - `errors`, `client_errors`: number of answers with a status 5xx; with a status 4xx.
    - `shed`: number of requests that flow control rejected; `errors` includes them.
    - `requests_per_second`: `requests` divided by `seconds`. `error_rate`: share of `errors` in `requests`, in percent.
    - `avg_response_time_ms`, `p50_ms`, `p95_ms`, `p99_ms`: response times in milliseconds; None without requests.

    Args:
        counts: the counters of the route.
        seconds: how long the requests were counted, in seconds.
    """
    histogram = counts.histogram
    return {
        "requests": counts.count,
        "requests_per_second": round(counts.count / seconds, 3),
        "errors": counts.errors_5xx,
        "client_errors": counts.errors_4xx,
        "shed": counts.shed,
        "error_rate": round(100 * counts.errors_5xx / counts.count, 3) if counts.count else 0.0,
        "avg_response_time_ms": round(counts.total_ms / counts.count, 3) if counts.count else None,
        **{f"p{q}_ms": _rounded(quantile_ms(histogram, q / 100)) for q in (50, 95, 99)},
    }


def metrics(workers: list[WorkerStats], *, now_s: float, window_s: int) -> dict[str, Any]:
    """Return the body of the metrics route: for all requests, each route, search, cache, database and flow control.

    Args:
        workers: the statistics of all workers.
        now_s: the current time of the machine's monotonic clock.
        window_s: length in seconds of the window, ending now, that the metrics cover.
    """
    recent = window(workers, now_s=now_s, window_s=window_s)
    seconds = covered_s(workers, now_s=now_s, window_s=window_s)
    whole = RouteCounts()
    for counts in recent.routes.values():
        add_counts(whole, counts)
    events = recent.events
    return {
        "window_s": window_s,
        **route_figures(whole, seconds=seconds),
        "abandoned": events.get("abandoned", 0),
        "routes": {name: route_figures(counts, seconds=seconds) for name, counts in sorted(recent.routes.items())},
        "search": search_figures(events) | {"total": search_figures(merge(w.totals for w in workers).events)},
        "cache": {name: events.get(f"cache_{name}", 0) for name in ("hits", "misses", "errors", "write_errors")},
        "database": {
            "errors": events.get("db_errors", 0),
            "pool_timeouts": events.get("pool_timeouts", 0),
            "pool_wait_p95_ms": _rounded(quantile_ms(recent.waits, 0.95)),
        },
        "flow_control": [
            {"worker": worker.worker, "loop_lag_ms": worker.gauges["loop_lag_ms"], **worker.gauges["limiter"]}
            for worker in workers
        ],
    }


def search_figures(events: dict[str, int]) -> dict[str, Any]:
    """Return the numbers of searches in `events`, for the metrics.

    The result has these keys:
    - `faiss`, `qdrant`: number of searches that this index answered.
    - `faiss_share_pct`: share of the searches that FAISS answered, in percent; None without searches.
    - `fallbacks`: number of searches that Qdrant answered because FAISS failed.
    - `batches`: number of batches; the searches of a batch are processed together.

    Args:
        events: number of events by name, such as `search_faiss`.
    """
    faiss, qdrant = events.get("search_faiss", 0), events.get("search_qdrant", 0)
    return {
        "faiss": faiss,
        "qdrant": qdrant,
        "faiss_share_pct": round(100 * faiss / (faiss + qdrant), 2) if faiss + qdrant else None,
        "fallbacks": events.get("search_fallbacks", 0),
        "batches": events.get("search_batches", 0),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
