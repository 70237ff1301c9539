"""Send notices to one receiver: in order within an incident, at least once, and without blocking the responder."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from asyncio import to_thread
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.errors import UnavailableError
from relab.core.logging import get_logger
from relab.incidents.actions.approvals import ApprovalRequest
from relab.incidents.briefing import DIAGNOSED
from relab.incidents.notices.composition import NoticeContext, notice_of
from relab.incidents.notices.http_delivery import DeliveryReply, DeliveryResult, NoticePoster
from relab.incidents.notices.models import Notice
from relab.incidents.notices.outbox import MAX_PAUSE_US, Outbox, PendingIncident, PostedNotice
from relab.incidents.notices.receivers import Receiver
from relab.incidents.notices.settings import DeliverySettings
from relab.incidents.storage.coordination import NOTICES
from relab.incidents.storage.errors import ApprovalNotFoundError, IncidentNotFoundError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import EventKind, NewEvent, TimelineEvent

_US: Final = 1_000_000
_FOLLOW_A_DIAGNOSIS: Final = frozenset((DIAGNOSED, EventKind.APPROVAL_ASKED, "escalated"))
_MAX_PAUSE_S: Final = MAX_PAUSE_US / _US
_MAX_DOUBLINGS: Final = 20

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SenderResources:
    """The objects and settings that all senders of notices share.

    Attributes:
        public_url: the address at which people reach relab, for notices that link to it; None if it is unknown.
        answers_slack: whether people may answer notices by commands in Slack.
    """

    outbox: Outbox
    log: IncidentLog
    clock: Clock
    delivery: DeliverySettings
    public_url: str | None = None
    answers_slack: bool = False


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A notice to be sent, and the functions that store the result.

    Attributes:
        topic, seq: identify the notice.
        sent: stores that the receiver has accepted the notice. Its argument is the time of acceptance, in microseconds
            since 1970.
        give_up: stores that the notice is skipped for good. Its argument is the reason.
    """

    topic: str
    seq: int
    kind: str
    sent: Callable[[int], None]
    give_up: Callable[[str], None]


