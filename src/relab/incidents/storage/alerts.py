"""Alerts that come in from outside: each counts once, however often and by how many senders it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relab.core.clock import EARLIEST_US, LATEST_US
from relab.incidents.models import Severity
from relab.incidents.storage import repository
from relab.incidents.storage.models import AlertIntake, EventKind, NewEvent, Opened, ReceivedAlert
from relab.incidents.storage.opening import Opening, incident_of
from relab.incidents.storage.texts import name_of
from relab.incidents.storage.timeline import Timeline
from relab.storage import Database, UnitOfWork


class AlertLog:
    """The alerts that were taken in."""

    def __init__(self, database: Database, timeline: Timeline, opening: Opening) -> None:
        self._database = database
        self._timeline = timeline
        self._opening = opening

    def take_in(
        self,
        target: str,
        group_key: str,
        alerts: Sequence[ReceivedAlert],
        *,
        at_us: int,
        title: str,
        severity: Severity,
    ) -> AlertIntake:
        """Take in a notification about a target.

        An alert is told from others by group, fingerprint and begin. Those that are not known and fire open an incident
        or join the open one; of those that have ended its timeline tells. All of it is one transaction: what was not
        stored was not taken in, and is taken in when it is sent again.
        """
        with self._database.write() as unit:
            fresh = [
                (values, alert)
                for values, alert in _in_one_order(name_of(group_key), alerts, at_us)
                if repository.note_alert(unit.session, values)
            ]
            anomalies = [alert.anomaly for _, alert in fresh if alert.is_firing]
            opened = None
            if anomalies:
                opened = self._opening.open(unit, name_of(target), at_us, title, severity, anomalies)
            for values, alert in fresh:
                self._tell(unit, values, alert, opened, at_us)
            if opened is not None:
                # As it stands with what was told since.
                row = repository.get(unit.session, opened.incident.incident_id)
                opened = Opened(incident_of(row), opened.created)
        return AlertIntake(tuple(alert for _, alert in fresh), opened)

    def _tell(
        self, unit: UnitOfWork, values: Mapping[str, Any], alert: ReceivedAlert, opened: Opened | None, at_us: int
    ) -> None:
        session = unit.session
        if alert.is_firing and opened is not None:
            repository.link_alert(session, values, opened.incident.incident_id)
        incident_id = repository.incident_of_alert(session, values)
        if incident_id is None or self._timeline.lock(unit, incident_id).closed_at is not None:
            return
        content = {
            "group_key": values["group_key"],
            "fingerprint": values["fingerprint"],
            "is_firing": alert.is_firing,
            "alert": dict(alert.content),
        }
        state = "fires" if alert.is_firing else "has ended"
        event = NewEvent(EventKind.ALERT, f"An alert {state}: {alert.anomaly.detail}", content)
        self._timeline.tell(unit, incident_id, at_us, [event])


def _in_one_order(
    group: str, alerts: Sequence[ReceivedAlert], at_us: int
) -> list[tuple[dict[str, Any], ReceivedAlert]]:
    """Return alerts with their rows, in the order in which all processes lock them."""
    rows = [
        (
            {
                "group_key": group,
                "fingerprint": name_of(alert.fingerprint),
                "starts_at": min(max(alert.starts_at_us, EARLIEST_US), LATEST_US),
                "is_firing": alert.is_firing,
                "incident_id": None,
                "first_at": at_us,
                "last_at": at_us,
            },
            alert,
        )
        for alert in alerts
    ]
    return sorted(rows, key=lambda row: (row[0]["fingerprint"], row[0]["starts_at"]))
