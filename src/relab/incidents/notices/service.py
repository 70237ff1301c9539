"""The service that sends notices of incidents to people, and answers their commands in Slack."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from relab.core.clock import Clock
from relab.core.errors import NotFoundError
from relab.core.ids import new_id
from relab.core.logging import get_logger
from relab.incidents.notices.channels.registry import channels_from
from relab.incidents.notices.models import NewNotice, ReceiverState
from relab.incidents.notices.outbox import Outbox
from relab.incidents.notices.receivers import Receiver
from relab.incidents.notices.settings import DeliverySettings, NoticeOptions
from relab.incidents.notices.slack_commands import SlackCommand, SlackCommandHandler, read_command
from relab.incidents.notices.slack_signature import TOLERANCE_S, SlackSignatureError, require_signature
from relab.incidents.service import IncidentService
from relab.storage import Database

if TYPE_CHECKING:
    from relab.incidents.notices.http_delivery import NoticePoster
    from relab.incidents.notices.sender import NoticeSender

__all__ = ["DeliverySettings", "NewNotice", "NoticeOptions", "NoticeService", "SlackCommand", "channels_from"]

_US: Final = 1_000_000
_MAX_SIGNATURE_AGE_US: Final = 3 * TOLERANCE_S * _US
"""For how long signatures are stored to detect replays, in microseconds.

A signature is valid from `TOLERANCE_S` before until `TOLERANCE_S` after its timestamp, so it is stored for longer.
"""
_STOP_TIMEOUT_S: Final = 2.0
_RESTART_PAUSE_S: Final = 5.0

_log = get_logger(__name__)


class SlackOffError(NotFoundError):
    """Slack commands are not answered, because no signing secret is set."""

    code = "slack_off"

    def __init__(self) -> None:
        super().__init__(
            "Slack commands are not set up here.",
            remedy="Set RELAB_NOTICES__SLACK_SIGNING_SECRET to the signing secret of the Slack app.",
        )


class NoticeService:
    """Sends notices of incidents to people, and answers their commands in Slack.

    Args:
        database: stores the state of each receiver, and which event of each timeline it has processed last.
        clock: the current time.
        incidents: provides the timelines of incidents, and carries out commands.
        settings: the receivers, and the permissions in Slack.
    """

    def __init__(self, database: Database, clock: Clock, incidents: IncidentService, settings: NoticeOptions) -> None:
        self._clock = clock
        self._incidents = incidents
        self._settings = settings
        self._outbox = Outbox(database)
        self._slack_commands = SlackCommandHandler(incidents, settings.slack_operators)

    def configured(self) -> list[str]:
        """Check the settings of the receivers, without sending anything; return the names of the receivers.

        Raises:
            ConfigurationError: an address is not valid, or the proxy or the certificates of the environment cannot be
                used.
        """
        receivers = self._settings.receivers()
        if receivers:
            # Created only to check that it can be; it does not connect.
            self._poster()
        return [receiver.name for receiver in receivers]

    def states(self) -> list[ReceiverState]:
        """Return the delivery state of each receiver that was ever set up."""
        return self._outbox.states()

    def post(self, notice: NewNotice) -> None:
        """Store a message that another part of relab sends to all receivers.

        Do nothing if a message with the same topic and number was stored before.
        """
        self._outbox.post(notice, now_us=self._clock.now_us())

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send notices of all incidents to the receivers while the block runs; do nothing without receivers.

        Notices are sent in a separate thread; a slow receiver does not delay the others.

        Raises:
            ConfigurationError: an address is not valid, or the proxy or the certificates of the environment cannot be
                used.
        """
        receivers = self._settings.receivers()
        if not receivers:
            yield
            return
        began: Future[Callable[[], object]] = Future()
        # Slow DNS lookups occupy threads of the event loop's pool, and must not occupy the responder's.
        thread = threading.Thread(target=self._work, args=(receivers, began), name="notices", daemon=True)
        thread.start()
        end = await asyncio.wrap_future(began)
        try:
            yield
        finally:
            # The loop may have ended already; the log then says why.
            with contextlib.suppress(RuntimeError):
                end()
            await asyncio.to_thread(thread.join, 2 * _STOP_TIMEOUT_S)

    def _work(self, receivers: Sequence[Receiver], began: Future[Callable[[], object]]) -> None:
        async def work() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            poster = self._poster()
            senders = self._senders(receivers, poster)
            began.set_result(lambda: loop.call_soon_threadsafe(stop.set))
            await _send(senders, stop)

        try:
            asyncio.run(work())
        except Exception as error:  # noqa: BLE001 no code waits for the thread once it has begun
            if began.done():
                _log.exception("notices_failed")
            else:
                # A server that cannot send notices must not start: it would seem healthy.
                began.set_exception(error)

    def _poster(self) -> NoticePoster:
        # The client takes long to load, and most processes send nothing.
        from relab.incidents.notices.http_delivery import NoticePoster

        return NoticePoster(self._clock, within_s=self._settings.delivery.request_timeout_s)

    def _senders(self, receivers: Sequence[Receiver], poster: NoticePoster) -> list[NoticeSender]:
        from relab.incidents.notices.sender import NoticeSender, SenderResources

        settings = self._settings
        resources = SenderResources(
            self._outbox,
            self._incidents.log,
            self._clock,
            settings.delivery,
            public_url=settings.public_url and settings.public_url.rstrip("/"),
            answers_slack=settings.slack_signing_secret is not None and bool(settings.slack_operators),
        )
        owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
        return [NoticeSender(each, resources, poster, owner=owner) for each in receivers]

    def take_in(self, body: bytes, *, timestamp: str | None, signature: str | None) -> SlackCommand:
        """Verify a request of Slack and return its command.

        Args:
            body: the body of the request.
            timestamp: the header `X-Slack-Request-Timestamp`; None if it is missing.
            signature: the header `X-Slack-Signature`; None if it is missing.

        Raises:
            SlackOffError: no signing secret is set, so commands are not answered.
            SlackSignatureError: the signature is not valid, or the request is a replay.
            InvalidInputError: the request cannot be parsed.
        """
        secret = self._settings.slack_signing_secret
        if secret is None:
            raise SlackOffError
        now_us = self._clock.now_us()
        require_signature(secret, body, timestamp=timestamp, signature=signature, now_us=now_us)
        command = read_command(body)
        if not self._outbox.is_fresh(
            (signature or "").removeprefix("v0="), at_us=now_us, keep_us=_MAX_SIGNATURE_AGE_US
        ):
            raise SlackSignatureError("The request is a replay.", remedy="Type the command again.")
        return command

    def answer(self, command: SlackCommand) -> str:
        """Carry out a person's Slack command, and return the reply in Slack's markup."""
        return self._slack_commands.answer(command)


async def _send(senders: Sequence[NoticeSender], stop: asyncio.Event) -> None:
    tasks = [asyncio.create_task(_run(each, stop)) for each in senders]
    await stop.wait()
    await asyncio.wait(tasks, timeout=_STOP_TIMEOUT_S)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _run(sender: NoticeSender, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await sender.run(stop)
        except Exception:  # noqa: BLE001 whatever it met, people are not left untold for the night
            _log.exception("notices_failed", receiver=sender.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _RESTART_PAUSE_S)