class NoticeSender:
    """Sends notices of all incidents of a database to one receiver.

    Several processes may have a sender for the same receiver. Only the process that holds the receiver's lease sends
    notices.

    Args:
        receiver: the receiver of the notices.
        resources: the objects and settings that all senders share.
        poster: sends the requests.
        owner: identifies this process as the holder of the lease.
    """

    def __init__(self, receiver: Receiver, resources: SenderResources, poster: NoticePoster, *, owner: str) -> None:
        self._receiver = receiver
        self._resources = resources
        self._poster = poster
        self._owner = owner
        # It cannot collide with a target: targets are hosts, or named by people.
        self._lease = f"{NOTICES}{receiver.name}"
        self._held_until_us = 0
        self._ask_again_us = 0
        self._put_off: tuple[str, int] | None = None
        self._paused_s = 0.0

    @property
    def name(self) -> str:
        """The name of the receiver."""
        return self._receiver.name

    async def run(self, stop: asyncio.Event) -> None:
        """Send notices to the receiver until `stop` is set; then release the receiver's lease.

        While another process holds the lease, send nothing. If the database is unavailable, log the error, and try
        again at the next poll of the database.
        """
        resources, name = self._resources, self._receiver.name
        is_set_up = False
        while not stop.is_set():
            try:
                if not is_set_up:
                    await to_thread(resources.outbox.set_up, name, at_us=resources.clock.now_us())
                    is_set_up = True
                if await self._leads():
                    await self._notify_all(stop)
            except UnavailableError as error:
                # No place has moved, so the next poll finds the same events again.
                _log.warning("notices_wait", receiver=name, error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), resources.delivery.poll_interval_s)
        with contextlib.suppress(UnavailableError):
            await to_thread(resources.log.leases.release, self._lease, self._owner)

    async def _leads(self) -> bool:
        """Acquire or renew the receiver's lease if needed; return whether this process holds it."""
        now_us, lease_us = self._resources.clock.now_us(), int(self._resources.delivery.lease_s * _US)
        if now_us < self._held_until_us - lease_us // 2 <= now_us + lease_us:
            return True
        if now_us < self._ask_again_us <= now_us + lease_us:
            # A try is a write, and the database may allow only one writer.
            return False
        until_us = now_us + lease_us
        lease = await to_thread(
            self._resources.log.leases.take, self._lease, self._owner, now_us=now_us, until_us=until_us
        )
        self._held_until_us = 0 if lease is None else until_us
        self._ask_again_us = now_us + lease_us // 4 if lease is None else 0
        return lease is not None

    async def _notify_all(self, stop: asyncio.Event) -> None:
        resources = self._resources
        for waiting in await to_thread(resources.outbox.waiting, self._receiver.name, now_us=resources.clock.now_us()):
            if not await self._notify_of(waiting, stop):
                return
        for posted in await to_thread(resources.outbox.posted, self._receiver.name, now_us=resources.clock.now_us()):
            if not await self._notify_of_post(posted, stop):
                return

    async def _notify_of(self, waiting: PendingIncident, stop: asyncio.Event) -> bool:
        """Send the pending notices of one incident, in order; return whether to go on with further notices.

        Return False if a notice must be retried after a pause, if this process stops, or if it has lost the lease.
        """
        resources, name = self._resources, self._receiver.name
        passed: TimelineEvent | None = None
        for event in await to_thread(resources.log.read_after, waiting.incident_id, waiting.seq):
            notice = await to_thread(self._notice_of, event)
            body = None if notice is None else self._receiver.compose(notice)
            if notice is None or body is None:
                passed = event
                if event.is_terminal:
                    break
                continue
            # A request may take long, so renew the lease before each.
            if stop.is_set() or not await self._leads():
                return False
            reply = await self._poster.post(self._receiver, body, key=notice.key)
            if not await self._note(self._delivery_of(event), reply):
                return False
            passed = None
            if event.is_terminal:
                break
        if passed is not None:
            await to_thread(resources.outbox.pass_over, name, passed)
        return True

    async def _notify_of_post(self, posted: PostedNotice, stop: asyncio.Event) -> bool:
        """Send a posted notice (a message of another part of relab); return whether to go on with further notices.

        Return False if the notice must be retried after a pause, if this process stops, or if it has lost the lease.
        """
        outbox, name = self._resources.outbox, self._receiver.name
        body = self._receiver.compose(posted.notice)
        if body is None:
            await to_thread(outbox.settle_post, name, posted)
            return True
        if stop.is_set() or not await self._leads():
            return False
        reply = await self._poster.post(self._receiver, body, key=posted.notice.key)
        delivery = _Delivery(
            posted.notice.incident_id,
            posted.notice.seq,
            posted.notice.kind,
            sent=lambda at_us: outbox.settle_post(name, posted, sent_at_us=at_us),
            give_up=lambda reason: outbox.settle_post(name, posted, error=reason),
        )
        return await self._note(delivery, reply)

    def _delivery_of(self, event: TimelineEvent) -> _Delivery:
        outbox, name = self._resources.outbox, self._receiver.name
        return _Delivery(
            event.incident_id,
            event.seq,
            event.kind,
            sent=lambda at_us: outbox.note_sent(name, event, at_us=at_us),
            give_up=functools.partial(self._give_up, event),
        )

    async def _note(self, delivery: _Delivery, reply: DeliveryReply) -> bool:
        """Store the result of sending a notice; return whether to go on with further notices.

        Return False if the notice must be retried after a pause. A notice that the receiver rejects, or that was retried
        for too long, is skipped.

        Args:
            delivery: the notice, with the functions that store its success or its failure.
            reply: the result of the attempt to send the notice.
        """
        resources, name, now_us = self._resources, self._receiver.name, self._resources.clock.now_us()
        if reply.result is DeliveryResult.TAKEN:
            await to_thread(delivery.sent, now_us)
            return True
        if reply.result is DeliveryResult.LATER and self._waited_s(delivery) < resources.delivery.give_up_after_s:
            attempts = await to_thread(resources.outbox.attempts, name) + 1
            pause_s = self._pause_s(attempts, reply)
            _log.warning(
                "notice_retried_later",
                receiver=name,
                reason=reply.reason,
                attempts=attempts,
                retry_after_s=round(pause_s, 1),
            )
            until_us = now_us + int(pause_s * _US)
            await to_thread(resources.outbox.put_off, name, until_us=until_us, attempts=attempts, error=reply.reason)
            # Count the pause only after it is stored: otherwise it may not take place.
            self._paused_s += pause_s
            return False
        _log.error(
            "notice_given_up", receiver=name, incident_id=delivery.topic, kind=delivery.kind, reason=reply.reason
        )
        await to_thread(delivery.give_up, reply.reason)
        return True

    def _waited_s(self, delivery: _Delivery) -> float:
        """Return the total seconds of the pauses that this process made between its attempts to send a notice."""
        # Not the age of the event: after a night in which relab was down, it may not have been tried yet.
        key = delivery.topic, delivery.seq
        if self._put_off != key:
            self._put_off, self._paused_s = key, 0.0
        return self._paused_s

    def _pause_s(self, attempts: int, reply: DeliveryReply) -> float:
        delivery = self._resources.delivery
        doubled = delivery.min_retry_pause_s * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS)
        pause_s = max(min(doubled, delivery.max_retry_pause_s), reply.retry_after_s or 0.0)
        return min(pause_s, _MAX_PAUSE_S)

    def _give_up(self, event: TimelineEvent, reason: str) -> None:
        """Skip the notice of an event for good, and record this as a new event in the incident's timeline."""
        resources, name = self._resources, self._receiver.name
        resources.outbox.give_up(name, event, error=reason)
        lost = NewEvent(
            "notice_lost",
            f"{name} did not get event {event.seq} ({event.kind}): {reason}.",
            {"receiver": name, "event": event.seq, "reason": reason},
            once=f"notice_lost.{name}.{event.seq}",
        )
        # An incident may be deleted meanwhile.
        with contextlib.suppress(IncidentNotFoundError):
            resources.log.append(event.incident_id, lost, at_us=resources.clock.now_us())

    def _notice_of(self, event: TimelineEvent) -> Notice | None:
        resources = self._resources
        try:
            incident = resources.log.get(event.incident_id)
        except IncidentNotFoundError:
            return None
        earlier = question = None
        alerts: tuple[Mapping[str, Any], ...] = ()
        if event.kind in _FOLLOW_A_DIAGNOSIS:
            earlier = resources.outbox.earlier_diagnosis(event.incident_id, event.seq)
        if event.kind == EventKind.APPROVAL_ASKED:
            question = self._open_question(event)
        if event.kind == EventKind.OPENED:
            alerts = tuple(resources.outbox.first_alerts(event.incident_id))
        return notice_of(
            event, NoticeContext(incident, earlier, alerts, question, resources.public_url, resources.answers_slack)
        )

    def _open_question(self, event: TimelineEvent) -> ApprovalRequest | None:
        """Return the approval request of an event; None if it was answered, has expired or does not exist."""
        asked = event.content.get("request")
        approval_id = asked.get("approval_id") if isinstance(asked, dict) else None
        try:
            request, decision = self._resources.log.approvals.get(str(approval_id))
        except ApprovalNotFoundError:
            return None
        return request if decision is None and self._resources.clock.now_us() < request.expires_at else None
