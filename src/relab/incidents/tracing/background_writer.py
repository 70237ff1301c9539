"""Store incidents as agent runs, and the measured values during the open incident, without blocking the responder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.postmortem.signal_writer import SignalWriter
from relab.incidents.tracing.recorder import RunRecorder

EVERY_S: Final = 2.0

_log = get_logger(__name__)


class ResponderState(Protocol):
    """The state of a responder: whether its process is the leader, and which incident it works on."""

    @property
    def is_leading(self) -> bool:
        """Whether this process is the leader: the one that polls the target and responds to its incidents."""
        ...

    @property
    def has_led(self) -> bool:
        """Whether this process has ever been the leader."""
        ...

    @property
    def incident_id(self) -> str | None:
        """The id of the incident that the responder works on; None if there is none."""
        ...


class BackgroundWriter:
    """Stores incidents as agent runs, and signals (measured values) in the open incident's timeline, at an interval.

    Only the leader writes. It is the process that polls the target and responds to its incidents. A failure is logged,
    and writing is retried at the next interval.

    Args:
        responder: the state of the responder.
        feed: the latest polls, which contain the signals.
        recorder: stores the incidents as agent runs.
        keeper: stores the signals in the timeline of the open incident.
    """

    def __init__(self, responder: ResponderState, feed: PollFeed, recorder: RunRecorder, keeper: SignalWriter) -> None:
        self._responder = responder
        self._feed = feed
        self._recorder = recorder
        self._keeper = keeper

    @asynccontextmanager
    async def writing(self, every_s: float = EVERY_S) -> AsyncIterator[None]:
        """Store agent runs and signals (measured values) every `every_s` seconds while the `async with` block runs.

        Only the leader stores them. At the end of the block, a process that has ever been the leader stores them once
        more.
        """
        stop = asyncio.Event()
        task = asyncio.create_task(self._write_until(stop, every_s), name="scribe")
        try:
            yield
        finally:
            stop.set()
            await task

    async def _write_until(self, stop: asyncio.Event, every_s: float) -> None:
        led = is_last = False
        while not is_last:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)
            # Only the leader writes; a process that stops leads no more, so it writes once more if it has ever led.
            leads, is_last = self._responder.is_leading, stop.is_set()
            if leads or (is_last and self._responder.has_led):
                await self._write()
            elif led:
                self._recorder.clear_cache()
            led = leads

    async def _write(self) -> None:
        try:
            await asyncio.to_thread(self._write_now, self._responder.incident_id, self._feed.polls)
        except RelabError as error:
            _log.warning("incident_not_recorded", error=str(error))
        except Exception:  # noqa: BLE001 whatever there is to write, the responder goes on, and so does the next probe
            _log.exception("incident_not_recorded")

    def _write_now(self, incident_id: str | None, polls: Sequence[Snapshot]) -> None:
        if incident_id is not None:
            self._keeper.keep(incident_id, polls)
        self._recorder.catch_up()
