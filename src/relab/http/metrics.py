"""The Prometheus metrics of the requests that this process handles."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from relab.http.body import IngestGate
from relab.serving.connections import Connections
from relab.telemetry.otlp_models import OtlpReceipt
from relab.telemetry.service import TelemetryService

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_BUILD_BUCKETS = (0.5, 1, 2, 3, 5, 10, 20, 30, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """The metrics of the requests that this process handles. Each app has its own object and registry."""

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
            "Time to answer a request; for a stream, until its end.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.ingested = Counter(
            "relab_agent_runs_ingested",
            "Stored agent runs by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self._simulated = Histogram(
            "relab_simulated_build_duration_seconds",
            "Duration of simulated builds, by status and kind of failure.",
            ("status", "failure"),
            buckets=_BUILD_BUCKETS,
            registry=self.registry,
        )
        self._received = {
            signal: Counter(f"relab_{name}", f"Received {text} by outcome.", ("outcome",), registry=self.registry)
            for signal, name, text in (
                ("traces", "spans", "spans"),
                ("logs", "log_records", "log records"),
                ("metrics", "metric_data_points", "data points of metrics"),
            )
        }
        self._grpc = Counter(
            "relab_grpc_requests", "OTLP/gRPC requests by signal and code.", ("signal", "code"), registry=self.registry
        )
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
        self._rejections = Counter(
            "relab_http_rejected",
            "Requests and connections that the server rejected before they reached the app, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.followers = Gauge("relab_progress_followers", "Open progress streams.", registry=self.registry)

    def observe_commit(self, weight: int, seconds: float) -> None:
        """Count one group commit of ingested data.

        Args:
            weight: the number of spans, steps and calls in the batch.
            seconds: the duration of the commit.
        """
        self._commits.observe(seconds)
        self._batches.observe(weight)

    def count_simulated_build(self, status: str, failure: str, seconds: float) -> None:
        """Count one simulated build, which took `seconds` of simulated time.

        `failure` is the kind of the failure; empty if the build did not fail.
        """
        self._simulated.labels(status, failure).observe(seconds)

    def count_otlp(self, signal: str, receipt: OtlpReceipt) -> None:
        """Count the accepted, rejected and ignored items of an OTLP request for `traces`, `logs` or `metrics`."""
        for outcome in ("accepted", "rejected", "ignored"):
            self._received[signal].labels(outcome).inc(getattr(receipt, outcome))

    def count_grpc(self, signal: str, code: str) -> None:
        """Count one finished OTLP request over gRPC, by its signal (such as `traces`) and gRPC status code."""
        self._grpc.labels(signal, code).inc()

    def count_rejection(self, reason: str) -> None:
        """Count one request or connection that the server rejected; `reason` is the code of the rejection."""
        self._rejections.labels(reason).inc()

    def watch_connections(self, connections: Connections) -> None:
        """Register gauges that read the number of open connections, by kind, at each scrape."""
        gauge = Gauge("relab_http_connections", "Open connections by kind.", ("kind",), registry=self.registry)
        gauge.labels("request").set_function(lambda: connections.open_count)
        gauge.labels("stream").set_function(lambda: connections.stream_count)

    def watch(self, gate: IngestGate, telemetry: TelemetryService) -> None:
        """Register gauges for the ingest requests in progress (number and bytes) and the spans that wait for a commit.

        The gauges are read at each scrape.

        Args:
            gate: counts the requests in progress and the size of their bodies.
            telemetry: counts the spans that wait for their commit.
        """
        for name, text, read in (
            ("relab_ingest_requests", "Ingest requests in progress.", lambda: gate.requests),
            ("relab_ingest_bytes", "Size of the bodies of the ingest requests in progress.", lambda: gate.bytes),
            (
                "relab_ingest_waiting_spans",
                "Spans that wait for their commit.",
                lambda: telemetry.waiting_spans,
            ),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request.

        Args:
            method: the HTTP method.
            route: the route's template, never the path of the request, because the number of paths is unbounded.
            status: the HTTP status of the response.
            seconds: the duration of the request.
        """
        known_method = method if method in _METHODS else "other"
        self._requests.labels(known_method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
