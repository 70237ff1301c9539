"""The timelines of incidents: numbered events, told in the transaction of what they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relab.incidents.storage import repository
from relab.incidents.storage.errors import IncidentNotFoundError
from relab.incidents.storage.models import EventKind, NewEvent, TimelineEvent
from relab.incidents.storage.texts import bounded_object, cut, name_of
from relab.progress.signal import ProgressSignal
from relab.storage import UnitOfWork

MOST_MESSAGE: Final = 2_000
MOST_EVENT_BYTES: Final = 65_536
MOST_EVIDENCE: Final = 200
MOST_EVIDENCE_ID: Final = 200


class Timeline:
    """Appends to timelines, and wakes those who follow them once it is committed.

    Every change of an incident begins with `lock`, so that those of one incident take turns: that is what makes its events
    numbered without a gap, and what makes two answers to one question a first and a second one.
    """

    def __init__(self, signal: ProgressSignal) -> None:
        self._signal = signal

    def lock(self, unit: UnitOfWork, incident_id: str) -> Any:
        """Return the row of an incident, which nobody else changes until the transaction ends.

        Raises:
            IncidentNotFoundError: there is none.
        """
        row = repository.lock(unit.session, incident_id) if can_be_id(incident_id) else None
        if row is None:
            raise IncidentNotFoundError(incident_id)
        return row

    def tell(self, unit: UnitOfWork, incident_id: str, at_us: int, events: Sequence[NewEvent]) -> list[TimelineEvent]:
        """Append events, and return them; one that is told once only, and was, is returned as it was.

        Raises:
            IncidentNotFoundError: there is no such incident.
        """
        seq = self.lock(unit, incident_id).last_seq
        told = []
        for event in events:
            once = None if event.once is None else name_of(event.once)
            known = None if once is None else repository.event_told(unit.session, incident_id, once)
            if known is not None:
                told.append(event_of(known))
                continue
            seq += 1
            new = _bounded(incident_id, seq, at_us, event)
            # In Python the id of evidence is a tuple's; in JSON a list's.
            values = {**new.model_dump(), "evidence": list(new.evidence), "once": once}
            repository.add_event(unit.session, values)
            told.append(new)
        repository.change(unit.session, incident_id, {"last_seq": seq, "updated_at": at_us})
        unit.on_commit(self._signal.notify)
        return told


def event_of(row: Any) -> TimelineEvent:
    """Return a row as a value."""
    return TimelineEvent.model_validate(row, from_attributes=True)


def can_be_id(incident_id: str) -> bool:
    """Return whether a text can be the id of an incident; one that cannot may be one that PostgreSQL cannot be asked for."""
    return 1 <= len(incident_id) <= 36 and incident_id.isascii() and incident_id.isprintable()


def require_own(events: Sequence[NewEvent]) -> None:
    """Return if a caller may tell these events.

    Raises:
        ValueError: one says that the incident is closed, which `close` does.
    """
    if any(event.kind == EventKind.CLOSED for event in events):
        raise ValueError("the event `closed` ends a timeline; it is told by closing the incident")


def _bounded(incident_id: str, seq: int, at_us: int, event: NewEvent) -> TimelineEvent:
    return TimelineEvent(
        incident_id=incident_id,
        seq=seq,
        kind=event.kind,
        at=at_us,
        message=cut(event.message, MOST_MESSAGE),
        content=bounded_object(event.content, MOST_EVENT_BYTES),
        evidence=_ids(event.evidence),
    )


def _ids(evidence: Sequence[str]) -> tuple[str, ...]:
    kept = tuple(cut(item, MOST_EVIDENCE_ID) for item in evidence[:MOST_EVIDENCE])
    return kept if len(evidence) <= MOST_EVIDENCE else (*kept, f"… [{len(evidence):,} ids]")
