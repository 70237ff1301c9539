"""HTTP routes for monitoring: health, metrics, connection pools and logs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import Response

from relab.core.clock import SystemClock
from relab.testbed.target import summary
from relab.testbed.target.health import judge, pool_status, worker_state
from relab.testbed.target.log_files import log_time, read_page
from relab.testbed.target.openmetrics import CONTENT_TYPE, openmetrics
from relab.testbed.target.parts import Parts
from relab.testbed.target.stats_files import WorkerStats

Value = TypeVar("Value")


def operator_routes(parts: Parts) -> APIRouter:
    """Return the routes for monitoring: health, metrics, pool, logs and OpenMetrics."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/api/v1/health", summary="How the service is")
    async def health() -> dict[str, Any]:
        """Return the health status with its reasons; the HTTP status is always 200."""
        return health_document(parts, parts.workers())

    @routes.get("/api/v1/metrics", summary="Error rate, response times, traffic")
    async def metrics(
        window_s: Annotated[int | None, Query(ge=2, le=300, description="At most what is kept.")] = None,
    ) -> dict[str, Any]:
        """Return the metrics of the last `window_s` seconds, of all workers together.

        Without `window_s`, the metrics cover the whole metrics window of the settings. Response times include failed
        requests.
        """
        kept_s = parts.settings.metrics_window_s
        figures = summary.metrics(parts.workers(), now_s=time.monotonic(), window_s=min(window_s or kept_s, kept_s))
        return {"timestamp": _now(), **figures}

    @routes.get("/api/v1/pool/status", summary="The connection pool")
    async def pool() -> dict[str, Any]:
        """Return the state of all workers' connection pools.

        `pool_health` and `pool_utilization` are the values of the worst pool.
        """
        workers = parts.workers()
        return {"timestamp": _now(), **pool_document(parts, workers)}

    @routes.get("/api/v1/logs", summary="Structured log lines, oldest first")
    async def logs(
        since: Annotated[str | None, Query(max_length=2_000)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    ) -> dict[str, Any]:
        """Return a page of log lines, oldest first, and the cursor of the next page.

        `since` is the beginning of the page: the cursor of an earlier page, or an RFC 3339 time. Without it, the page
        begins with the oldest line. `since=latest` returns no lines, only a cursor behind the newest line.
        """
        page = await in_operator_thread(parts, lambda: read_page(parts.settings.log_path, since, limit=limit))
        return {"logs": page.lines, "cursor": page.cursor, "more": page.more, "gap": page.gap}

    @routes.get("/metrics", summary="OpenMetrics")
    async def exposition() -> Response:
        """Return the target's counters and gauges, with one sample per worker, in the OpenMetrics text format."""
        return Response(openmetrics(parts.workers()), media_type=CONTENT_TYPE)

    return routes


async def in_operator_thread(parts: Parts, work: Callable[[], Value]) -> Value:
    """Run the blocking function `work` in the thread pool for operators' requests, and return its result."""
    # The shop's threads may all be busy.
    return await asyncio.get_running_loop().run_in_executor(parts.operator_threads, work)


def pool_document(parts: Parts, workers: list[WorkerStats]) -> dict[str, Any]:
    """Return the state of the workers' connection pools as JSON, in the format of `pool_status`.

    Args:
        parts: the objects (such as settings and pools) of the worker that handles the HTTP request.
        workers: the last statistics of each worker.
    """
    now_s, window_s = time.monotonic(), parts.settings.metrics_window_s
    recent = {worker.worker: summary.window([worker], now_s=now_s, window_s=window_s) for worker in workers}
    return pool_status(workers, recent)


def states(parts: Parts, workers: list[WorkerStats]) -> dict[int, str]:
    """Return `{worker's number: state}`, with the state `running`, `stopped`, `not responding` or `down`.

    The result has an entry for each worker that the settings require, even if the worker has no statistics.

    Args:
        parts: the objects (such as settings and pools) of the worker that handles the HTTP request.
        workers: the last statistics of each worker.
    """
    reports, now_s = {worker.worker: worker for worker in workers}, time.monotonic()
    return {number: worker_state(reports.get(number), now_s=now_s) for number in range(1, parts.settings.workers + 1)}


def health_document(parts: Parts, workers: list[WorkerStats]) -> dict[str, Any]:
    """Return the body of the health route: status, reasons, and figures of requests, pool, dependencies and workers."""
    now_s, window_s = time.monotonic(), parts.settings.metrics_window_s
    figures = summary.metrics(workers, now_s=now_s, window_s=window_s)
    pool, by_worker = pool_document(parts, workers), states(parts, workers)
    own = next(worker for worker in workers if worker.worker == parts.worker)
    # Each worker has its own index; report the first state that is not ready.
    indexes = {
        name: next((state for state in found if state != "ready"), "ready")
        for name in ("faiss", "qdrant")
        if (found := [worker.gauges["search"][name]["state"] for worker in workers])
    }
    flags = parts.flags.current
    status, reasons = judge(
        figures=figures,
        pool=pool,
        workers=by_worker,
        probes=own.gauges["probes"],
        indexes=indexes,
        receipt_errors=summary.window(workers, now_s=now_s, window_s=window_s).events.get("receipt_errors", 0),
        target_p95_ms=flags.flags.control.target_p95_ms,
        processes={worker.worker: worker.gauges["process"] for worker in workers},
    )
    return {
        "timestamp": _now(),
        "health_status": status,
        "reasons": reasons,
        **{name: figures[name] for name in ("error_rate", "avg_response_time_ms", "p95_ms", "requests_per_second")},
        "pool_health": pool["pool_health"],
        "pool_utilization": pool["pool_utilization"],
        "dependencies": {**own.gauges["probes"], "search": {"ok": set(indexes.values()) == {"ready"}, **indexes}},
        "workers": [{"worker": number, "state": state} for number, state in by_worker.items()],
    }


def _now() -> str:
    return log_time(SystemClock().now_us())
