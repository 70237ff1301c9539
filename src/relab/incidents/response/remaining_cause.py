"""Find another cause of an incident if an action has removed one cause, and users are still affected."""

from __future__ import annotations

from typing import Final

from relab.incidents.actions.records import ActionRecord
from relab.incidents.actions.verification_models import ActionObservations
from relab.incidents.diagnosis.candidates import UNKNOWN
from relab.incidents.response.context import ResponseContext

_MIN_PROBABILITY: Final = 0.8
"""The least probability of another cause.

A runbook of high risk needs as much; another cause ends the waiting early.
"""
_US: Final = 1_000_000


class RemainingCause:
    """Finds out, after an action has removed one cause of an incident, whether another cause still affects the service.

    The caller asks `is_due` whether it is time for a diagnosis, and `cause` makes the diagnosis.

    Args:
        world: the services and settings of the incident workflow.
        act: the finished action; the cause that it repairs is known to be gone.
    """

    def __init__(self, world: ResponseContext, act: ActionRecord) -> None:
        self._world = world
        self._act = act
        self._diagnosed_at_us: int | None = None

    def is_due(self) -> bool:
        """Return whether a diagnosis is due: there was none, or the last one was at least `effect_timeout_s / 4` s ago.

        `effect_timeout_s` is the time within which an action must show its effect.
        """
        between_us = int(self._world.settings.verification.effect_timeout_s / 4 * _US)
        at_us = self._diagnosed_at_us
        return at_us is None or not 0 <= self._world.clock.now_us() - at_us < between_us

    async def cause(self, course: ActionObservations, *, is_worse: bool) -> str:
        """Run probes and return the name of another cause that they confirm; empty if they confirm none.

        Args:
            course: the observations since the action.
            is_worse: whether the service is worse than before the action. If False, the signs of the repaired cause are
                not evidence for another cause, because they may take some time to disappear.
        """
        self._diagnosed_at_us = self._world.clock.now_us()
        known = course.facts_before or {}
        left_by = set() if is_worse else {self._act.cause}
        investigator = await self._world.investigator(self._act.incident_id, known, mended=left_by, asks_model=False)
        thought = await investigator.investigate(await investigator.gather(course.polls[-1]))
        best = thought.best
        is_sure = thought.is_confirmed and not best.unproven and best.probability >= _MIN_PROBABILITY
        return best.cause if is_sure and best.cause not in {UNKNOWN, self._act.cause} else ""
