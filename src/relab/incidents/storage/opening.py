"""Open incidents. A target has at most one open incident; later anomalies are added to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relab.core.ids import new_id
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage import repository
from relab.incidents.storage.errors import IncidentOverError
from relab.incidents.storage.models import (
    EventKind,
    Incident,
    IncidentFinding,
    IncidentStatus,
    NewEvent,
    Opened,
    Phase,
    finding_of,
)
from relab.incidents.storage.text_limits import cut
from relab.incidents.storage.timeline import Timeline
from relab.storage import UnitOfWork

MAX_TITLE: Final = 300
MAX_FINDINGS: Final = 100
"""The maximum number of findings of one incident, which is enough to recognize its cause.

The reports of people are one finding in addition.
"""
_REPORTED: Final = "trigger"
"""The detector of findings that people report."""


class Opening:
    """Opens incidents, or adds anomalies to open ones, in the transaction of the caller."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def open(
        self,
        unit: UnitOfWork,
        target: str,
        at_us: int,
        title: str,
        severity: Severity,
        anomalies: Sequence[Anomaly],
        last_ended_id: str | None = None,
    ) -> Opened:
        """Open an incident for a target, or add the anomalies to the target's open incident.

        Args:
            unit: the transaction of the caller.
            target: the name of the target.
            at_us: the current time, in microseconds since 1970.
            title: the title of a new incident.
            severity: the minimum severity; the anomalies may raise it.
            anomalies: the anomalies that were found.
            last_ended_id: the id of the last ended incident that the caller knows, empty if it knows none; None: any
                incident may have ended.

        Raises:
            IncidentOverError: no incident is open, and the target's last incident is not the one of `last_ended_id`.
        """
        findings = [finding_of(anomaly, at_us) for anomaly in anomalies]
        while True:
            row = repository.get_open(unit.session, target, is_locked=True)
            if row is not None:
                self._add(unit, row, severity, findings, at_us)
                return Opened(incident_of(repository.get(unit.session, row.incident_id)), created=False)
            if last_ended_id is not None:
                # Read after the locking query, which may have waited for the transaction that ended the incident.
                newest = repository.list_incidents(unit.session, target=target, statuses=(), before=None, limit=1)
                if newest and newest[0].incident_id != last_ended_id:
                    raise IncidentOverError(newest[0].incident_id)
            values = _new(target, at_us, title, severity, findings)
            if repository.add_open(unit.session, values):
                return Opened(self._append_opened(unit, values), created=True)
            # Another process inserted one first; it may be closed by now, so try again.

    def join(self, unit: UnitOfWork, row: Any, at_us: int, severity: Severity, anomalies: Sequence[Anomaly]) -> None:
        """Add anomalies to an incident, and raise its severity to at least `severity`.

        The caller must have locked `row`, the incident's row. `at_us` is the current time, in microseconds since 1970.
        """
        self._add(unit, row, severity, [finding_of(anomaly, at_us) for anomaly in anomalies], at_us)

    def _append_opened(self, unit: UnitOfWork, values: dict[str, Any]) -> Incident:
        content = {name: values[name] for name in ("target", "severity", "findings")}
        event = NewEvent(EventKind.OPENED, values["title"], content)
        self._timeline.append_events(unit, values["incident_id"], values["opened_at"], [event])
        return incident_of(repository.get(unit.session, values["incident_id"]))

    def _add(
        self, unit: UnitOfWork, row: Any, severity: Severity, findings: Sequence[IncidentFinding], at_us: int
    ) -> None:
        merged, fresh = _merged([IncidentFinding.model_validate(item) for item in row.findings], findings)
        values = {
            "findings": _dumped(merged),
            "severity": _worst([Severity(row.severity), severity, *(each.severity for each in findings)]),
            "updated_at": at_us,
        }
        repository.change(unit.session, row.incident_id, values)
        events = [
            NewEvent(EventKind.FINDING, each.detail or each.signal, {"finding": each.model_dump(mode="json")})
            for each in fresh
        ]
        if events:
            self._timeline.append_events(unit, row.incident_id, at_us, events)


def incident_of(row: Any) -> Incident:
    """Return the incident in a row of the table `incidents`."""
    return Incident.model_validate(row, from_attributes=True)


def _new(
    target: str, at_us: int, title: str, severity: Severity, findings: Sequence[IncidentFinding]
) -> dict[str, Any]:
    return {
        "incident_id": new_id(),
        "target": target,
        "opened_at": at_us,
        "updated_at": at_us,
        "closed_at": None,
        "status": IncidentStatus.OPEN,
        "phase": Phase.DETECT,
        "severity": _worst([severity, *(each.severity for each in findings)]),
        "outcome": None,
        "title": cut(title, MAX_TITLE),
        "diagnosis": None,
        "probability": None,
        "recommendation": "",
        "last_seq": 0,
        "findings": _dumped(_merged([], findings)[0]),
        "symptoms": {},
        "plan": None,
        "content": {},
    }


def _merged(
    known: Sequence[IncidentFinding], found: Sequence[IncidentFinding]
) -> tuple[list[IncidentFinding], list[IncidentFinding]]:
    """Merge the findings `found` into the findings `known`; return `(all findings, new findings)`.

    Each pair of detector and signal has one finding. A finding counts as new if its pair is new, or if its severity is
    higher than ever before for this pair. When there are `MAX_FINDINGS` findings, new pairs are ignored, but a report of
    a person is never ignored.
    """
    merged = {(each.detector, each.signal): each for each in known}
    fresh = []
    for each in found:
        key = (each.detector, each.signal)
        earlier = merged.get(key)
        if earlier is None:
            if len(merged) < MAX_FINDINGS or each.detector == _REPORTED:
                merged[key] = each
                fresh.append(each)
            continue
        if _rank(each.severity) > _rank(earlier.severity):
            fresh.append(each)
        # Keep the worst severity: a finding that wavers then appends an event only when it is worse than ever.
        worst = _worst([each.severity, earlier.severity])
        merged[key] = each.model_copy(
            update={
                "first_at": earlier.first_at,
                "count": earlier.count + 1,
                "severity": worst,
                "worst_value": _worst_value(earlier, each),
            }
        )
    return list(merged.values()), fresh


def _worst_value(earlier: IncidentFinding, latest: IncidentFinding) -> float | None:
    """Return the value of two findings of one signal that is farther in the direction in which the latest value is off."""
    value, expected, before = latest.value, latest.expected, earlier.worst.value
    if value is None or expected is None or before is None:
        return value
    return max(value, before) if value >= expected else min(value, before)


def _rank(severity: Severity) -> int:
    return list(Severity).index(severity)


def _worst(severities: Sequence[Severity]) -> Severity:
    return max(severities, key=_rank)


def _dumped(findings: Sequence[IncidentFinding]) -> list[Any]:
    return [each.model_dump(mode="json") for each in findings]
