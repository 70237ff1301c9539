"""Detect that an incident has passed without an action: users are served well, and its anomalies are gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.incidents.actions.records import RepairResult
from relab.incidents.actions.verification import verify
from relab.incidents.actions.verification_models import ActionObservations
from relab.incidents.models import Snapshot
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.state import load_poll
from relab.incidents.storage.models import Incident

_US: Final = 1_000_000
WELL_AGAIN: Final = "Users have been served well for long enough, and no anomaly is left."
PASSED: Final = "passed"
"""The value with which a waiting approval is resumed if the problem has passed."""
_UNHEARD_US: Final = 5 * 3_600 * _US
"""An alert that was not repeated for this long is ignored.

Alertmanager repeats firing alerts every four hours by default.
"""


class Recovery:
    """Decides from polls of the target whether an incident has passed; earlier polls than this object do not count.

    Args:
        world: gives the polls, the alerts and the settings.
        incident_id: the id of the incident.
        before: a poll that shows the problem, as JSON: the poll that opened the incident, or the one at the beginning of
            its last diagnosis.
    """

    def __init__(self, world: ResponseContext, incident_id: str, before: Mapping[str, Any]) -> None:
        self._world = world
        self._incident_id = incident_id
        self._before = load_poll(before)
        self._began_us = world.clock.now_us()
        self._number = world.watch.feed.number
        self._polls: list[Snapshot] = []
        self._wrong_at_us: int | None = None

    async def poll(self) -> None:
        """Wait for the next poll of the target, and collect it in this object.

        The polling loop of the responder polls the target. `has_passed` uses the collected polls.
        """
        feed = self._world.watch.feed
        self._polls.extend(await feed.after(self._number))
        self._number = feed.number
        # Read with the polls: a later poll would move it past them, and a time after them counts as a clock set back.
        self._wrong_at_us = self._world.watch.wrong_at_us
        # Drop old polls: they are not needed, and the incident may last for a night.
        settings = self._world.settings.verification
        # With a long interval, `min_healthy_polls` polls take longer than `min_quiet_s`.
        needed_s = max(settings.min_quiet_s, settings.min_healthy_polls * settings.poll_interval_s)
        horizon_us = self._polls[-1].at_us - int(2 * needed_s * _US)
        self._polls = [poll for poll in self._polls if poll.at_us >= horizon_us]

    async def has_passed(self) -> bool:
        """Return whether the incident has passed, that is, whether all of these conditions hold.

        Users were served well for the last `min_quiet_s` seconds, and in at least `min_healthy_polls` polls; no poll in
        the last `min_quiet_s` seconds had a confirmed anomaly that opens incidents; no firing alert of this incident was
        received in the last five hours.
        """
        world, settings = self._world, self._world.settings.verification
        if not self._polls:
            return False
        course = ActionObservations(
            self._began_us, self._began_us, self._before, self._polls, frozenset(world.watch.stale)
        )
        found = verify(course, world.bounds(self._before), settings)
        # A verified repair needs less time; here, a problem that comes and goes must stay one incident.
        if found.result is not RepairResult.VERIFIED or found.well_s < settings.min_quiet_s:
            return False
        wrong_at_us, last_us = self._wrong_at_us, self._polls[-1].at_us
        if wrong_at_us is not None and 0 <= last_us - wrong_at_us < settings.min_quiet_s * _US:
            return False
        alerts_since_us = world.clock.now_us() - _UNHEARD_US
        return not await world.blocking(world.log.alerts.fires, self._incident_id, since_us=alerts_since_us)


def reports_by_hand(incident: Incident) -> int:
    """Return how often people have reported the problem of an incident by hand (`lab incidents trigger`)."""
    return sum(each.count for each in incident.findings if each.detector == "trigger")
