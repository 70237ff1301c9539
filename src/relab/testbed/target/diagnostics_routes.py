"""HTTP routes by which operators diagnose the shop: database, cache, machine, processes, settings and search.

The routes change nothing. They use neither the threads nor the connection pool of the shop's requests, so that they
still answer when these are exhausted.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, SecretStr

from relab.testbed.target.diagnostics.cache import cache_diagnostics
from relab.testbed.target.diagnostics.database import database_diagnostics
from relab.testbed.target.diagnostics.host import host_diagnostics
from relab.testbed.target.diagnostics.supervisor import UNKNOWN, ask_supervisor
from relab.testbed.target.operator_routes import in_operator_thread, states
from relab.testbed.target.parts import Parts
from relab.testbed.target.process_figures import state_of

HIDDEN = "********"


def diagnostics_routes(parts: Parts) -> APIRouter:
    """Return the routes with diagnostics for operators."""
    routes = APIRouter(prefix="/api/v1/diagnostics", tags=["diagnostics"])
    settings = parts.settings

    @routes.get("/database", summary="Sessions, locks, slow statements, tables, indexes, plans")
    async def database() -> dict[str, Any]:
        """Return the database's own statistics, read over a connection outside the pool."""
        return await in_operator_thread(parts, lambda: database_diagnostics(settings.database))

    @routes.get("/cache", summary="The cache's own figures")
    async def cache() -> dict[str, Any]:
        """Return selected statistics of the cache server, its errors by kind, and its number of keys."""
        return await cache_diagnostics(settings.cache)

    @routes.get("/host", summary="CPU, load, memory, disk, control group")
    async def host() -> dict[str, Any]:
        """Return the kernel's figures of the machine: CPU, load, memory, disk, and limits of the control group."""
        return await in_operator_thread(parts, lambda: host_diagnostics(settings.data_dir))

    @routes.get("/processes", summary="Workers, and the components around them")
    async def processes() -> dict[str, Any]:
        """Return the resource use of each worker's process, and the supervisor's status of all components."""
        workers, now_s = parts.workers(), time.monotonic()
        reports = {worker.worker: worker for worker in workers}
        rows: list[dict[str, Any]] = []
        for number, state in states(parts, workers).items():
            row: dict[str, Any] = {"worker": number, "state": state}
            if worker := reports.get(number):
                row |= {
                    "pid": worker.pid,
                    "kernel_state": state_of(worker.pid),
                    "uptime_s": round(now_s - worker.started_s, 1),
                    "told_s_ago": round(max(now_s - worker.written_s, 0), 3),
                    "loop_lag_ms": worker.gauges["loop_lag_ms"],
                    **worker.gauges["process"],
                }
            rows.append(row)
        answer = await ask_supervisor(settings.supervisor_socket, "/components")
        components = answer.get("components", UNKNOWN) if isinstance(answer, dict) else UNKNOWN
        return {"workers": rows, "components": components}

    @routes.get("/settings", summary="The current settings, and their history with authors and times")
    async def effective() -> dict[str, Any]:
        """Return the settings that this worker read at its start, without secrets, and the history of all versions."""
        return {
            "version": settings.version,
            "settings": hide_secrets(settings),
            "history": await ask_supervisor(settings.supervisor_socket, "/settings/history"),
        }

    @routes.get("/search", summary="Both indexes of every worker")
    async def search() -> dict[str, Any]:
        """Return the state of both search indexes in each worker, and the rules that choose the index for a search."""
        return {
            "routing": parts.flags.current.flags.routing.model_dump(mode="json"),
            "workers": [{"worker": worker.worker, **worker.gauges["search"]} for worker in parts.workers()],
        }

    return routes


def hide_secrets(model: BaseModel) -> dict[str, Any]:
    """Return a settings model as JSON, with secrets replaced by stars.

    The settings `private_dir` (the folder of the workers' sockets) and `supervisor_socket` are left out.
    """
    shown: dict[str, Any] = {}
    for name, value in model:
        # Only tools on this machine use these two.
        if name in {"private_dir", "supervisor_socket"}:
            continue
        if isinstance(value, BaseModel):
            shown[name] = hide_secrets(value)
        elif isinstance(value, SecretStr):
            shown[name] = HIDDEN
        else:
            shown[name] = value if isinstance(value, str | int | float | None) else str(value)
    return shown
