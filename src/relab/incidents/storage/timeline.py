"""Append numbered events to the timelines of incidents.

An event that describes a change of an incident is stored in the same transaction as the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relab.incidents.storage import repository
from relab.incidents.storage.errors import IncidentNotFoundError
from relab.incidents.storage.models import EventKind, NewEvent, TimelineEvent
from relab.incidents.storage.text_limits import bounded_object, cut, name_of
from relab.progress.signal import ProgressSignal
from relab.storage import UnitOfWork

MAX_MESSAGE: Final = 2_000
MAX_EVENT_BYTES: Final = 65_536
MAX_EVIDENCE: Final = 200
MAX_EVIDENCE_ID: Final = 200


class Timeline:
    """Appends events to the timelines of incidents, and wakes the followers of a timeline after the commit.

    Every transaction that changes an incident must call `lock` first, so that the numbers of its events have no gaps.
    """

    def __init__(self, signal: ProgressSignal) -> None:
        self._signal = signal

    def lock(self, unit: UnitOfWork, incident_id: str) -> Any:
        """Lock the row of an incident until the transaction ends, and return the row.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        row = repository.lock(unit.session, incident_id) if can_be_id(incident_id) else None
        if row is None:
            raise IncidentNotFoundError(incident_id)
        return row

    def append_events(
        self, unit: UnitOfWork, incident_id: str, at_us: int, events: Sequence[NewEvent]
    ) -> list[TimelineEvent]:
        """Append events to the timeline of an incident, and return them as stored.

        If the timeline already has an event with the same key (`once`), the new event is not appended; the stored
        event is returned instead.

        Args:
            unit: the transaction of the caller.
            incident_id: the id of the incident.
            at_us: when the events happened, in microseconds since 1970.
            events: the events, in order.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        seq = self.lock(unit, incident_id).last_seq
        appended = []
        for event in events:
            once = None if event.once is None else name_of(event.once)
            known = None if once is None else repository.find_event_by_key(unit.session, incident_id, once)
            if known is not None:
                appended.append(event_of(known))
                continue
            seq += 1
            new = _bounded(incident_id, seq, at_us, event)
            # The JSON column needs a list, the model has a tuple.
            values = {**new.model_dump(), "evidence": list(new.evidence), "once": once}
            repository.add_event(unit.session, values)
            appended.append(new)
        repository.change(unit.session, incident_id, {"last_seq": seq, "updated_at": at_us})
        unit.on_commit(self._signal.notify)
        return appended


def event_of(row: Any) -> TimelineEvent:
    """Return the event in a row of the table `incident_events`."""
    return TimelineEvent.model_validate(row, from_attributes=True)


def can_be_id(incident_id: str) -> bool:
    """Return whether a text can be the id of an incident: 1 to 36 printable ASCII characters.

    Check this before a query, because PostgreSQL rejects some other texts as a parameter.
    """
    return 1 <= len(incident_id) <= 36 and incident_id.isascii() and incident_id.isprintable()


def require_own(events: Sequence[NewEvent]) -> None:
    """Check that none of these events is reserved for closing an incident.

    Raises:
        ValueError: an event has the kind `closed`, which only `IncidentLog.close` may append.
    """
    if any(event.kind == EventKind.CLOSED for event in events):
        raise ValueError("the event `closed` ends a timeline; close the incident to append it")


def _bounded(incident_id: str, seq: int, at_us: int, event: NewEvent) -> TimelineEvent:
    return TimelineEvent(
        incident_id=incident_id,
        seq=seq,
        kind=event.kind,
        at=at_us,
        message=cut(event.message, MAX_MESSAGE),
        content=bounded_object(event.content, MAX_EVENT_BYTES),
        evidence=_ids(event.evidence),
    )


def _ids(evidence: Sequence[str]) -> tuple[str, ...]:
    kept = tuple(cut(item, MAX_EVIDENCE_ID) for item in evidence[:MAX_EVIDENCE])
    return kept if len(evidence) <= MAX_EVIDENCE else (*kept, f"… [{len(evidence):,} ids]")
