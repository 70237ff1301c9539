"""The act and what comes of it: the nodes execute and verify."""

from __future__ import annotations

from typing import Final

from relab.incidents.acting.errors import ActionServerError, OutcomeUnknownError, Reaction
from relab.incidents.acting.planning import Plan
from relab.incidents.acting.records import ActRecord, ActStatus, Effect, ServerRecord, idempotency_key
from relab.incidents.acting.verification import Course, Outcome, Verification, verify
from relab.incidents.diagnosis.investigation import FIRST_LOOKS
from relab.incidents.looks.catalogue import looks_for
from relab.incidents.models import Snapshot
from relab.incidents.response.state import IncidentState, dump_poll, load_poll
from relab.incidents.response.world import World
from relab.incidents.storage.models import NewEvent, Phase
from relab.knowledge.models import Condition

_US: Final = 1_000_000
_EFFECTS: Final = {Outcome.VERIFIED: Effect.VERIFIED, Outcome.FAILED: Effect.FAILED, Outcome.WORSE: Effect.WORSE}
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

    async def execute(self, state: IncidentState) -> IncidentState:
        """Have the plan done once. It is written down before it is asked for, and asked for again with the same key."""
        world = self._world
        plan = Plan.model_validate(state["action_plan"][-1])
        before = state.get("before") or dump_poll(world.watch.feed.latest or load_poll(state["symptoms"]))
        act = await self._written_down(state, plan)
        if act.status is not ActStatus.ASKED:
            # It was done before a restart of ours.
            return {**self._over(state, act), "before": before}
        try:
            record = await world.actions.execute(
                plan.action, plan.parameters, key=act.key, state_digest=state.get("state_digest")
            )
        except OutcomeUnknownError as error:
            return {"way": "escalate", "reason": str(error), "before": before}
        except ActionServerError as error:
            act = await self._finished(act, ActStatus.REFUSED, error=str(error))
            way = _WAYS[error.reaction]
            result = [*state.get("execution_results", []), act.model_dump(mode="json")]
            return {"way": way, "reason": str(error), "execution_results": result, "before": {}}  # type: ignore[typeddict-item]
        act = await self._finished(act, record.act_status, record=record, error=record.error)
        return {**self._over(state, act), "before": before}

    async def verify(self, state: IncidentState) -> IncidentState:
        """Watch until users are served well and the cause is gone, or until it has failed, or made things worse."""
        world = self._world
        plan = Plan.model_validate(state["action_plan"][-1])
        key = self._key(state, plan)
        act = await world.blocking(world.log.acts.get, key)
        mended = next((book.mended for book in await world.runbooks() if book.cause == plan.cause), ())
        found = await self._watched(state, act, mended)
        act = await world.blocking(world.log.acts.note_effect, key, _EFFECTS[found.outcome], at_us=world.clock.now_us())
        results = [*state.get("execution_results", [])[:-1], act.model_dump(mode="json")]
        told = NewEvent("verified", found.reason, {"outcome": found.outcome.value, "well_s": found.well_s})
        await world.tell(state["incident_id"], Phase.VERIFY, told)
        changed: IncidentState = {"execution_results": results, "reason": found.reason, "before": {}}
        if found.outcome is Outcome.VERIFIED:
            return {**changed, "way": "learn", "is_resolved": True}
        if found.outcome is Outcome.WORSE and plan.undo is not None and act.record_id is not None:
            await self._take_back(state, act)
        return {**changed, "way": "investigate", "is_resolved": False}

    async def _written_down(self, state: IncidentState, plan: Plan) -> ActRecord:
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
        put = await world.blocking(world.log.acts.put, act)
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

    async def _watched(self, state: IncidentState, act: ActRecord, mended: tuple[Condition, ...]) -> Verification:
        world, settings = self._world, self._world.settings.verification
        ended_us = act.finished_at or act.asked_at
        course = Course(act.asked_at, ended_us, load_poll(state["before"]), [], mended=mended)
        looks = looks_for(condition.fact for condition in mended) or list(FIRST_LOOKS)
        number, polls = world.watch.feed.number, list[Snapshot]()
        while True:
            polls.extend(await world.watch.feed.after(number))
            number = world.watch.feed.number
            course = Course(
                course.began_at_us, ended_us, course.before, polls, frozenset(world.watch.stale), mended,
                course.facts, course.facts_at_us,
            )  # fmt: skip
            found = verify(course, world.bounds(), settings)
            if found.outcome is not Outcome.NOT_YET:
                return found
            if mended and self._is_time_to_look(course, found):
                at_us = world.clock.now_us()
                seen = await world.take(looks)
                course = Course(
                    course.began_at_us, ended_us, course.before, polls, course.stale, mended, seen.facts, at_us
                )

    def _is_time_to_look(self, course: Course, found: Verification) -> bool:
        """Whether the cause should be looked for: as users are about to be well for long enough, and when it should be gone."""
        settings, now_us = self._world.settings.verification, self._world.clock.now_us()
        since_us = now_us - (course.facts_at_us or 0)
        if since_us < 2 * settings.poll_interval_s * _US:
            return False
        is_late = now_us - course.ended_at_us >= settings.cause_patience_s * _US
        return is_late or found.well_s >= settings.sustained_s - 2 * settings.poll_interval_s

    async def _take_back(self, state: IncidentState, act: ActRecord) -> None:
        """Undo an act after which things were worse; if that cannot be done, a person reads so in the timeline."""
        world = self._world
        assert act.record_id is not None
        try:
            record = await world.actions.undo(act.record_id)
        except ActionServerError as error:
            told = NewEvent("not_undone", f"{act.action} could not be taken back: {error}", {"key": act.key})
            await world.tell(state["incident_id"], Phase.VERIFY, told)
            return
        if record.act_status is ActStatus.SUCCEEDED:
            await self._finished(act, ActStatus.UNDONE, record=None)
            return
        message = f"{act.action} could not be taken back: {record.error or record.status.value}."
        await world.tell(state["incident_id"], Phase.VERIFY, NewEvent("not_undone", message, {"key": act.key}))
