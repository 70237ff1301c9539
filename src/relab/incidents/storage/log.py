"""Store incidents (at most one open per target) and their timelines."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Unpack

from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage import repository
from relab.incidents.storage.actions import ActionLog
from relab.incidents.storage.alerts import AlertLog
from relab.incidents.storage.approvals import ApprovalLog
from relab.incidents.storage.coordination import Baselines, Leases, Switches
from relab.incidents.storage.ending import MAX_RECOMMENDATION, ManualClosings, end_incident
from relab.incidents.storage.errors import IncidentNotFoundError, IncidentOverError, InvalidIncidentCursorError
from relab.incidents.storage.metrics import IncidentFigures
from relab.incidents.storage.models import (
    EventKind,
    Incident,
    IncidentChange,
    IncidentOutcome,
    IncidentPage,
    IncidentStatus,
    IncidentSummary,
    NewEvent,
    Opened,
    TimelineEvent,
    finite,
)
from relab.incidents.storage.opening import MAX_TITLE, Opening, incident_of
from relab.incidents.storage.text_limits import bounded_object, cut, is_storable, name_of
from relab.incidents.storage.timeline import Timeline, can_be_id, event_of, require_own
from relab.progress.signal import PollingSignal, ProgressSignal
from relab.storage import Database, UnitOfWork

MAX_DIAGNOSIS: Final = 200
MAX_DOCUMENT_BYTES: Final = 262_144
"""The maximum size of each JSON document of an incident (symptoms, plan, content), in bytes."""
MAX_PAGE: Final = 500
MAX_EVENTS_PER_READ: Final = 5_000
_CURSOR: Final = re.compile(r"([0-9]{1,18})\.([0-9a-zA-Z-]{1,36})")


class IncidentLog:
    """Stores incidents, their timelines, actions, approvals and alerts, and the state that all processes share.

    A change and its timeline events are one transaction. Texts and documents from outside are cut to a bounded size,
    with a mark at each cut. Times are in microseconds since 1970.

    Args:
        database: stores everything.
        signal: wakes the readers that follow timelines, in other processes too; None: these readers poll.
        forget: deletes what was learnt from an incident that a person closes or dismisses, in the same transaction.

    Attributes:
        actions: actions that the responder requested.
        approvals: approval requests and their decisions.
        closings: decisions of people who close an incident as repaired.
        alerts: alerts received from outside.
        switches: whether the responder is paused.
        leases: which process polls a target and responds to its incidents.
        baselines: the usual values of a target's signals.
        figures: counts of incidents and actions, and durations of incidents.
    """

    def __init__(
        self,
        database: Database,
        signal: ProgressSignal | None = None,
        forget: Callable[[str, UnitOfWork], None] = lambda _incident_id, _unit: None,
    ) -> None:
        self._database = database
        self._forget = forget
        self._timeline = Timeline(signal or PollingSignal())
        self._opening = Opening(self._timeline)
        self.actions: Final = ActionLog(database, self._timeline)
        self.approvals: Final = ApprovalLog(database, self._timeline)
        self.closings: Final = ManualClosings(database, self._timeline, forget)
        self.alerts: Final = AlertLog(database, self._timeline, self._opening)
        self.switches: Final = Switches(database, self._timeline)
        self.leases: Final = Leases(database)
        self.baselines: Final = Baselines(database)
        self.figures: Final = IncidentFigures(database)

    def open(
        self,
        target: str,
        *,
        at_us: int,
        title: str,
        severity: Severity,
        anomalies: Sequence[Anomaly] = (),
        last_ended_id: str | None = None,
    ) -> Opened:
        """Open an incident for a target, or add the anomalies to the target's open incident; return that incident.

        Args:
            target: the name of the target.
            at_us: the current time, in microseconds since 1970.
            title: the title of a new incident.
            severity: the minimum severity of the incident; the anomalies may raise it.
            anomalies: the anomalies that were found.
            last_ended_id: the id of the last ended incident that the caller knows, empty if it knows none; None: any
                incident may have ended.

        Raises:
            IncidentOverError: no incident is open, and the target's last incident is not the one of `last_ended_id`.
                It ended after the caller had read it, so the anomalies may be its own; nothing is stored.
        """
        with self._database.write() as unit:
            return self._opening.open(unit, name_of(target), at_us, title, severity, anomalies, last_ended_id)

    def join(
        self,
        incident_id: str,
        *,
        at_us: int,
        severity: Severity,
        anomalies: Sequence[Anomaly],
        events: Sequence[NewEvent] = (),
    ) -> bool:
        """Add anomalies to an incident if it is open; return whether it is open.

        If the incident is over, nothing is stored, and no other incident is opened.

        Args:
            incident_id: the id of the incident.
            at_us: the current time, in microseconds since 1970.
            severity: the worst severity of the anomalies.
            anomalies: the anomalies to add.
            events: events to append to the timeline in the same transaction.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        with self._database.write() as unit:
            row = self._timeline.lock(unit, incident_id)
            # The anomalies were found before the incident ended, so they open no other incident.
            if row.closed_at is not None:
                return False
            self._opening.join(unit, row, at_us, severity, anomalies)
            if events:
                self._timeline.append_events(unit, incident_id, at_us, events)
            return True

    def update(
        self, incident_id: str, *, at_us: int, events: Sequence[NewEvent] = (), **change: Unpack[IncidentChange]
    ) -> Incident:
        """Change fields of an incident, append events to its timeline, and return the changed incident.

        Args:
            incident_id: the id of the incident.
            at_us: the current time, in microseconds since 1970.
            events: the events to append. If empty, one event is appended for each change of phase or status.
            change: the new values of fields, by name; other fields keep their values.

        Raises:
            IncidentNotFoundError: no incident has this id.
            IncidentOverError: the incident is over, and status or phase would change.
            ValueError: the new status, or one of the events, is reserved for `close`.
        """
        status, phase = change.get("status"), change.get("phase")
        if status is not None and status.is_over:
            raise ValueError(f"an incident becomes {status} by closing it")
        require_own(events)
        with self._database.write() as unit:
            row = self._timeline.lock(unit, incident_id)
            changes_course = (status or row.status) != row.status or (phase or row.phase) != row.phase
            if changes_course and row.closed_at is not None:
                raise IncidentOverError(incident_id)
            repository.change(unit.session, incident_id, {"updated_at": at_us, **_columns(change)})
            self._timeline.append_events(unit, incident_id, at_us, events or _course(row, change))
            return incident_of(repository.get(unit.session, incident_id))

    def close(
        self,
        incident_id: str,
        *,
        at_us: int,
        outcome: IncidentOutcome,
        message: str = "",
        content: Mapping[str, Any] | None = None,
    ) -> Incident:
        """Close an incident and its timeline, and return the incident; do not change it if it is over already.

        Args:
            incident_id: the id of the incident.
            at_us: the current time, in microseconds since 1970.
            outcome: how the incident ended.
            message: one sentence for the last event of the timeline, which also replaces the recommendation; empty for
                a default sentence.
            content: further data for that event, as JSON values.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        with self._database.write() as unit:
            row = self._timeline.lock(unit, incident_id)
            if row.closed_at is not None:
                return incident_of(row)
            if outcome is IncidentOutcome.DISMISSED:
                self._forget(incident_id, unit)
            return end_incident(
                unit,
                self._timeline,
                incident_id,
                at_us=at_us,
                outcome=outcome,
                message=message,
                content=content or {},
            )

    @contextmanager
    def while_open(self, incident_id: str) -> Iterator[UnitOfWork]:
        """Yield a transaction in which an incident is open: no other transaction can end the incident before its commit.

        Raises:
            IncidentNotFoundError: no incident has this id.
            IncidentOverError: the incident is over.
        """
        with self._database.write() as unit:
            if self._timeline.lock(unit, incident_id).closed_at is not None:
                raise IncidentOverError(incident_id)
            yield unit

    def get(self, incident_id: str) -> Incident:
        """Return the incident with this id.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        with self._database.read() as session:
            row = repository.get(session, incident_id) if can_be_id(incident_id) else None
        if row is None:
            raise IncidentNotFoundError(incident_id)
        return incident_of(row)

    def current(self, target: str) -> Incident | None:
        """Return the open incident of a target; None if no incident is open."""
        with self._database.read() as session:
            row = repository.get_open(session, name_of(target))
        return None if row is None else incident_of(row)

    def list_incidents(
        self,
        *,
        target: str | None = None,
        statuses: Collection[IncidentStatus] = (),
        cursor: str | None = None,
        limit: int = 50,
    ) -> IncidentPage:
        """Return a page of incidents, the newest first.

        Args:
            target: only incidents of this target; None for all.
            statuses: only incidents with one of these statuses; empty for all.
            cursor: `next_cursor` of the previous page; None for the first page.
            limit: the maximum number of incidents, at most 500.

        Raises:
            InvalidIncidentCursorError: the cursor does not have the form of `next_cursor`.
        """
        before = None if cursor is None else _read_cursor(cursor)
        limit = max(1, min(limit, MAX_PAGE))
        name = None if target is None else name_of(target)
        with self._database.read() as session:
            rows = repository.list_incidents(session, target=name, statuses=statuses, before=before, limit=limit + 1)
        items = [IncidentSummary.model_validate(row, from_attributes=True) for row in rows[:limit]]
        last = items[-1] if len(rows) > limit else None
        return IncidentPage(items=items, next_cursor=last and f"{last.opened_at}.{last.incident_id}")

    def append(self, incident_id: str, *events: NewEvent, at_us: int) -> list[TimelineEvent]:
        """Append events, which happened at `at_us` (microseconds since 1970), to a timeline; return them as stored.

        Raises:
            IncidentNotFoundError: no incident has this id.
            ValueError: an event is one that only `close` may append.
        """
        require_own(events)
        with self._database.write() as unit:
            return self._timeline.append_events(unit, incident_id, at_us, events)

    def read_after(self, incident_id: str, seq: int = 0) -> list[TimelineEvent]:
        """Return at most 5,000 events from the timeline of an incident, in order: those numbered higher than `seq`."""
        with self._database.read() as session:
            if not can_be_id(incident_id):
                return []
            return [event_of(row) for row in repository.events_after(session, incident_id, seq, MAX_EVENTS_PER_READ)]

    def latest_seqs(self, incident_ids: Collection[str]) -> dict[str, int]:
        """Return the number of each incident's last event, by incident id; incidents without an event are missing."""
        with self._database.read() as session:
            return repository.latest_seqs(session, [one for one in incident_ids if can_be_id(one)])

    def ended_before(self, before_us: int, *, limit: int) -> list[str]:
        """Return the ids of at most `limit` incidents that ended before `before_us`, the earliest end first.

        `before_us` is a time in microseconds since 1970.
        """
        with self._database.read() as session:
            return list(repository.closed_before(session, before_us, limit))

    def count_ended(self, before_us: int) -> int:
        """Return how many incidents ended before `before_us` (microseconds since 1970)."""
        with self._database.read() as session:
            return repository.count_closed(session, before_us)

    def forget(self, incident_ids: Collection[str]) -> None:
        """Delete incidents with all their data; unknown ids are ignored."""
        with self._database.write() as unit:
            repository.remove(unit.session, incident_ids)

    def forget_alerts(self, before_us: int) -> None:
        """Delete the alerts that were last seen before the time `before_us`, in microseconds since 1970."""
        with self._database.write() as unit:
            repository.remove_alerts(unit.session, before_us)


