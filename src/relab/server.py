"""The ASGI app of `lab serve`: routes and middleware over the services; uvicorn starts it by import string."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from relab import __version__
from relab.api import (
    agent_runs,
    build_history,
    build_policies,
    build_suggestions,
    build_training,
    builds,
    docs,
    flags,
    health,
    incidents,
    metrics,
    ofrep,
    rca_clusters,
    rca_labels,
    rca_runs,
    rollouts,
    slack,
    traces,
)
from relab.api.incident_metrics import IncidentCollector
from relab.api.metrics import DatabaseCollector
from relab.api.otlp import LANGFUSE_PATH, SIGNALS, status_response
from relab.bootstrap import Services, build
from relab.core.garbage import collect_seldom
from relab.core.logging import configure_logging
from relab.http.body import IngestGate
from relab.http.metrics import HttpMetrics
from relab.http.middleware import BodyLimitMiddleware, RequestContextMiddleware
from relab.http.openapi import DocumentedApi, components
from relab.http.problems import ProblemDocument, install_error_handlers
from relab.settings import load_settings

GZIP_FROM_BYTES = 1_024

_SHARED = (docs, health, metrics)
ROUTE_MODULES = {
    "all": (
        *_SHARED,
        rca_runs,
        rca_clusters,
        rca_labels,
        agent_runs,
        traces,
        flags,
        ofrep,
        rollouts,
        # Before `builds`, whose route /builds/{build_id} would match its paths.
        build_history,
        build_suggestions,
        builds,
        build_policies,
        build_training,
        incidents,
        slack,
    ),
    "incidents": (*_SHARED, incidents, slack),
    "builds": (*_SHARED, build_history, build_suggestions, builds, build_policies, build_training),
}
"""The modules with the routes of each part that `lab serve` can serve."""

_DESCRIPTION = """
Store agent runs, and get their root causes. Errors are RFC 9457 problem documents (`application/problem+json`).
Until the first token exists, only this machine may send requests; with tokens, send `Authorization: Bearer <token>`.
"""


def create() -> FastAPI:
    """Return the app with the settings of this process; the factory for `uvicorn --factory relab.server:create`."""
    settings = load_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    app = create_app(build(settings))
    collect_seldom()
    # What is loaded now is never garbage: the collector does not visit it again.
    gc.collect()
    gc.freeze()
    return app


@asynccontextmanager
async def _otlp_grpc(services: Services, gate: IngestGate, metrics: HttpMetrics) -> AsyncGenerator[None]:
    """Return a context manager that serves OTLP/gRPC while its block runs.

    It serves nothing if the settings name no port for gRPC, or if `serve_only` selects a single part of relab: single
    parts receive no telemetry.
    """
    if services.settings.grpc.port is None or services.settings.serve_only != "all":
        yield
        return
    from relab.api import otlp_grpc  # noqa: PLC0415 grpcio is an extra

    async with otlp_grpc.serving(services, gate, metrics):
        yield


def create_app(services: Services) -> FastAPI:
    """Return the app of the server. On startup, it prepares the database; on shutdown, it closes connections."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Callable[..., object]]]:
        services.prepare()
        tailers = services.tailer(), services.incident_tailer()
        app.state.tailer, app.state.incident_tailer = tailers
        http_metrics.followers.set_function(lambda: sum(tailer.follower_count for tailer in tailers))
        services.telemetry.start_intake(http_metrics.observe_commit)

        try:
            async with (
                _otlp_grpc(services, app.state.ingest_gate, http_metrics),
                tailers[0].running(),
                tailers[1].running(),
                services.notices.sending(),
                services.incidents.responding(),
            ):
                # The server calls these (see `cli/http_server.py`).
                yield {
                    "end_streams": lambda: [tailer.end_all() for tailer in tailers],
                    "count_rejection": http_metrics.count_rejection,
                    "watch_connections": http_metrics.watch_connections,
                }
        finally:
            services.telemetry.stop_intake()
            services.close()

    app = DocumentedApi(
        title="relab",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # A redirect to the path without the slash would contain the Host header of the caller.
        redirect_slashes=False,
        extra_schemas=components(ProblemDocument),
    )
    http_metrics = HttpMetrics()
    http_metrics.registry.register(DatabaseCollector(services))
    http_metrics.registry.register(IncidentCollector(services))
    app.state.services = services
    app.state.metrics = http_metrics
    http = services.settings.http
    app.state.ingest_gate = IngestGate(
        max_requests=http.max_concurrent_ingests, max_bytes=int(http.max_concurrent_ingest_mb * 1_048_576)
    )
    http_metrics.watch(app.state.ingest_gate, services.telemetry)
    otlp_paths = (*(signal.path for signal in SIGNALS), LANGFUSE_PATH)
    install_error_handlers(app, dict.fromkeys(otlp_paths, status_response))
    app.state.routers = [context.router for context in ROUTE_MODULES[services.settings.serve_only]]
    for router in app.state.routers:
        app.include_router(router)
    # The last added is the outermost: every response, also to a rejected request, has a request id and is counted.
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=5)
    app.add_middleware(BodyLimitMiddleware, max_bytes=int(http.max_body_mb * 1_048_576))
    app.add_middleware(RequestContextMiddleware, metrics=http_metrics, source_of=services.access.source_of)
    return app
