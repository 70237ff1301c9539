"""Roll back an act: get the policy's ruling, store the rollback, and then request it from the action server."""

from __future__ import annotations

from relab.incidents.acting.errors import ActionServerError, OutcomeUnknownError, Reaction
from relab.incidents.acting.planning import Plan
from relab.incidents.acting.policy import Ruling
from relab.incidents.acting.records import ActRecord, ActStatus, idempotency_key
from relab.incidents.response.state import IncidentState
from relab.incidents.response.surveying import Surveying
from relab.incidents.response.world import World
from relab.incidents.storage.errors import PausedError
from relab.incidents.storage.models import NewEvent, Phase


class Undoing:
    """Rolls back acts of this responder, each only once, also if a restarted process requests it again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._survey = Surveying(world)

    async def take_back(self, state: IncidentState, plan: Plan, act: ActRecord, why: str) -> ActRecord | None:
        """Roll back an act, and return the record of the rollback; if it failed, write so to the timeline and return None."""
        world = self._world
        try:
            ruling = await self._ruling(state, plan, act)
            if not ruling.is_allowed:
                await self._tell(state, act, f"{ruling.reason} {ruling.remedy}")
                return None
            undo = await self._written_down(act, why)
        except (ActionServerError, PausedError) as error:
            # No rollback was requested.
            await self._tell(state, act, str(error))
            return None
        if undo.status is ActStatus.ASKED:
            undo = await self._undone(undo)
        if undo.status is not ActStatus.SUCCEEDED:
            await self._tell(state, act, undo.error or "nobody knows yet whether it was.")
            return None
        await world.blocking(world.log.acts.finish, act.key, ActStatus.UNDONE, at_us=world.clock.now_us())
        return undo

    async def _ruling(self, state: IncidentState, plan: Plan, act: ActRecord) -> Ruling:
        """Return the policy's ruling on the rollback of an act; retry while the server does not answer.

        The act itself may have made things so much worse that the server does not answer for a while.

        Raises:
            ActionServerError: the server refuses, or still does not answer after `most_waits` retries.
        """
        world = self._world
        for left in reversed(range(world.settings.most_waits + 1)):
            try:
                return await self._survey.ruling(state, plan, is_undo=True, leave_out=_key(act))
            except ActionServerError as error:
                # These requests change nothing, so a lost answer leaves no unknown outcome.
                if error.reaction not in {Reaction.WAIT, Reaction.ASK_AGAIN} or not left:
                    raise
                await world.pause(world.settings.wait_s)
        raise AssertionError("the last try returns or raises")

    async def _undone(self, undo: ActRecord) -> ActRecord:
        """Request a rollback from the action server, and return its stored record with the result."""
        assert undo.undoes is not None
        world = self._world
        record_id: str | None = None
        said: str | None
        try:
            record = await world.actions.undo(undo.undoes)
        except OutcomeUnknownError:
            # The unsettled rollback blocks other acts until its outcome is known.
            return undo
        except ActionServerError as error:
            status, said = ActStatus.REFUSED, str(error)
        else:
            status, record_id, said = record.act_status, record.record_id, record.error
        now_us = world.clock.now_us()
        return await world.blocking(
            world.log.acts.finish, undo.key, status, at_us=now_us, record_id=record_id, error=said
        )

    async def _written_down(self, act: ActRecord, why: str) -> ActRecord:
        """Store the rollback of an act before it is requested, and return it; an earlier one with the same key is returned."""
        undo = act.model_copy(
            update={
                "key": _key(act),
                "undoes": act.record_id,
                "asked_at": self._world.clock.now_us(),
                "why": why,
                "status": ActStatus.ASKED,
                "record_id": None,
                "error": None,
                "finished_at": None,
                "effect": None,
            }
        )
        put = await self._world.blocking(self._world.log.acts.put, undo, lease=self._world.watch.lease)
        return put.act

    async def _tell(self, state: IncidentState, act: ActRecord, reason: str) -> None:
        told = NewEvent("not_undone", f"{act.action} could not be taken back: {reason}", {"key": act.key})
        await self._world.tell(state["incident_id"], Phase.VERIFY, told)


def _key(act: ActRecord) -> str:
    return idempotency_key(act.incident_id, act.attempt, f"undo {act.action}")
