"""Prometheus metrics of this process and of the shared database, and the overview."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from relab.access.models import Scope
from relab.api.access import requires
from relab.api.body import IngestGate
from relab.api.deps import ServicesDep
from relab.api.errors import problem_responses
from relab.bootstrap import Services
from relab.serving.connections import Connections
from relab.telemetry.models import MetricsOverview
from relab.telemetry.service import TelemetryService

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

router = APIRouter(tags=["metrics"])


class HttpMetrics:
    """The metrics of this process; each app has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "relab_http_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "relab_http_request_seconds",
            "Time to answer a request; a stream lasts until its end.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.ingested = Counter(
            "relab_agent_runs_ingested",
            "Agent runs stored, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.spans = Counter("relab_spans", "Spans received, by outcome.", ("outcome",), registry=self.registry)
        self._commits = Histogram(
            "relab_ingest_commit_seconds",
            "Time to commit a batch of telemetry.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "relab_ingest_batch_spans",
            "Spans, steps and calls of a batch.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "relab_http_refused",
            "Requests and connections that the server rejected before they reached the app, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.followers = Gauge("relab_progress_followers", "Open progress streams.", registry=self.registry)

    def observe_commit(self, weight: int, seconds: float) -> None:
        """Count one group commit."""
        self._commits.observe(seconds)
        self._batches.observe(weight)

    def count_refusal(self, reason: str) -> None:
        """Count one rejected request or connection."""
        self._refusals.labels(reason).inc()

    def watch_connections(self, connections: Connections) -> None:
        """Report the number of open connections at each scrape."""
        gauge = Gauge("relab_http_connections", "Open connections by kind.", ("kind",), registry=self.registry)
        gauge.labels("request").set_function(lambda: connections.open_count)
        gauge.labels("stream").set_function(lambda: connections.stream_count)

    def watch(self, gate: IngestGate, telemetry: TelemetryService) -> None:
        """Report the ingest requests in progress at each scrape."""
        for name, text, read in (
            ("relab_ingest_requests", "Ingest requests in progress.", lambda: gate.requests),
            ("relab_ingest_bytes", "Bytes of the bodies of ingest requests in progress.", lambda: gate.bytes),
            (
                "relab_ingest_waiting_spans",
                "Spans that are decoded and not yet committed.",
                lambda: telemetry.waiting_spans,
            ),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request. `route` is a template, never a path: paths are unbounded."""
        known_method = method if method in _METHODS else "other"
        self._requests.labels(known_method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class DatabaseCollector(Collector):
    """Metrics of the shared database, read at each scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """Yield the state of the queue and the number of analyses."""
        counts = self._services.queue.counts()
        jobs = GaugeMetricFamily("relab_jobs", "Jobs by status.", labels=["status"])
        for status in ("pending", "running", "done", "parked"):
            jobs.add_metric([status], getattr(counts, status))
        yield jobs
        yield GaugeMetricFamily(
            "relab_jobs_oldest_pending_seconds",
            "Waiting time of the oldest runnable job.",
            value=counts.oldest_pending_s,
        )
        # A gauge, because analyses go with the runs that are deleted.
        analyses = GaugeMetricFamily(
            "relab_rca_runs", "Stored analyses by status and category.", labels=["status", "category"]
        )
        for (status, category), number in self._services.rca.count_by_category().items():
            analyses.add_metric([status, category], number)
        yield analyses


@router.get(
    "/metrics/overview",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 422, 503),
    summary="Show the figures of the runs that started in the last hours",
)
def get_overview(
    services: ServicesDep,
    hours: Annotated[
        float,
        Query(
            gt=0,
            le=10_000_000,
            allow_inf_nan=False,
            description="Length of the window that ends now, by the server's clock.",
            examples=[24],
        ),
    ] = 24,
) -> MetricsOverview:
    """Return success rate in percent, failing tools, nearest-rank P95 of step latency in ms, and cost in USD."""
    return services.telemetry.overview(hours)


@router.get(
    "/metrics",
    dependencies=[requires(Scope.READ)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problem_responses(401, 403, 503)},
    summary="Prometheus metrics",
)
def get_prometheus_metrics(request: Request) -> Response:
    """Return the metrics of this process and of the shared queue in the Prometheus text format."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
