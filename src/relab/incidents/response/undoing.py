"""Taking an act back: what is right to be done is asked of the policy first, and written down before it is asked for."""

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
    """Takes acts of this responder back, each once, whoever asks for it after a kill."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._survey = Surveying(world)

    async def take_back(self, state: IncidentState, plan: Plan, act: ActRecord, why: str) -> ActRecord | None:
        """Undo an act, and return the undo; None if that could not be done: a person reads so in the timeline."""
        world = self._world
        try:
            ruling = await self._ruling(state, plan, act)
            if not ruling.is_allowed:
                await self._tell(state, act, f"{ruling.reason} {ruling.remedy}")
                return None
            undo = await self._written_down(act, why)
        except (ActionServerError, PausedError) as error:
            # Nothing was asked for.
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
        """Return whether an act may be taken back; what made things worse may keep the server from saying so for a while.

        Raises:
            ActionServerError: it does not say, for longer than is waited for a plan.
        """
        world = self._world
        for left in reversed(range(world.settings.most_waits + 1)):
            try:
                return await self._survey.ruling(state, plan, is_undo=True, leave_out=_key(act))
            except ActionServerError as error:
                # Looking is all that was asked for, so that nothing is unknown where an answer was lost.
                if error.reaction not in {Reaction.WAIT, Reaction.ASK_AGAIN} or not left:
                    raise
                await world.pause(world.settings.wait_s)
        raise AssertionError("the last try returns or raises")

    async def _undone(self, undo: ActRecord) -> ActRecord:
        """Have an act taken back, and return what came of that."""
        assert undo.undoes is not None
        world = self._world
        record_id: str | None = None
        said: str | None
        try:
            record = await world.actions.undo(undo.undoes)
        except OutcomeUnknownError:
            # It is settled before anything else is done.
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
        """Store that an act is to be taken back, before it is asked for; the server does that once, whoever asks."""
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
