"""The graph's nodes `execute` and `verify`: execute an act, and verify its effect."""

from __future__ import annotations

from typing import Any, Final

from relab.incidents.acting.approvals import Standing, rejecter_of, standing
from relab.incidents.acting.courses import Outcome, Verification
from relab.incidents.acting.errors import ActionServerError, OutcomeUnknownError, Reaction
from relab.incidents.acting.planning import Plan
from relab.incidents.acting.records import ActRecord, ActStatus, Effect, ServerRecord, idempotency_key
from relab.incidents.response.state import IncidentState, dump_poll, load_known, load_poll
from relab.incidents.response.surveying import Surveying
from relab.incidents.response.undoing import Undoing
from relab.incidents.response.verifying import Verifying
from relab.incidents.response.world import World
from relab.incidents.storage.errors import (
    ActNotFoundError,
    IncidentOverError,
    LoopLostError,
    PausedError,
    RejectedError,
)
from relab.incidents.storage.models import NewEvent, Phase
from relab.knowledge.models import Runbook

_EFFECTS: Final = {
    Outcome.VERIFIED: Effect.VERIFIED,
    Outcome.MITIGATED: Effect.MITIGATED,
    Outcome.OTHER_CAUSE: Effect.MITIGATED,
    Outcome.FAILED: Effect.FAILED,
    Outcome.WORSE: Effect.WORSE,
}
_OF_THE_MOMENT: Final = frozenset((Reaction.WAIT, Reaction.LOOK_AGAIN, Reaction.STAND_DOWN))
_MOST_AGAIN: Final = 2
_WAYS: Final = {
    Reaction.ANOTHER_PLAN: "investigate",
    Reaction.LOOK_AGAIN: "investigate",
    Reaction.WAIT: "investigate",
    Reaction.STAND_DOWN: "investigate",
    Reaction.ESCALATE: "escalate",
    Reaction.ASK_AGAIN: "escalate",
}


