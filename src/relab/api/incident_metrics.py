"""Prometheus metrics of the incident responder: stored incidents and actions, and polls of the target."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relab.bootstrap import Services
from relab.incidents.service import DURATION_BOUNDS_S, DurationHistogram, IncidentMetrics, IncidentService


class IncidentCollector(Collector):
    """Collects the metrics of the incident responder at each scrape.

    The numbers of incidents and actions come from the database, which all processes share. The number and the time of
    polls (requests to the target) are those of this process.
    """

    def __init__(self, services: Services) -> None:
        self._incidents = services.incidents

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of stored incidents and actions.

        If this process watches a target, also yield its polls, and whether it is the leader or paused.
        """
        yield from _stored(self._incidents.log.figures.read())
        yield from _watching(self._incidents)


def _stored(figures: IncidentMetrics) -> Iterable[Metric]:
    # Gauges, because stored incidents are deleted after a while.
    incidents = GaugeMetricFamily(
        "relab_incidents", "Stored incidents by status and outcome.", labels=("target", "status", "outcome")
    )
    for kind, number in figures.incidents.items():
        incidents.add_metric(kind, number)
    yield incidents
    seconds = GaugeHistogramMetricFamily(
        "relab_incident_seconds",
        "Time from the opening of stored incidents to their end, by outcome.",
        labels=("target", "outcome"),
    )
    for end, durations in figures.durations.items():
        seconds.add_metric(end, _buckets(durations), durations.sum_s)
    yield seconds
    acts = GaugeMetricFamily("relab_incident_actions", "Stored actions by status.", labels=("target", "status"))
    for of, number in figures.actions.items():
        acts.add_metric(of, number)
    yield acts


def _buckets(durations: DurationHistogram) -> list[tuple[str, float]]:
    named = [
        (str(float(bound)), float(number)) for bound, number in zip(DURATION_BOUNDS_S, durations.within, strict=True)
    ]
    return [*named, ("+Inf", float(durations.number))]


def _watching(incidents: IncidentService) -> Iterable[Metric]:
    status = incidents.status()
    if status.target is None:
        return
    of = (status.target,)
    polls = CounterMetricFamily("relab_responder_polls", "Polls of the target by this process.", labels=("target",))
    polls.add_metric(of, status.polls)
    yield polls
    figures = [
        ("leading", "Whether this process is the leader, which polls the target.", float(status.leading)),
        ("paused", "Whether the responder is paused.", float(status.paused)),
    ]
    if status.polled_at is not None:
        figures.append(
            ("last_poll_timestamp_seconds", "Time of the last poll by this process.", status.polled_at / 1_000_000)
        )
    for name, text, value in figures:
        gauge = GaugeMetricFamily(f"relab_responder_{name}", text, labels=("target",))
        gauge.add_metric(of, value)
        yield gauge
