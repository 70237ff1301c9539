"""Whether an incident that nobody has mended is over: users are served well, and what it was about is not seen any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.incidents.acting.verification import Course, Outcome, verify
from relab.incidents.models import Snapshot
from relab.incidents.response.state import load_poll
from relab.incidents.response.world import World

_US: Final = 1_000_000
WELL_AGAIN: Final = "Users have been served well again for long enough, and no finding is left."
PASSED: Final = "passed"
"""What a question is answered with that need not be answered any more."""
_UNHEARD_US: Final = 5 * 3_600 * _US
"""Alertmanager repeats what fires every four hours, unless it is told otherwise: what was not repeated is not waited for."""


class Recovery:
    """Follows the polls from now on.

    Args:
        world: whose polls.
        incident_id: what may have passed.
        before: the poll that it was opened on.
    """

    def __init__(self, world: World, incident_id: str, before: Mapping[str, Any]) -> None:
        self._world = world
        self._incident_id = incident_id
        self._before = load_poll(before)
        self._began_us = world.clock.now_us()
        self._number = world.watch.feed.number
        self._polls: list[Snapshot] = []

    async def poll(self) -> None:
        """Wait for the next poll."""
        feed = self._world.watch.feed
        self._polls.extend(await feed.after(self._number))
        self._number = feed.number
        # What is long over tells nothing any more, and a night is long.
        horizon_us = self._polls[-1].at_us - int(2 * self._world.settings.verification.quiet_s * _US)
        self._polls = [poll for poll in self._polls if poll.at_us >= horizon_us]

    async def has_passed(self) -> bool:
        """Return whether users have been served well for long enough, nothing else is wrong, and no alert of it fires.

        Longer than after a repair: what comes and goes without a reason is one incident, and wakes people once.
        """
        world, settings = self._world, self._world.settings.verification
        if not self._polls:
            return False
        course = Course(self._began_us, self._began_us, self._before, self._polls, frozenset(world.watch.stale))
        found = verify(course, world.bounds(self._before), settings)
        if found.outcome is not Outcome.VERIFIED or found.well_s < settings.quiet_s:
            return False
        wrong_at_us, last_us = world.watch.wrong_at_us, self._polls[-1].at_us
        if wrong_at_us is not None and 0 <= last_us - wrong_at_us < settings.quiet_s * _US:
            return False
        heard_us = world.clock.now_us() - _UNHEARD_US
        return not await world.blocking(world.log.alerts.fires, self._incident_id, since_us=heard_us)