class Acting:
    """Nodes that change the service, and verify that the change helped."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._survey = Surveying(world)
        self._verifying = Verifying(world)
        self._undoing = Undoing(world)

    async def execute(self, state: IncidentState) -> IncidentState:
        """Execute the last plan once, if it is still allowed.

        The act is stored before it is requested, and every retry uses the same idempotency key.
        """
        world = self._world
        plan = Plan.model_validate(state["action_plan"][-1])
        known = await self._known(self._key(state, plan))
        before = self._last_before(state, known)
        if known is not None and known.status is not ActStatus.ASKED:
            # The act was finished before this process was restarted, or the server has confirmed that it was never begun.
            return {**self._over(state, known), "again": self._once_more(state, known), "before": before}
        objection = await self._objection(state, plan)
        if objection is not None:
            return objection
        asked = await self._written_down(state, plan)
        if not isinstance(asked, ActRecord):
            return asked
        try:
            record = await world.actions.execute(
                plan.action,
                plan.parameters,
                key=asked.key,
                state_digest=state.get("state_digest"),
                may_ask=lambda: self._may_ask(asked),
            )
        except OutcomeUnknownError as error:
            return {"way": "escalate", "reason": str(error), "before": before}
        except ActionServerError as error:
            return await self._refused(state, asked, error)
        act = await self._finished(asked, record.act_status, record=record, error=record.error)
        return {**self._over(state, act), "before": before}

    def _last_before(self, state: IncidentState, known: ActRecord | None) -> dict[str, Any]:
        """Return the last poll before the act, as JSON; polls after an earlier request of the act already show its effects."""
        polls = self._world.watch.feed.polls
        if known is not None:
            polls = [poll for poll in polls if poll.at_us <= known.asked_at]
        return dump_poll(polls[-1]) if polls else state["symptoms"]

    async def _refused(self, state: IncidentState, act: ActRecord, error: ActionServerError) -> IncidentState:
        """Record that an act was refused, and return the next node; after a temporary reason the act may be planned again."""
        act = await self._finished(act, ActStatus.REFUSED, error=str(error))
        results = [*state.get("execution_results", []), act.model_dump(mode="json")]
        again = state.get("again", [])
        if error.reaction in _OF_THE_MOMENT and len(again) < _MOST_AGAIN:
            again = self._once_more(state, act)
            await self._world.pause(self._world.settings.wait_s)
        return {
            "way": _WAYS[error.reaction],  # type: ignore[typeddict-item]
            "reason": str(error),
            "execution_results": results,
            "again": again,
            "before": {},
        }

    def _once_more(self, state: IncidentState, act: ActRecord) -> list[str]:
        """Return the keys of acts that may be planned again; add a refused act if there are fewer than `_MOST_AGAIN`."""
        again = state.get("again", [])
        return [*again, act.key] if act.status is ActStatus.REFUSED and len(again) < _MOST_AGAIN else again

    async def verify(self, state: IncidentState) -> IncidentState:
        """Watch the polls until the act is verified, mitigated, failed or made things worse, and record the effect."""
        world = self._world
        plan = Plan.model_validate(state["action_plan"][-1])
        key = self._key(state, plan)
        act = await world.blocking(world.log.acts.get, key)
        book = next((book for book in await world.runbooks() if book.cause == plan.cause), None)
        if act.effect is Effect.WORSE:
            # The rollback had begun before this process was restarted, so new polls may show the rollback's effect.
            found = Verification(Outcome.WORSE, f"{act.action} has made it worse.")
        else:
            found = await self._seen_through(state, plan, act, book)
        act = await world.blocking(world.log.acts.get, key)
        came_back = found.outcome is Outcome.FAILED and act.effect is Effect.VERIFIED
        if not came_back:
            effect, now_us = _EFFECTS[found.outcome], world.clock.now_us()
            act = await world.blocking(world.log.acts.note_effect, key, effect, at_us=now_us)
        results = [*state.get("execution_results", [])[:-1], act.model_dump(mode="json")]
        content = {"outcome": found.outcome.value, "well_s": found.well_s}
        told = NewEvent("verified", found.reason, content, once=f"verified.{act.key}.{found.outcome.value}")
        await world.tell(state["incident_id"], Phase.VERIFY, told)
        changed: IncidentState = {"execution_results": results, "reason": found.reason, "before": {}}
        if found.outcome is Outcome.VERIFIED:
            return {**changed, "way": "learn", "is_resolved": True}
        if found.outcome is Outcome.MITIGATED:
            # Keep the diagnosis: the remaining latency is not a sign of another cause, and a person decides about it.
            return {**changed, "way": "escalate", "is_resolved": False, "reason": f"Mitigated: {found.reason}"}
        if found.outcome is Outcome.WORSE and plan.undo is not None and act.record_id is not None:
            await self._undoing.take_back(state, plan, act, f"{act.action} has made it worse.")
        if came_back and len(again := state.get("again", [])) < _MOST_AGAIN:
            # The act helped while it was in force, so it may be planned again.
            changed["again"] = [*again, key]
        return {**changed, "way": "investigate", "is_resolved": False}

    async def _seen_through(
        self, state: IncidentState, plan: Plan, act: ActRecord, book: Runbook | None
    ) -> Verification:
        """Return the result of an act; if it sheds load, roll it back once the load has fallen, and verify again."""
        world, sheds = self._world, book is not None and book.sheds
        before, facts = load_poll(state["before"]), load_known(state.get("known", {})).facts
        # Skip the first verification if the act was already verified before this process was restarted.
        if not (sheds and act.effect is Effect.VERIFIED):
            found = await self._verifying.watched(act, before, book, facts)
            if found.outcome is not Outcome.VERIFIED or not sheds or plan.undo is None or act.record_id is None:
                return found
            now_us = world.clock.now_us()
            act = await world.blocking(world.log.acts.note_effect, act.key, Effect.VERIFIED, at_us=now_us)
        lifted = await self._undoing.take_back(state, plan, act, "No more come than can be served.")
        if lifted is None:
            return Verification(Outcome.VERIFIED, f"{act.action} has helped, and stays in force.")
        found = await self._verifying.without_limits(lifted, world.watch.feed.latest or before, book, facts)
        if found.outcome is Outcome.VERIFIED:
            return found
        return Verification(Outcome.FAILED, f"Without {act.action} it came back: {found.reason}", found.well_s)

    async def _may_ask(self, act: ActRecord) -> bool:
        """Return whether an act may be requested once more.

        False if meanwhile the responder was paused, the act was rejected, the incident was closed, or the lease was lost.
        """
        try:
            await self._world.blocking(self._world.log.acts.put, act, lease=self._world.watch.lease)
        except (PausedError, RejectedError, LoopLostError, IncidentOverError):
            return False
        return True

    async def _known(self, key: str) -> ActRecord | None:
        """Return the stored act with a key, after updating an unsettled one from the server; None if there is no such act."""
        world = self._world
        try:
            act = await world.blocking(world.log.acts.get, key)
        except ActNotFoundError:
            return None
        if act.status is not ActStatus.ASKED:
            return act
        try:
            return await self._survey.settled(act)
        except ActionServerError:
            # Decide about the request as if it were the first one; the key is the same, so it is still done only once.
            return act

    async def _objection(self, state: IncidentState, plan: Plan) -> IncidentState | None:
        """Return the changes of the state if the plan may not be executed any more; None if it still may."""
        world = self._world
        approval_id = state.get("approval_id")
        if by := await self._rejected_by(state, plan):
            return {"way": "escalate", "reason": f"{plan.action} was rejected by {by}.", "before": {}}
        if approval_id:
            request, decision = await world.blocking(world.log.approvals.get, approval_id)
            found = standing(
                request, decision, plan=plan, state_digest=state.get("state_digest"), now_us=world.clock.now_us()
            )
            if found is not Standing.APPROVED:
                return await self._not_asked(state, plan, f"The approval of {plan.action} is {found.value}.")
        try:
            ruling = await self._survey.ruling(
                state, plan, is_approved=bool(approval_id), leave_out=self._key(state, plan)
            )
        except ActionServerError as error:
            # Nothing was requested: the node `plan` waits for the server, for a limited number of times.
            return await self._not_asked(state, plan, str(error))
        return None if ruling.is_allowed else await self._not_asked(state, plan, ruling.reason)

    async def _rejected_by(self, state: IncidentState, plan: Plan) -> str | None:
        """Return who has rejected this action on this part in any question of the incident, also a withdrawn one."""
        asked = await self._world.blocking(self._world.log.approvals.of_incident, state["incident_id"])
        return rejecter_of(asked, plan.action, plan.target)

    async def _not_asked(self, state: IncidentState, plan: Plan, reason: str) -> IncidentState:
        told = NewEvent("not_asked", f"{plan.action} is not asked for: {reason}", {"attempt": state["attempt"]})
        await self._world.tell(state["incident_id"], Phase.EXECUTE, told)
        return {"way": "investigate", "reason": reason, "approval_id": None, "before": {}}

    async def _written_down(self, state: IncidentState, plan: Plan) -> ActRecord | IncidentState:
        """Store the act before it is requested; if it was paused or rejected meanwhile, return the changes of the state."""
        world, decision = self._world, None
        if state.get("approval_id"):
            _, decision = await world.blocking(world.log.approvals.get, str(state["approval_id"]))
        act = ActRecord(
            key=self._key(state, plan),
            incident_id=state["incident_id"],
            attempt=state["attempt"],
            action=plan.action,
            action_class=plan.action_class,
            blast_radius=plan.blast_radius,
            target=plan.target,
            parameters=plan.parameters,
            cause=plan.cause,
            why=plan.why,
            asked_at=world.clock.now_us(),
            state_digest=state.get("state_digest"),
            approved_by=None if decision is None else decision.by,
        )
        try:
            put = await world.blocking(world.log.acts.put, act, lease=world.watch.lease)
        except PausedError as error:
            return await self._not_asked(state, plan, str(error))
        except RejectedError as error:
            return {"way": "escalate", "reason": error.message, "before": {}}
        await world.tell(state["incident_id"], Phase.EXECUTE)
        return put.act

    async def _finished(
        self, act: ActRecord, status: ActStatus, *, record: ServerRecord | None = None, error: str | None = None
    ) -> ActRecord:
        return await self._world.blocking(
            self._world.log.acts.finish,
            act.key,
            status,
            at_us=self._world.clock.now_us(),
            record_id=None if record is None else record.record_id,
            error=error,
        )

    def _over(self, state: IncidentState, act: ActRecord) -> IncidentState:
        """Return the changes of the state after an act: verify it if it succeeded, otherwise investigate again."""
        results = [*state.get("execution_results", []), act.model_dump(mode="json")]
        if act.status is ActStatus.SUCCEEDED:
            return {"way": "verify", "execution_results": results}
        reason = f"{act.action} did not succeed: {act.error or act.status.value}."
        return {"way": "investigate", "execution_results": results, "reason": reason}

    def _key(self, state: IncidentState, plan: Plan) -> str:
        return idempotency_key(state["incident_id"], state["attempt"], plan.action)
