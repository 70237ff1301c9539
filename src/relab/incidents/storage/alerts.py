"""Store alerts from outside. Each alert counts once, even if it arrives several times or from several senders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relab.core.clock import EARLIEST_US, LATEST_US
from relab.incidents.models import Severity
from relab.incidents.storage import alert_repository, repository
from relab.incidents.storage.alert_repository import AlertKey
from relab.incidents.storage.models import AlertIntake, EventKind, NewEvent, Opened, ReceivedAlert
from relab.incidents.storage.opening import Opening, incident_of
from relab.incidents.storage.text_limits import name_of
from relab.incidents.storage.timeline import Timeline
from relab.storage import Database, UnitOfWork

OUTLIVED_US: Final = 600 * 1_000_000
"""An alert that still fires so long after its incident ended counts as new (10 minutes, in microseconds).

Until then its sender may lag behind.
"""


class AlertLog:
    """Stores alerts that were received from outside, and opens incidents for them."""

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
        """Store the alerts of one notification about a target; return the new and the ended alerts.

        Everything is one transaction. For each alert that is new or has ended, an event is appended to the timeline of
        the alert's incident, unless that incident is over.

        - A new firing alert opens an incident, or joins the open incident of the target. An alert that still fires ten
          minutes after its incident ended counts as new, unless a person dismissed that incident.
        - A firing alert without a start time is a repetition if the group has a firing alert with the same fingerprint.
          Otherwise, it is a new alert that starts now.
        - An ended alert without a start time ends all alerts with the same fingerprint that fire in the group.

        Args:
            target: the target that the alerts are about.
            group_key: the sender's key of the group of alerts.
            alerts: the alerts.
            at_us: the current time, in microseconds since 1970.
            title: the title of an incident that the alerts open.
            severity: the minimum severity of that incident; the alerts may raise it.
        """
        group = name_of(group_key)
        with self._database.write() as unit:
            received = _by_key(_with_beginnings(unit, group, alerts, at_us))
            fresh = _note(unit, group, received, at_us)
            firing = [key for key in fresh if received[key].is_firing]
            opened = None
            if firing:
                anomalies = [received[key].anomaly for key in firing]
                opened = self._opening.open(unit, name_of(target), at_us, title, severity, anomalies)
                incident_id = opened.incident.incident_id
                alert_repository.link_alerts(unit.session, group, firing, incident_id)
                fresh |= dict.fromkeys(firing, incident_id)
            self._append_event(unit, group, {key: (received[key], fresh[key]) for key in fresh}, at_us)
            if opened is not None:
                # Read again: events were appended since.
                row = repository.get(unit.session, opened.incident.incident_id)
                opened = Opened(incident_of(row), opened.created)
        return AlertIntake(tuple(received[key] for key in fresh), opened)

    def fires(self, incident_id: str, *, since_us: int) -> bool:
        """Return whether an incident has a firing alert that was received at `since_us` (µs since 1970) or later."""
        with self._database.read() as session:
            return alert_repository.count_firing(session, incident_id, since_us) > 0

    def _append_event(
        self, unit: UnitOfWork, group: str, fresh: Mapping[AlertKey, tuple[ReceivedAlert, str | None]], at_us: int
    ) -> None:
        """Append an event for each alert in `fresh` to the timeline of its incident, unless the incident is over.

        Args:
            unit: the transaction.
            group: the sender's key of the group of alerts.
            fresh: new and changed alerts, as `{key: (alert, id of its incident)}`. An alert without an incident (None)
                is ignored.
            at_us: the current time, in microseconds since 1970.
        """
        for incident_id in sorted({incident_id for _, incident_id in fresh.values() if incident_id is not None}):
            if self._timeline.lock(unit, incident_id).closed_at is None:
                events = [_event(group, key, alert) for key, (alert, of) in fresh.items() if of == incident_id]
                self._timeline.append_events(unit, incident_id, at_us, events)


def _with_beginnings(
    unit: UnitOfWork, group: str, alerts: Sequence[ReceivedAlert], at_us: int
) -> Iterator[ReceivedAlert]:
    """Yield the alerts, each with a start time.

    A missing start time is taken from the stored alerts that fire and have the same group and fingerprint. A firing
    alert gets the latest of their start times, or `at_us` if no such alert fires. An ended alert is yielded once for
    each of their start times.

    Args:
        unit: the transaction.
        group: the sender's key of the group of alerts.
        alerts: the alerts as they were received.
        at_us: the current time, in microseconds since 1970.
    """
    undated = {name_of(alert.fingerprint) for alert in alerts if alert.starts_at_us is None}
    firing = _firing(alert_repository.alerts_of(unit.session, group, undated) if undated else ())
    for alert in alerts:
        if alert.starts_at_us is not None:
            yield alert
            continue
        beginnings = [row.starts_at for row in firing[name_of(alert.fingerprint)]]
        for starts_at in [max(beginnings, default=at_us)] if alert.is_firing else beginnings:
            yield replace(alert, starts_at_us=starts_at)


def _by_key(alerts: Iterable[ReceivedAlert]) -> dict[AlertKey, ReceivedAlert]:
    """Return alerts by key, in ascending order of the keys.

    All processes must lock the rows of alerts in this order, so that their transactions do not block each other. Each
    alert must have a start time. Of several alerts with one key, an ended alert is kept.
    """
    found: dict[AlertKey, ReceivedAlert] = {}
    for alert in alerts:
        assert alert.starts_at_us is not None
        key = name_of(alert.fingerprint), min(max(alert.starts_at_us, EARLIEST_US), LATEST_US)
        if key not in found or not alert.is_firing:
            found[key] = alert
    return dict(sorted(found.items(), key=lambda item: item[0]))


def _note(
    unit: UnitOfWork, group: str, received: Mapping[AlertKey, ReceivedAlert], at_us: int
) -> dict[AlertKey, str | None]:
    """Store alerts; return the new and changed alerts as `{key: id of the alert's incident}`.

    The id is None if the alert belongs to no incident yet, or must open another one: it still fires although its incident
    ended ten minutes ago or earlier, and was not dismissed.

    Args:
        unit: the transaction.
        group: the sender's key of the group of alerts.
        received: the alerts by key.
        at_us: the current time, in microseconds since 1970.
    """
    session = unit.session
    added = alert_repository.add_alerts(session, [_row(group, key, alert, at_us) for key, alert in received.items()])
    known = alert_repository.alerts_of(session, group, [fingerprint for fingerprint, _ in received])
    rows = {(row.fingerprint, row.starts_at): row for row in known}
    over = repository.mended_before(
        session,
        {row.incident_id for row in known if row.is_firing and row.incident_id is not None},
        at_us - OUTLIVED_US,
    )
    firing = _firing(row for row in known if (row.fingerprint, row.starts_at) not in added)
    fresh: dict[AlertKey, str | None] = {}
    ended, moved = set[AlertKey](), defaultdict[str, set[AlertKey]](set)
    for key, alert in received.items():
        fingerprint, starts_at = key
        if key in added:
            # Prometheus servers may send different starting times, of which Alertmanager uses the earliest: it is the
            # same alert.
            later = [row for row in firing[fingerprint] if row.starts_at > starts_at]
            is_news = not later or not alert.is_firing
            incident_id = next((row.incident_id for row in later if row.incident_id is not None), None)
            if incident_id is not None:
                moved[incident_id].add(key)
            ended.update((fingerprint, row.starts_at) for row in later)
        else:
            # An ended alert never fires again: a recurrence has a later starting time, and is a new alert.
            is_news = not alert.is_firing and any(row.starts_at == starts_at for row in firing[fingerprint])
            incident_id = rows[key].incident_id if key in rows else None
            ended |= {key} if is_news else set()
        if is_news:
            fresh[key] = incident_id
        elif alert.is_firing and key in rows and rows[key].is_firing and rows[key].incident_id in over:
            # Its incident is over, but the alert still fires: the incident did not cover all of the problem.
            fresh[key] = None
    alert_repository.see_alerts(session, group, received.keys() - added, at_us)
    alert_repository.end_alerts(session, group, ended)
    for incident_id, keys in moved.items():
        alert_repository.link_alerts(session, group, keys, incident_id)
    return fresh


def _firing(rows: Iterable[Any]) -> defaultdict[str, list[Any]]:
    """Return the rows of those alerts that are firing, grouped by fingerprint."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        if row.is_firing:
            found[row.fingerprint].append(row)
    return found


def _row(group: str, key: AlertKey, alert: ReceivedAlert, at_us: int) -> dict[str, Any]:
    fingerprint, starts_at = key
    return {
        "group_key": group,
        "fingerprint": fingerprint,
        "starts_at": starts_at,
        "is_firing": alert.is_firing,
        "incident_id": None,
        "first_at": at_us,
        "last_at": at_us,
    }


def _event(group: str, key: AlertKey, alert: ReceivedAlert) -> NewEvent:
    content = {
        "group_key": group,
        "fingerprint": key[0],
        "is_firing": alert.is_firing,
        "alert": dict(alert.content),
    }
    state = "fires" if alert.is_firing else "has ended"
    return NewEvent(EventKind.ALERT, f"An alert {state}: {alert.anomaly.detail}", content)
