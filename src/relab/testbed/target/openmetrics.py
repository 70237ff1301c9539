"""Write the target's metrics in the OpenMetrics text format.

The metrics of connection pools have the names that OpenTelemetry defines (`db.client.connection.*`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from relab.testbed.target.histogram import cumulative
from relab.testbed.target.stats_files import WorkerStats

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
POOL: Final = "shop"

_POOL_LABELS = ("db_client_connection_pool_name", "worker")


class _Collector:
    """Builds OpenMetrics metric families from the workers' published statistics."""

    def __init__(self, workers: list[WorkerStats]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families; each sample has a label with the number of the worker."""
        yield from self._requests()
        yield from self._pool()
        yield from self._events()
        yield from self._process()

    def _requests(self) -> Iterator[Metric]:
        labels = ("http_route", "worker")
        duration = HistogramMetricFamily(
            "http_server_request_duration_seconds", "Answered requests of the shop, failed ones too.", labels=labels
        )
        errors = CounterMetricFamily("shop_request_errors", "Requests by kind of failure.", labels=(*labels, "kind"))
        for worker in self._workers:
            for route, counts in worker.totals.routes.items():
                of = (route, str(worker.worker))
                duration.add_metric(of, _buckets(counts.histogram), counts.total_ms / 1_000)
                errors.add_metric((*of, "server"), counts.errors_5xx)
                errors.add_metric((*of, "client"), counts.errors_4xx)
                errors.add_metric((*of, "shed"), counts.shed)
        yield duration
        yield errors

    def _pool(self) -> Iterator[Metric]:
        count = GaugeMetricFamily(
            "db_client_connection_count",
            "Connections of the pool by state.",
            labels=(*_POOL_LABELS, "db_client_connection_state"),
        )
        gauges = {
            name: GaugeMetricFamily(f"db_client_connection_{name}", text, labels=_POOL_LABELS)
            for name, text in (
                ("max", "Connections that the pool may have open."),
                ("idle_max", "Idle connections that the pool may keep."),
                ("idle_min", "Idle connections that the pool keeps at least."),
                ("pending_requests", "Requests that wait for a connection."),
            )
        }
        timeouts = CounterMetricFamily(
            "db_client_connection_timeouts", "Waits for a connection that were given up.", labels=_POOL_LABELS
        )
        waits = HistogramMetricFamily(
            "db_client_connection_wait_time_seconds", "Waits for a connection.", labels=_POOL_LABELS
        )
        for worker in self._workers:
            of, pool = (POOL, str(worker.worker)), worker.gauges["pool"]
            count.add_metric((*of, "used"), pool["used"])
            count.add_metric((*of, "idle"), pool["idle"])
            gauges["max"].add_metric(of, pool["max"])
            gauges["idle_max"].add_metric(of, pool["size"])
            gauges["idle_min"].add_metric(of, 0)
            gauges["pending_requests"].add_metric(of, pool["pending"])
            timeouts.add_metric(of, worker.totals.events.get("pool_timeouts", 0))
            buckets = _buckets(worker.totals.waits)
            # The histogram has only buckets; the sum of their geometric means is within 1 % of the true sum.
            waits.add_metric(of, buckets, sum(n * 1.02**b for b, n in worker.totals.waits.items()) / 1_010)
        yield from (count, *gauges.values(), timeouts, waits)

    def _events(self) -> Iterator[Metric]:
        events = CounterMetricFamily("shop_events", "What happened beside requests.", labels=("event", "worker"))
        for worker in self._workers:
            for name, number in worker.totals.events.items():
                events.add_metric((name, str(worker.worker)), number)
        yield events

    def _process(self) -> Iterator[Metric]:
        wanted = (
            ("process_open_fds", "Open descriptors.", "fds"),
            ("process_max_fds", "Descriptors that may be open.", "fd_limit"),
            ("process_resident_memory_bytes", "Resident memory.", "rss_bytes"),
            ("process_threads", "Threads.", "threads"),
        )
        for name, text, key in wanted:
            yield _gauge(
                name, text, ((w.worker, w.gauges["process"][key]) for w in self._workers if key in w.gauges["process"])
            )
        limits = ((w.worker, w.gauges["limiter"]["limit"]) for w in self._workers)
        yield _gauge("shop_concurrency_limit", "Requests that may be at work.", (pair for pair in limits if pair[1]))
        active = ((w.worker, w.gauges["limiter"]["active"]) for w in self._workers)
        yield _gauge("shop_requests_active", "Requests at work.", active)


def openmetrics(workers: list[WorkerStats]) -> bytes:
    """Return the metrics of workers in the OpenMetrics text format, from their published statistics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(workers))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text


def _gauge(name: str, text: str, values: Iterable[tuple[int, Any]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("worker",))
    for worker, value in values:
        family.add_metric((str(worker),), value)
    return family


def _buckets(histogram: dict[int, int]) -> list[tuple[str, float]]:
    counted = cumulative(histogram, (bound * 1_000 for bound in BOUNDS_S))
    known = [(str(bound), float(count)) for bound, (_, count) in zip(BOUNDS_S, counted, strict=True)]
    return [*known, ("+Inf", float(sum(histogram.values())))]
