"""Mute (ignore) the anomalies that may outlast an incident, so that they open no new incident at once."""

from __future__ import annotations

from typing import Final

from relab.incidents.detection.detector import MAX_MUTED_S, Detector
from relab.incidents.models import Anomaly
from relab.incidents.response.context import ResponseContext
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentSummary
from relab.incidents.storage.opening import MAX_FINDINGS

_US: Final = 1_000_000
_COUNTS_S: Final = {IncidentOutcome.DISMISSED: 600.0, IncidentOutcome.CLOSED_BY_PERSON: MAX_MUTED_S}
"""For how many seconds a decision of a person counts for a responder that missed it; other ends mute nothing."""


def mute_after_end(detector: Detector, incident: Incident, world: ResponseContext) -> None:
    """Mute the anomalies that may outlast an incident; nothing is muted if the incident is not over.

    - Dismissed: all its anomalies (`_accepted`), because a person accepts them.
    - Closed by a person: all its anomalies, and those that are present now, for a minute, because figures of the target
      show a problem for some time after its end. If the person is wrong, a new incident opens.
    - Resolved: P95 latencies that the verification of the repair accepted.
    """
    if incident.is_over:
        detector.settled_id = incident.incident_id
    if incident.outcome is IncidentOutcome.DISMISSED:
        detector.mute(_accepted(incident, world))
    elif incident.outcome is IncidentOutcome.CLOSED_BY_PERSON:
        found = world.watch.findings
        # Present ones too: an anomaly that is not confirmed yet is not in the incident.
        detector.mute_briefly([*found.passing, *found.confirmed, *(each.anomaly for each in incident.findings)])
    elif incident.outcome is IncidentOutcome.RESOLVED:
        detector.mute(_left_over(world))


async def last_ended(world: ResponseContext) -> IncidentSummary | None:
    """Return the target's last incident if it is over; None if it is open, or if the target never had an incident."""
    newest = (await world.blocking(world.log.list_incidents, target=world.target, limit=1)).items
    return newest[0] if newest and newest[0].closed_at is not None else None


async def mute_after_unseen_end(detector: Detector, ended: IncidentSummary | None, world: ResponseContext) -> bool:
    """Mute the anomalies of the incident `ended` if a person has just ended it and the responder missed the end.

    The responder misses the end if it is not running, has given the incident up, or cannot read the database at that
    time. A dismissal counts for ten minutes, a closing for a minute.

    Args:
        detector: the detector, after a poll whose anomalies may open an incident.
        ended: the target's last incident if it is over (`last_ended`), else None.
        world: gives the incidents and the clock.

    Returns:
        Whether anomalies were muted, so that the next poll decides.
    """
    if ended is None or ended.closed_at is None or ended.incident_id == detector.settled_id:
        return False
    ended_us, outcome = ended.closed_at, ended.outcome
    counts_s = _COUNTS_S.get(outcome, 0.0) if outcome is not None else 0.0
    if not 0 <= world.clock.now_us() - ended_us < counts_s * _US:
        return False
    incident = await world.blocking(world.log.get, ended.incident_id)
    detector.settled_id = incident.incident_id
    if outcome is IncidentOutcome.DISMISSED:
        detector.mute(_accepted(incident, world))
    else:
        # Other present anomalies may have begun after the end. The detector has no polls from before the end, and a
        # number of errors varies by more than a fifth from poll to poll.
        detector.mute_briefly([each.worst for each in incident.findings], since_us=ended_us)
    return True


def _accepted(incident: Incident, world: ResponseContext) -> list[Anomaly]:
    """Return the anomalies of an incident that a person dismissed.

    An incident with `MAX_FINDINGS` findings may have more anomalies than are stored, so the anomalies that are present
    now count as its own, too.
    """
    found, own = world.watch.findings, [each.anomaly for each in incident.findings]
    return own if len(own) < MAX_FINDINGS else [*found.passing, *found.confirmed, *own]


def _left_over(world: ResponseContext) -> list[Anomaly]:
    """Return the present anomalies of the P95 latency whose value is within the health bound for a verified repair."""
    findings, most = world.watch.findings, world.bounds().p95_ms
    return [
        item
        for item in (*findings.confirmed, *findings.passing)
        if item.detector == "level_shift" and item.signal.endswith("p95_ms") and (item.value or 0.0) <= most
    ]
