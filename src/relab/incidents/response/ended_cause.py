"""Decide whether an incident may be closed without a person after its confirmed cause has ended without a repair."""

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
        """Wait until it is clear whether an incident has passed because its cause ended by itself; return the answer.

        Return False at once if the cause has no runbook, the diagnosis had no facts that show the cause, or new probes
        do not show that it is gone. Otherwise wait for new polls. After each poll, the first case that applies decides
        the result:

        1. A person has reported the problem since its cause was diagnosed: False.
        2. `Recovery` reports that the incident has passed: True if new probes show that the cause is still gone,
           otherwise False.
        3. The wait has lasted for `recovery_timeout_s`: False.
        4. Users are not served well (see `_is_ill`): False.

        False means that a person is needed.

        Args:
            state: the state of the incident workflow at the diagnosis of the cause.
            cause: the cause, which probes at two times had confirmed.

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

        In the first `metrics_window_s` seconds of the wait, the target's figures still include requests from before it.
        Only an anomaly of the detector `absence`, such as a missing answer, then counts. Later, every anomaly for which
        `_needs_person` is true counts, and so do outdated figures.

        `waited_s` is the time since the wait began, in seconds.
        """
        found, settings = self._world.watch.findings, self._world.settings
        problems = [item for item in found.confirmed if _needs_person(item, settings.detection)]
        if waited_s < settings.verification.metrics_window_s:
            return any(item.detector == "absence" for item in problems)
        return found.is_stale or bool(problems)


def _needs_person(anomaly: Anomaly, settings: DetectionSettings) -> bool:
    """Return whether an anomaly shows that users are not served well now.

    These anomalies do not show it:
    - an anomaly that does not open incidents;
    - a bad health status of the target, or a high burn rate of errors: both may outlast the problem;
    - a duration that exceeds its bound by less than `large_latency_increase_ms`.
    """
    if not anomaly.opens or (anomaly.detector, anomaly.signal) in _LAGGING:
        return False
    if not anomaly.signal.endswith("_ms") or anomaly.value is None or anomaly.expected is None:
        return True
    # The P95 of a few requests is above its bound at times. The incident is not closed meanwhile.
    return anomaly.value >= anomaly.expected + settings.large_latency_increase_ms


def _was_seen(book: Runbook, state: IncidentState) -> bool:
    """Return whether the facts of the diagnosis in `state` show that the cause of a runbook was present.

    They show it if one of the conditions in `book.mended`, which are true without the cause, was false. If none was
    false at the diagnosis, the diagnosis may be wrong: that all are true now does not prove that the cause ended.
    """
    facts = load_known(state.get("known", {})).facts
    return any(condition.holds(facts) is False for condition in book.mended)
