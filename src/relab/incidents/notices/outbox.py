"""Store, for each receiver of notices and each timeline, the last event that was sent to the receiver or skipped.

The number of that event is the receiver's position in the timeline. Events are not copied. An event is written in the
transaction of the change that it describes, and a position moves only after the receiver has accepted the notice, or
the event is skipped. So no notice is lost if the process is killed. A notice that was accepted just before a kill is
sent again, with the same idempotency key.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from relab.core.ids import new_id
from relab.incidents.notices import repository
from relab.incidents.notices.models import NewNotice, Notice, ReceiverState
from relab.incidents.storage.models import EventKind, TimelineEvent
from relab.incidents.storage.text_limits import cut
from relab.storage import Database
from relab.storage.errors import ConstraintError
from relab.storage.session import DatabaseSession

NEWS_US: Final = 86_400 * 1_000_000
"""Incidents that were opened longer ago than this (1 day) and are over get no notices if they had none yet."""
MAX_PAUSE_US: Final = 3_600 * 1_000_000
"""The longest retry pause of a receiver (1 hour). A longer one is ignored: it was set before the clock was set back."""
MAX_ERROR: Final = 500
_MAX_PENDING: Final = 50
_MAX_ALERTS: Final = 5
_KEEP_POSTS_US: Final = 7 * NEWS_US


@dataclass(frozen=True, slots=True)
class PendingIncident:
    """An incident with events that a receiver of notices has not processed yet.

    Attributes:
        seq: the number of the last processed event (sent or skipped); 0 if no event was processed yet.
    """

    incident_id: str
    seq: int


class PostedNotice(NamedTuple):
    """A notice that another part of relab posted, with the id under which its deliveries are stored."""

    notice_id: str
    notice: Notice


class Outbox:
    """Stores for each receiver which events of each timeline were processed, and whether sending succeeds.

    The argument `receiver` is always the name of a receiver.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_up(self, receiver: str, *, at_us: int) -> None:
        """Add a receiver; do nothing if the receiver is known already.

        The receiver gets notices of incidents that are opened later, and of all events, also past ones, of incidents
        that are open now. `at_us` is the current time, in microseconds since 1970.
        """
        fresh = {"since": at_us, "sent": 0, "given_up": 0, "attempts": 0}
        with self._database.write() as unit:
            repository.add_receiver(unit.session, {"receiver": receiver, **fresh})

    def states(self) -> list[ReceiverState]:
        """Return the delivery state of each receiver that was ever set up."""
        with self._database.read() as session:
            rows = repository.get_receivers(session)
        return [ReceiverState.model_validate(row, from_attributes=True) for row in rows]

    def waiting(self, receiver: str, *, now_us: int) -> list[PendingIncident]:
        """Return incidents with events that a receiver has not processed yet: at most 50, the first opened one first.

        The list is empty for an unknown receiver, and during a retry pause. Some ended incidents of which the receiver
        has processed no event are left out: those that were opened over a day ago, and those that were opened before
        the receiver was set up.
        """
        with self._database.read() as session:
            row = self._ready(session, receiver, now_us)
            if row is None:
                return []
            since_us = max(row.since, now_us - NEWS_US)
            found = repository.waiting(session, receiver, opened_from=since_us, limit=_MAX_PENDING)
        return [PendingIncident(each.incident_id, each.seq) for each in found]

    def attempts(self, receiver: str) -> int:
        """Return how often sending the next notice to a receiver has failed so far; 0 for an unknown receiver."""
        with self._database.read() as session:
            row = repository.get_receiver(session, receiver)
        return 0 if row is None else int(row.attempts)

    def pass_over(self, receiver: str, event: TimelineEvent) -> None:
        """Store that an event and all earlier events of its timeline are processed, although no notice was sent."""
        self._move(receiver, event, {})

    def note_sent(self, receiver: str, event: TimelineEvent, *, at_us: int) -> None:
        """Store that a receiver accepted the notice of an event at `at_us` (microseconds since 1970)."""
        self._move(receiver, event, {"last_sent_at": at_us, "error": None}, count="sent")

    def give_up(self, receiver: str, event: TimelineEvent, *, error: str) -> None:
        """Skip an event whose notice could not be sent to `receiver`, and store the error."""
        self._move(receiver, event, {"error": cut(error, MAX_ERROR)}, count="given_up")

    def put_off(self, receiver: str, *, until_us: int, attempts: int, error: str) -> None:
        """Store a retry pause: nothing is sent to a receiver until `until_us` (microseconds since 1970).

        `attempts` is how often sending the next notice has failed so far. `error` is the last error.
        """
        values = {"retry_at": until_us, "attempts": attempts, "error": cut(error, MAX_ERROR)}
        with self._database.write(durable=False) as unit:
            repository.change_receiver(unit.session, receiver, values)

    def post(self, notice: NewNotice, *, now_us: int) -> None:
        """Store a message of another part of relab, for all receivers.

        A message is identified by its topic and its number in the topic (`seq`). If it was stored before, do nothing.
        """
        values = {"notice_id": new_id(), "topic": notice.topic, "seq": notice.seq, "at": notice.at_us}
        with self._database.write(durable=False) as unit:
            repository.delete_posts(unit.session, now_us - _KEEP_POSTS_US)
            repository.add_post(unit.session, {**values, "content": notice.model_dump(mode="json")})

    def posted(self, receiver: str, *, now_us: int) -> list[PostedNotice]:
        """Return the posted notices that a receiver has not processed, at most 50, oldest first.

        A posted notice is a message of another part of relab; it belongs to no incident. Notices that are over a day
        old are left out, and so are notices from before the receiver was set up. The list is empty for an unknown
        receiver, and during a retry pause.
        """
        with self._database.read() as session:
            row = self._ready(session, receiver, now_us)
            if row is None:
                return []
            since_us = max(row.since, now_us - NEWS_US)
            found = repository.pending_posts(session, receiver, since=since_us, limit=_MAX_PENDING)
        return [PostedNotice(each.notice_id, NewNotice.model_validate(each.content).notice()) for each in found]

    def settle_post(
        self, receiver: str, posted: PostedNotice, *, sent_at_us: int | None = None, error: str | None = None
    ) -> None:
        """Store the end of a posted notice (a message of another part of relab) for a receiver: it is not sent again.

        If both `sent_at_us` and `error` are None, the notice is not for this receiver.

        Args:
            receiver: the name of the receiver.
            posted: the notice.
            sent_at_us: when the receiver accepted the notice, in microseconds since 1970; None if it did not.
            error: why the notice was given up; None if it was not.
        """
        with contextlib.suppress(ConstraintError), self._database.write(durable=False) as unit:
            repository.add_delivery(unit.session, receiver, posted.notice_id)
            if sent_at_us is not None:
                self._count(unit.session, receiver, "sent", {"last_sent_at": sent_at_us, "error": None})
            elif error is not None:
                self._count(unit.session, receiver, "given_up", {"error": cut(error, MAX_ERROR)})

    def earlier_diagnosis(self, incident_id: str, seq: int) -> dict[str, Any] | None:
        """Return the content of the last `diagnosed` event of an incident before event `seq`; None if there is none."""
        with self._database.read() as session:
            return repository.diagnosis_before(session, incident_id, seq)

    def first_alerts(self, incident_id: str) -> list[dict[str, Any]]:
        """Return the contents of the first `alert` events of an incident, at most five."""
        with self._database.read() as session:
            return repository.first_events(session, incident_id, EventKind.ALERT, _MAX_ALERTS)

    def is_fresh(self, signature: str, *, at_us: int, keep_us: int) -> bool:
        """Store the signature of a request; return False if it was stored before (the request is a replay).

        Args:
            signature: the signature.
            at_us: the current time, in microseconds since 1970.
            keep_us: delete signatures older than this number of microseconds.
        """
        with self._database.write() as unit:
            repository.delete_requests(unit.session, at_us - keep_us)
            return repository.take_request(unit.session, signature, at_us)

    def _move(self, receiver: str, event: TimelineEvent, values: dict[str, Any], *, count: str | None = None) -> None:
        # Not durable: after a power failure a notice may be sent twice, with the same key.
        # An incident that was deleted meanwhile cannot have a place; the constraint error is ignored.
        with contextlib.suppress(ConstraintError), self._database.write(durable=False) as unit:
            repository.put_place(unit.session, receiver, event.incident_id, event.seq, is_over=event.is_terminal)
            if count is not None:
                self._count(unit.session, receiver, count, values)

    @staticmethod
    def _ready(session: DatabaseSession, receiver: str, now_us: int) -> Any | None:
        """Return the row of a receiver; None if it is unknown or in a retry pause."""
        row = repository.get_receiver(session, receiver)
        return None if row is None or now_us < (row.retry_at or 0) <= now_us + MAX_PAUSE_US else row

    @staticmethod
    def _count(session: DatabaseSession, receiver: str, count: str, values: dict[str, Any]) -> None:
        """Add one to the column `count` of a receiver, set the columns `values`, and end the retry pause."""
        row = repository.get_receiver(session, receiver)
        number = 1 if row is None else getattr(row, count) + 1
        repository.change_receiver(session, receiver, {**values, count: number, "attempts": 0, "retry_at": None})
