"""Routes of metrics: metrics for Prometheus, and an overview of recent agent runs.

Some Prometheus metrics are computed from the shared database; `DatabaseCollector` reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.http.access import requires
from relab.http.deps import ServicesDep
from relab.http.problems import problem_responses
from relab.http.routes import scoped
from relab.storage.counters import StoredCounter, StoredSeries
from relab.telemetry.overview_models import MetricsOverview

router = APIRouter(tags=["metrics"])


class DatabaseCollector(Collector):
    """Reads metrics from the shared database at each scrape; every process reports the same values."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of jobs, analyses, clusters, behaviours, builds, rollouts and waiting agent runs.

        An agent run waits if its analysis is not queued yet, or if its newest spans are not in the run yet.
        """
        yield from self._jobs()
        yield from self._analyses()
        yield from self._waiting_runs()
        yield GaugeMetricFamily("relab_builds_running", "Builds that run.", value=self._services.builds.running())
        for series in self._services.builds.totals():
            yield family_of(series)
        rollouts = GaugeMetricFamily(
            "relab_rollouts", "Stored rollouts by status and verdict.", labels=["status", "verdict"]
        )
        for (rollout_status, verdict), number in self._services.rollouts.counts().items():
            rollouts.add_metric([rollout_status, verdict or ""], number)
        yield rollouts

    def _jobs(self) -> Iterable[Metric]:
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

    def _analyses(self) -> Iterable[Metric]:
        # A gauge, because analyses are deleted with their runs.
        analyses = GaugeMetricFamily(
            "relab_rca_runs", "Stored analyses by status and category.", labels=["status", "category"]
        )
        for (status, category), number in self._services.rca.count_by_category().items():
            analyses.add_metric([status, category], number)
        yield analyses
        clusters = GaugeMetricFamily(
            "relab_rca_clusters", "Clusters of failed runs that share a cause, by category.", labels=["category"]
        )
        clustered = GaugeMetricFamily(
            "relab_rca_clustered_runs", "Failed runs in these clusters, by category.", labels=["category"]
        )
        for category, number, runs in self._services.rca.clusters.count_by_category():
            clusters.add_metric([category], number)
            clustered.add_metric([category], runs)
        behaviours = GaugeMetricFamily(
            "relab_run_behaviours", "Runs in which rules found a behaviour, by rule in use.", labels=["behaviour"]
        )
        for name, number in self._services.rca.behaviours.count().items():
            behaviours.add_metric([name], number)
        yield from (clusters, clustered, behaviours)

    def _waiting_runs(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "relab_agent_runs_awaiting_analysis",
            "Failed and suspect runs whose analysis is not queued yet.",
            value=self._services.telemetry.awaiting.count(),
        )
        backlog = self._services.telemetry.projector.backlog()
        yield GaugeMetricFamily(
            "relab_agent_runs_unprojected",
            "Runs whose newest spans are stored and not projected yet.",
            value=backlog.runs,
        )
        yield GaugeMetricFamily(
            "relab_agent_runs_unprojected_spans",
            "Size of the traces of these runs, about their spans.",
            value=backlog.size,
        )


def family_of(series: StoredSeries) -> Metric:
    """Return a metric that is stored in the database as a counter or a histogram of the Prometheus client."""
    metric = series.metric
    if isinstance(metric, StoredCounter):
        counter = CounterMetricFamily(metric.name, metric.text, labels=metric.labels)
        for values, total in series.totals.items():
            counter.add_metric(values, total)
        return counter
    histogram = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
    buckets: defaultdict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for labels_and_bound, number in series.totals.items():
        buckets[labels_and_bound[:-1]][labels_and_bound[-1]] = number
    for labels, numbers in buckets.items():
        bounds = sorted({*map(str, map(float, metric.bounds)), "+Inf", *numbers}, key=float)
        within = accumulate(numbers.get(bound, 0.0) for bound in bounds)
        histogram.add_metric(labels, list(zip(bounds, within, strict=True)), series.sums[labels])
    return histogram


@router.get(
    "/metrics/overview", **scoped(Scope.READ), summary="Show the figures of the runs that started in the last hours"
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
    """Return figures of the runs that started in the last `hours`.

    Among the figures are the success rate in percent, the tools that fail, the 95th percentile (nearest rank) of the
    latency of steps in ms, and the cost in USD.
    """
    return services.telemetry.overview(hours)


@router.get(
    "/metrics",
    dependencies=[requires(Scope.READ)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problem_responses(401, 403, 503)},
    summary="Prometheus metrics",
)
def get_prometheus_metrics(request: Request) -> Response:
    """Return the metrics of this process, and those stored in the shared database, in the Prometheus text format."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
