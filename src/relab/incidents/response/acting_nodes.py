"""The act and what comes of it: the nodes execute and verify."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from relab.incidents.acting.approvals import Standing, rejecter_of, standing
from relab.incidents.acting.errors import ActionServerError, OutcomeUnknownError, Reaction
from relab.incidents.acting.planning import Plan
from relab.incidents.acting.policy import Ruling
from relab.incidents.acting.records import ActRecord, ActStatus, Effect, ServerRecord, idempotency_key
from relab.incidents.acting.verification import Course, Outcome, Verification, verify
from relab.incidents.diagnosis.investigation import FIRST_LOOKS
from relab.incidents.looks.catalogue import looks_for
from relab.incidents.models import Snapshot
from relab.incidents.response.state import IncidentState, dump_poll, load_poll
from relab.incidents.response.surveying import Surveying
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

_US: Final = 1_000_000
_EFFECTS: Final = {Outcome.VERIFIED: Effect.VERIFIED, Outcome.FAILED: Effect.FAILED, Outcome.WORSE: Effect.WORSE}
_OF_THE_MOMENT: Final = frozenset((Reaction.WAIT, Reaction.LOOK_AGAIN, Reaction.STAND_DOWN))
_MOST_AGAIN: Final = 2
_MOST_POLLS: Final = 1_000
_WAYS: Final = {
    Reaction.ANOTHER_PLAN: "investigate",
    Reaction.LOOK_AGAIN: "investigate",
    Reaction.WAIT: "investigate",
    Reaction.STAND_DOWN: "investigate",
    Reaction.ESCALATE: "escalate",
    Reaction.ASK_AGAIN: "escalate",
}


class Acting:
    """Nodes that change the world, and look whether it is better for it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._survey = Surveying(world)

    async def execute(self, state: IncidentState) -> IncidentState:
        """Have the plan done once, if it may still be done.

        It is written down before it is asked for, and asked for again with the same key.
        """
        world = self._world
        plan = Plan.model_validate(state["action_plan"][-1])
        known = await self._known(self._key(state, plan))
        before = self._last_before(state, known)
        if known is not None and known.status is not ActStatus.ASKED:
            # It was done before a restart of ours, or is known now never to have been begun.
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
        """Return the last poll before the act: of one that was asked for already, what came after it tells of its effects."""
        polls = self._world.watch.feed.polls
        if known is not None:
            polls = [poll for poll in polls if poll.at_us <= known.asked_at]
        return dump_poll(polls[-1]) if polls else state["symptoms"]

    async def _refused(self, state: IncidentState, act: ActRecord, error: ActionServerError) -> IncidentState:
        """Return where an act leads that was not begun; where only the moment was wrong it may be planned once more."""
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
        """Return the keys of acts that may be planned once more, with this one if it was not begun; not without an end."""
        again = state.get("again", [])
        return [*again, act.key] if act.status is ActStatus.REFUSED and len(again) < _MOST_AGAIN else again

    async def verify(self, state: IncidentState) -> IncidentState:
        """Watch until users are served well and the cause is gone, or until it has failed, or made things worse."""
        world = self._world
        plan = Plan.model_validate(state["action_plan"][-1])
        key = self._key(state, plan)
        act = await world.blocking(world.log.acts.get, key)
        book = next((book for book in await world.runbooks() if book.cause == plan.cause), None)
        if act.effect is Effect.WORSE:
            # It was being taken back before a restart of ours: what is seen by now may be due to that.
            found = Verification(Outcome.WORSE, f"{act.action} has made it worse.")
        else:
            found = await self._watched(state, act, book)
        act = await world.blocking(world.log.acts.note_effect, key, _EFFECTS[found.outcome], at_us=world.clock.now_us())
        results = [*state.get("execution_results", [])[:-1], act.model_dump(mode="json")]
        content = {"outcome": found.outcome.value, "well_s": found.well_s}
        told = NewEvent("verified", found.reason, content, once=f"verified.{act.key}.{found.outcome.value}")
        await world.tell(state["incident_id"], Phase.VERIFY, told)
        changed: IncidentState = {"execution_results": results, "reason": found.reason, "before": {}}
        if found.outcome is Outcome.VERIFIED:
            return {**changed, "way": "learn", "is_resolved": True}
        if found.outcome is Outcome.WORSE and plan.undo is not None and act.record_id is not None:
            await self._take_back(state, plan, act)
        return {**changed, "way": "investigate", "is_resolved": False}

    async def _may_ask(self, act: ActRecord) -> bool:
        """Return whether an act may be asked for once more: nobody has paused meanwhile, said no, ended it, or taken the loop over."""
        try:
            await self._world.blocking(self._world.log.acts.put, act, lease=self._world.watch.lease)
        except (PausedError, RejectedError, LoopLostError, IncidentOverError):
            return False
        return True

    async def _known(self, key: str) -> ActRecord | None:
        """Return the act with a key if it was written down before a restart of ours; what became of it is asked first."""
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
            # Whether it is asked for once more is decided as if it had never been; the key is the same.
            return act

    async def _objection(self, state: IncidentState, plan: Plan) -> IncidentState | None:
        """Return where it leads if the plan may not be executed any more: much may have happened since it was made."""
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
            # Nothing was asked for: the next plan waits for the server, and not without an end.
            return await self._not_asked(state, plan, str(error))
        return None if ruling.is_allowed else await self._not_asked(state, plan, ruling.reason)

    async def _rejected_by(self, state: IncidentState, plan: Plan) -> str | None:
        """Return who has rejected this action on this part in any question of the incident, also in a withdrawn one."""
        asked = await self._world.blocking(self._world.log.approvals.of_incident, state["incident_id"])
        return rejecter_of(asked, plan.action, plan.target)

    async def _not_asked(self, state: IncidentState, plan: Plan, reason: str) -> IncidentState:
        told = NewEvent("not_asked", f"{plan.action} is not asked for: {reason}", {"attempt": state["attempt"]})
        await self._world.tell(state["incident_id"], Phase.EXECUTE, told)
        return {"way": "investigate", "reason": reason, "approval_id": None, "before": {}}

    async def _written_down(self, state: IncidentState, plan: Plan) -> ActRecord | IncidentState:
        """Store the act before it is asked for; where somebody has said no meanwhile, return where that leads."""
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
        """Return where an act that is over leads: to see what came of it, if it was done at all."""
        results = [*state.get("execution_results", []), act.model_dump(mode="json")]
        if act.status is ActStatus.SUCCEEDED:
            return {"way": "verify", "execution_results": results}
        reason = f"{act.action} did not succeed: {act.error or act.status.value}."
        return {"way": "investigate", "execution_results": results, "reason": reason}

    def _key(self, state: IncidentState, plan: Plan) -> str:
        return idempotency_key(state["incident_id"], state["attempt"], plan.action)

    async def _watched(self, state: IncidentState, act: ActRecord, book: Runbook | None) -> Verification:
        world, settings = self._world, self._world.settings.verification
        ended_us = act.finished_at or act.asked_at
        mended, sheds = ((), False) if book is None else (book.mended, book.sheds)
        course = Course(act.asked_at, ended_us, load_poll(state["before"]), [], mended=mended, sheds=sheds)
        contained_at_us: int | None = None
        looks = looks_for(condition.fact for condition in mended) or list(FIRST_LOOKS)
        number, polls = world.watch.feed.number, list[Snapshot]()
        while True:
            polls.extend(await world.watch.feed.after(number))
            number = world.watch.feed.number
            if (await world.blocking(world.log.get, state["incident_id"])).is_over:
                raise IncidentOverError(state["incident_id"])
            # Visitors may stay for a day.
            polls = polls[-_MOST_POLLS:]
            course = replace(course, polls=polls, stale=frozenset(world.watch.stale))
            found = verify(course, world.bounds(), settings)
            if sheds and found.outcome is Outcome.VERIFIED:
                # Those who are let in are served; it is over when nobody is turned away any more.
                all_of_it = verify(replace(course, sheds=False), world.bounds(), settings)
                if all_of_it.outcome is Outcome.VERIFIED:
                    return all_of_it
                if contained_at_us is None:
                    await self._tell_contained(state, act)
                contained_at_us = polls[-1].at_us
            elif found.outcome is not Outcome.NOT_YET:
                # A slow moment of those who are let in is not the end of it.
                patience_us = int(settings.patience_s * _US)
                is_moment = contained_at_us is not None and 0 <= polls[-1].at_us - contained_at_us < patience_us
                if not is_moment:
                    return found
            if mended and self._is_time_to_look(course, found, is_contained=contained_at_us is not None):
                at_us = world.clock.now_us()
                seen = await world.take(looks)
                course = replace(course, facts=seen.facts, facts_at_us=at_us)

    async def _tell_contained(self, state: IncidentState, act: ActRecord) -> None:
        said = f"Those who are let in are served well after {act.action}; others are refused as long as too many come."
        told = NewEvent("contained", said, {"key": act.key}, once=f"contained.{act.key}")
        await self._world.tell(state["incident_id"], Phase.VERIFY, told)

    def _is_time_to_look(self, course: Course, found: Verification, *, is_contained: bool) -> bool:
        """Whether the cause should be looked for: as users are about to be well for long enough, and when it should be gone."""
        settings, now_us = self._world.settings.verification, self._world.clock.now_us()
        since_us = now_us - (course.facts_at_us or 0)
        between_s = 2 * settings.poll_interval_s
        if is_contained:
            # That may last for a day, and each look is written down.
            between_s = max(between_s, settings.patience_s / 2)
        if 0 <= since_us < between_s * _US:
            return False
        is_late = now_us - course.ended_at_us >= settings.cause_patience_s * _US
        return is_late or found.well_s >= settings.sustained_s - 2 * settings.poll_interval_s

    async def _take_back(self, state: IncidentState, plan: Plan, act: ActRecord) -> None:
        """Undo an act after which things were worse; if that cannot be done, a person reads so in the timeline."""
        world = self._world
        try:
            ruling = await self._ruling_of_undo(state, plan, act)
            if not ruling.is_allowed:
                await self._not_undone(state, act, f"{ruling.reason} {ruling.remedy}")
                return
            undo = await self._undo_written_down(act)
        except (ActionServerError, PausedError) as error:
            # Nothing was asked for.
            await self._not_undone(state, act, str(error))
            return
        if undo.status is ActStatus.ASKED:
            undo = await self._undone(undo)
        if undo.status is ActStatus.SUCCEEDED:
            await world.blocking(world.log.acts.finish, act.key, ActStatus.UNDONE, at_us=world.clock.now_us())
            return
        await self._not_undone(state, act, undo.error or "nobody knows yet whether it was.")

    async def _ruling_of_undo(self, state: IncidentState, plan: Plan, act: ActRecord) -> Ruling:
        """Return whether an act may be taken back; what made things worse may keep the server from saying so for a while.

        Raises:
            ActionServerError: it does not say, for longer than is waited for a plan.
        """
        world = self._world
        for left in reversed(range(world.settings.most_waits + 1)):
            try:
                return await self._survey.ruling(state, plan, is_undo=True, leave_out=self._undo_key(act))
            except ActionServerError as error:
                # Looking is all that was asked for, so that nothing is unknown where an answer was lost.
                if error.reaction not in {Reaction.WAIT, Reaction.ASK_AGAIN} or not left:
                    raise
                await world.pause(world.settings.wait_s)
        raise AssertionError("the last try returns or raises")

    async def _undone(self, undo: ActRecord) -> ActRecord:
        """Have an act taken back, and return what came of that."""
        assert undo.undoes is not None
        try:
            record = await self._world.actions.undo(undo.undoes)
        except OutcomeUnknownError:
            # It is settled before anything else is done.
            return undo
        except ActionServerError as error:
            return await self._finished(undo, ActStatus.REFUSED, error=str(error))
        return await self._finished(undo, record.act_status, record=record, error=record.error)

    async def _undo_written_down(self, act: ActRecord) -> ActRecord:
        """Store that an act is to be taken back, before it is asked for; the server does that once, whoever asks."""
        undo = act.model_copy(
            update={
                "key": self._undo_key(act),
                "undoes": act.record_id,
                "asked_at": self._world.clock.now_us(),
                "why": f"{act.action} has made it worse.",
                "status": ActStatus.ASKED,
                "record_id": None,
                "error": None,
                "finished_at": None,
                "effect": None,
            }
        )
        put = await self._world.blocking(self._world.log.acts.put, undo, lease=self._world.watch.lease)
        return put.act

    async def _not_undone(self, state: IncidentState, act: ActRecord, reason: str) -> None:
        told = NewEvent("not_undone", f"{act.action} could not be taken back: {reason}", {"key": act.key})
        await self._world.tell(state["incident_id"], Phase.VERIFY, told)

    def _undo_key(self, act: ActRecord) -> str:
        return idempotency_key(act.incident_id, act.attempt, f"undo {act.action}")
