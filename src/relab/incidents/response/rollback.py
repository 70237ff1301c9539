"""Roll back an action: get the policy's decision, store the rollback, and then request it from the action server."""

from __future__ import annotations

from relab.incidents.actions.errors import ActionServerError, OutcomeUnknownError, Reaction
from relab.incidents.actions.planning import ActionPlan
from relab.incidents.actions.policy import Ruling
from relab.incidents.actions.records import ActionRecord, ActionStatus, idempotency_key
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.situation import SituationReader
from relab.incidents.response.state import IncidentState
from relab.incidents.storage.errors import PausedError
from relab.incidents.storage.models import NewEvent, Phase


class Rollback:
    """Rolls back actions of this responder.

    Each action is rolled back only once, even if a restarted process requests the rollback again.
    """

    def __init__(self, world: ResponseContext) -> None:
        self._world = world
        self._survey = SituationReader(world)

    async def take_back(
        self, state: IncidentState, plan: ActionPlan, act: ActionRecord, why: str
    ) -> ActionRecord | None:
        """Roll back an action and return the record of the rollback.

        If the action cannot be rolled back, or if the outcome of the rollback is unknown, write this to the timeline
        and return None.

        Args:
            state: the state of the incident workflow.
            plan: the plan that the action executed.
            act: the action.
            why: the reason for the rollback, in one sentence.
        """
        world = self._world
        try:
            ruling = await self._ruling(state, plan, act)
            if not ruling.is_allowed:
                await self._append_not_undone(state, act, f"{ruling.reason} {ruling.remedy}")
                return None
            undo = await self._written_down(act, why)
        except (ActionServerError, PausedError) as error:
            # No rollback was requested.
            await self._append_not_undone(state, act, str(error))
            return None
        if undo.status is ActionStatus.ASKED:
            undo = await self._undone(undo)
        if undo.status is not ActionStatus.SUCCEEDED:
            await self._append_not_undone(state, act, undo.error or "it is not known yet whether it was undone.")
            return None
        await world.blocking(world.log.actions.finish, act.key, ActionStatus.UNDONE, at_us=world.clock.now_us())
        return undo

    async def _ruling(self, state: IncidentState, plan: ActionPlan, act: ActionRecord) -> Ruling:
        """Return the policy's decision on the rollback of an action; retry while the action server does not answer.

        The decision is: allowed, needs approval, refused, or no action for now.

        Raises:
            ActionServerError: the action server refuses a request, or still does not answer after
                `max_server_retries` retries.
        """
        world = self._world
        # The action may have damaged the service so much that its action server does not answer.
        for left in reversed(range(world.settings.max_server_retries + 1)):
            try:
                return await self._survey.ruling(state, plan, is_undo=True, leave_out=_key(act))
            except ActionServerError as error:
                # These requests change nothing, so a lost answer leaves no unknown outcome.
                if error.reaction not in {Reaction.WAIT, Reaction.ASK_AGAIN} or not left:
                    raise
                await world.pause(world.settings.server_retry_s)
        raise AssertionError("the last try returns or raises")

    async def _undone(self, undo: ActionRecord) -> ActionRecord:
        """Request `undo`, the rollback of an action, from the action server; store the result, and return the record.

        If the outcome of the request is unknown, the record does not change.
        """
        assert undo.undoes is not None
        world = self._world
        record_id: str | None = None
        said: str | None
        try:
            record = await world.actions.undo(undo.undoes)
        except OutcomeUnknownError:
            # The unsettled rollback blocks other actions until its outcome is known.
            return undo
        except ActionServerError as error:
            status, said = ActionStatus.REFUSED, str(error)
        else:
            status, record_id, said = record.status, record.record_id, record.error
        now_us = world.clock.now_us()
        return await world.blocking(
            world.log.actions.finish, undo.key, status, at_us=now_us, record_id=record_id, error=said
        )

    async def _written_down(self, act: ActionRecord, why: str) -> ActionRecord:
        """Store the rollback of the action `act` before the rollback is requested, and return the rollback's record.

        If the rollback was stored earlier, return the earlier record. `why` is the reason for the rollback, for the
        record.
        """
        undo = act.model_copy(
            update={
                "key": _key(act),
                "undoes": act.record_id,
                "asked_at": self._world.clock.now_us(),
                "why": why,
                "status": ActionStatus.ASKED,
                "record_id": None,
                "error": None,
                "finished_at": None,
                "effect": None,
            }
        )
        put = await self._world.blocking(self._world.log.actions.put, undo, lease=self._world.watch.lease)
        return put.act

    async def _append_not_undone(self, state: IncidentState, act: ActionRecord, reason: str) -> None:
        new_event = NewEvent("not_undone", f"{act.action} could not be undone: {reason}", {"key": act.key})
        await self._world.append_events(state["incident_id"], Phase.VERIFY, new_event)


def _key(act: ActionRecord) -> str:
    return idempotency_key(act.incident_id, act.attempt, f"undo {act.action}")
