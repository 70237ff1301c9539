"""Mute (ignore) the anomalies that may outlast an incident, so that they open no new incident at once."""

from __future__ import annotations

from relab.incidents.detection.detector import Detector
from relab.incidents.models import Anomaly
from relab.incidents.response.context import ResponseContext
from relab.incidents.storage.models import Incident, IncidentOutcome


def mute_after_end(detector: Detector, incident: Incident, world: ResponseContext) -> None:
    """Mute the anomalies that may outlast an incident that is over.

    - Dismissed: all its anomalies, because a person accepts them.
    - Closed by a person: all its anomalies, and those that are present now, for a minute, because figures of the target
      show a problem for some time after its end. If the person is wrong, a new incident opens.
    - Resolved: P95 latencies that the verification of the repair accepted.
    """
    if incident.outcome is IncidentOutcome.DISMISSED:
        detector.mute(finding.anomaly for finding in incident.findings)
    elif incident.outcome is IncidentOutcome.CLOSED_BY_PERSON:
        found = world.watch.findings
        # Present ones too: an anomaly that is not confirmed yet is not in the incident.
        detector.mute_briefly([*found.passing, *found.confirmed, *(each.anomaly for each in incident.findings)])
    elif incident.outcome is IncidentOutcome.RESOLVED:
        detector.mute(_left_over(world))


def _left_over(world: ResponseContext) -> list[Anomaly]:
    """Return the present anomalies of the P95 latency whose value is within the health bound for a verified repair."""
    findings, most = world.watch.findings, world.bounds().p95_ms
    return [
        item
        for item in (*findings.confirmed, *findings.passing)
        if item.detector == "level_shift" and item.signal.endswith("p95_ms") and (item.value or 0.0) <= most
    ]
