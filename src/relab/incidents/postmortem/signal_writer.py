"""Store the signals of an open incident in its timeline, part by part, so that they are available before its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.core.clock import Clock
from relab.incidents.models import Snapshot
from relab.incidents.postmortem.service import events_of
from relab.incidents.postmortem.signal_events import BEFORE_S, MAX_SHOWN, recorded, signals_event
from relab.incidents.storage.log import IncidentLog

PART: Final = 60
"""The least number of polls in a part after the first.

Later parts have more polls, but at most twice as many points.
"""
GROWTH: Final = 0.1
"""A part has at least this share of all polls so far, so that a timeline grows with the logarithm of the duration."""
MAX_PART: Final = 1_000
"""The number of new polls that is always enough for a part. The feed holds 2,000 polls; older ones would be lost."""
_US: Final = 1_000_000


class SignalWriter:
    """Stores the signals (measured values) of incidents in their timelines, one incident at a time."""

    def __init__(self, log: IncidentLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._incident_id: str | None = None
        self._until_us = 0
        self._count = 0

    def keep(self, incident_id: str, polls: Sequence[Snapshot]) -> bool:
        """Store the signals of new polls in an incident's timeline, as one event, if there are enough new polls.

        Args:
            incident_id: the id of the open incident.
            polls: the polls in memory, in order of time. Polls up to the last stored one are ignored.

        Returns:
            Whether an event was stored.

        Raises:
            NotFoundError: no incident has this id.
            UnavailableError: the database cannot be reached.
        """
        if incident_id != self._incident_id:
            self._begin(incident_id)
        fresh = [poll for poll in polls if poll.at_us > self._until_us]
        needed = min(max(PART, int(GROWTH * self._count)), MAX_PART) if self._count else 1
        if len(fresh) < needed:
            return False
        incident = self._log.get(incident_id)
        wanted = [finding.signal for finding in incident.findings]
        # The first part has more points, because the beginning matters most; what follows may take all night.
        most = 2 * PART if self._count else MAX_SHOWN
        event = signals_event(fresh, incident.opened_at, wanted, once=f"signals.{fresh[0].at_us}", most=most)
        self._log.append(incident_id, event, at_us=self._clock.now_us())
        self._count += len(fresh)
        self._until_us = fresh[-1].at_us
        return True

    def _begin(self, incident_id: str) -> None:
        """Switch to the incident `incident_id`; read from its timeline up to which poll its signals are stored."""
        opened_us = self._log.get(incident_id).opened_at
        kept = recorded(events_of(self._log, incident_id))
        self._incident_id = incident_id
        # Stored times are truncated to whole milliseconds.
        self._until_us = kept.times_us[-1] + 999 if kept.times_us else opened_us - int(BEFORE_S * _US) - 1
        self._count = len(kept.times_us)