def _columns(change: IncidentChange) -> dict[str, Any]:
    """Return the changed fields of an incident as `{column: value}`; long texts and large JSON objects are shortened."""
    values: dict[str, Any] = dict(change)
    for field, most in (("title", MAX_TITLE), ("recommendation", MAX_RECOMMENDATION), ("diagnosis", MAX_DIAGNOSIS)):
        if values.get(field) is not None:
            values[field] = cut(values[field], most)
    if "probability" in values:
        values["probability"] = finite(values["probability"])
    for field in ("symptoms", "plan", "content"):
        if values.get(field) is not None:
            values[field] = bounded_object(values[field], MAX_DOCUMENT_BYTES)
    return values


def _course(row: Any, change: IncidentChange) -> list[NewEvent]:
    """Return one timeline event for each change of phase or status that `change` makes to the incident in `row`."""
    events = []
    for field, kind in (("phase", EventKind.PHASE), ("status", EventKind.STATUS)):
        before, after = getattr(row, field), change.get(field)
        if after is not None and after != before:
            content = {"from": before, "to": str(after)}
            events.append(NewEvent(kind, f"The {field} changed from {before} to {after}.", content))
    return events


def _read_cursor(cursor: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(cursor) if is_storable(cursor) else None
    if found is None:
        raise InvalidIncidentCursorError
    return int(found[1]), found[2]
