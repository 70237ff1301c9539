"""Decide whether an incident may be closed without a person: its cause was certain, and ended before the repair."""

from __future__ import annotations

from typing import Final

from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import Anomaly
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.recovery import Recovery, reports_by_hand
from relab.incidents.response.state import IncidentState, load_known
from relab.incidents.response.verification_loop import VerificationLoop
from relab.incidents.storage.errors import IncidentOverError
from relab.incidents.storage.models import NewEvent, Phase
from relab.knowledge.models import Runbook

_US: Final = 1_000_000
_LAGGING: Final = frozenset((("burn_rate", "errors.pct"), ("state", "health")))
"""The detector and the signal of anomalies that outlast a problem, because they cover more time than the figures."""


class EndedCause:
    """Watches a service after the cause of its problem has ended by itself, without an action."""

    def __init__(self, world: ResponseContext) -> None:
        self._world = world
        self._probing = VerificationLoop(world)

    async def has_passed(self, state: IncidentState, cause: str) -> bool:
        """Return whether an incident has passed, because its cause has ended by itself; wait until this is certain.

        First, the facts of the diagnosis must show that the cause was present, and probes must show that it is gone.
        Otherwise return False at once. Then follow the polls. The incident has passed if `Recovery` says so, and probes
        show again that the cause is gone. Return False, so that people are called, as soon as one of these holds:

        - The target does not answer.
        - The service has a problem that opens incidents, and the target's figures cover only the time of the wait. The
          target's own health status and the burn rate do not count: they cover more time than the figures. Neither
          do durations that exceed their bound by less than `large_latency_increase_ms`.
        - A person has reported the problem since its cause was diagnosed.
        - The wait has lasted for `recovery_timeout_s`.

        Args:
            state: the state of the incident workflow at the diagnosis of the cause.
            cause: the cause, which two probes had confirmed.

        Raises:
            IncidentOverError: a person has ended the incident meanwhile.
        """
        world, incident_id = self._world, state["incident_id"]
        book = next((book for book in await world.runbooks() if book.cause == cause), None)
        if book is None or not _was_seen(book, state) or not await self._probing.is_gone(book):
            return False
        said = f"{cause} has ended without an action. A person is called only if users are not served well now."
        await world.append_events(incident_id, Phase.INVESTIGATE, NewEvent("ended", said, {"cause": cause}))
        recovery, began_us = Recovery(world, incident_id, state["symptoms"]), world.clock.now_us()
        while True:
            await recovery.poll()
            incident = await world.blocking(world.log.get, incident_id)
            if incident.is_over:
                raise IncidentOverError(incident_id)
            if reports_by_hand(incident) > state.get("heard", 0):
                return False
            if await recovery.has_passed():
                # A cause that comes and goes may have been absent during the first of the two probes.
                return await self._probing.is_gone(book)
            # A clock that was set back must not prolong the wait.
            waited_s = abs(world.clock.now_us() - began_us) / _US
            if waited_s >= world.settings.verification.recovery_timeout_s or self._is_ill(waited_s):
                return False

    def _is_ill(self, waited_s: float) -> bool:
        """Return whether people must be called, because the latest poll shows that users are not served well.

        `waited_s` is the time in seconds since the cause ended. While it is less than `metrics_window_s`, the target's figures
        include older requests, so only an anomaly of the detector `absence`, such as a missing answer, counts.
        """
        found, settings = self._world.watch.findings, self._world.settings
        problems = [item for item in found.confirmed if _needs_person(item, settings.detection)]
        if waited_s < settings.verification.metrics_window_s:
            return any(item.detector == "absence" for item in problems)
        return found.is_stale or bool(problems)


def _needs_person(anomaly: Anomaly, settings: DetectionSettings) -> bool:
    """Return whether an anomaly shows that users are not served well now; small increases of a duration do not."""
    if not anomaly.opens or (anomaly.detector, anomaly.signal) in _LAGGING:
        return False
    if not anomaly.signal.endswith("_ms") or anomaly.value is None or anomaly.expected is None:
        return True
    # The P95 of a few requests is above its bound at times. The incident is not closed meanwhile.
    return anomaly.value >= anomaly.expected + settings.large_latency_increase_ms


def _was_seen(book: Runbook, state: IncidentState) -> bool:
    """Return whether the facts of the diagnosis in `state` show the cause of a runbook.

    At least one condition in `book.mended`, which are true without the cause, must have been false. After a wrong
    diagnosis, they may have been true all the time, and would then not prove that the cause has ended.
    """
    facts = load_known(state.get("known", {})).facts
    return any(condition.holds(facts) is False for condition in book.mended)
