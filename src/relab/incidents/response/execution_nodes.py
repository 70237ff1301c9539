"""The graph's nodes `execute` and `verify`: execute an action, and verify its effect."""

from __future__ import annotations

from typing import Any, Final

from relab.incidents.actions.approvals import ApprovalState, approval_state, rejected_by
from relab.incidents.actions.errors import ActionServerError, OutcomeUnknownError, Reaction
from relab.incidents.actions.planning import ActionPlan
from relab.incidents.actions.records import ActionRecord, ActionStatus, RepairResult, ServerRecord, idempotency_key
from relab.incidents.actions.verification_models import VerificationResult
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.rollback import Rollback
from relab.incidents.response.situation import SituationReader
from relab.incidents.response.state import IncidentState, dump_poll, load_known, load_poll
from relab.incidents.response.verification_loop import VerificationLoop
from relab.incidents.storage.errors import (
    ActionNotFoundError,
    ActionRejectedError,
    IncidentOverError,
    LeaseLostError,
    PausedError,
)
from relab.incidents.storage.models import NewEvent, Phase
from relab.knowledge.models import Runbook

_OF_THE_MOMENT: Final = frozenset((Reaction.WAIT, Reaction.DIAGNOSE_AGAIN, Reaction.STAND_DOWN))
_MAX_REPEATS: Final = 2
_WAYS: Final = {
    Reaction.ANOTHER_PLAN: "investigate",
    Reaction.DIAGNOSE_AGAIN: "investigate",
    Reaction.WAIT: "investigate",
    Reaction.STAND_DOWN: "investigate",
    Reaction.ESCALATE: "escalate",
    Reaction.ASK_AGAIN: "escalate",
}


class ExecutionNodes:
    """The nodes of the incident workflow that execute an action, and verify that the action helped.

    Each node takes the state of the workflow, and returns the keys of this state that it changes, with their values.
    """

    def __init__(self, world: ResponseContext) -> None:
        self._world = world
        self._survey = SituationReader(world)
        self._verifying = VerificationLoop(world)
        self._undoing = Rollback(world)

    async def execute(self, state: IncidentState) -> IncidentState:
        """Execute the last plan once, if it is still allowed.

        The action is stored before it is requested, and every retry uses the same idempotency key.
        """
        world = self._world
        plan = ActionPlan.model_validate(state["action_plan"][-1])
        known = await self._known(self._key(state, plan))
        before = self._last_before(state, known)
        if known is not None and known.status is not ActionStatus.ASKED:
            # The action was finished before this process was restarted, or the server has confirmed that it was never begun.
            return {**self._over(state, known), "again": self._once_more(state, known), "before": before}
        objection = await self._objection(state, plan)
        if objection is not None:
            return objection
        asked = await self._written_down(state, plan)
        if not isinstance(asked, ActionRecord):
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
        act = await self._finished(asked, record.status, record=record, error=record.error)
        return {**self._over(state, act), "before": before}

    def _last_before(self, state: IncidentState, known: ActionRecord | None) -> dict[str, Any]:
        """Return, as JSON, the last poll before the action was requested; the newest poll if it was not requested yet.

        If memory has no such poll, return `state["symptoms"]`, the poll that the node `monitor` stored last.

        Args:
            state: the state of the incident workflow.
            known: the stored record of the action; None if the action was not requested yet.
        """
        polls = self._world.watch.feed.polls
        if known is not None:
            polls = [poll for poll in polls if poll.at_us <= known.asked_at]
        return dump_poll(polls[-1]) if polls else state["symptoms"]

    async def _refused(self, state: IncidentState, act: ActionRecord, error: ActionServerError) -> IncidentState:
        """Store that the action server refused an action, and return the changed keys of the state.

        If the reason is temporary, wait `server_retry_s` seconds and allow the action to be planned again. This happens
        at most `_MAX_REPEATS` times in an incident.
        """
        act = await self._finished(act, ActionStatus.REFUSED, error=str(error))
        again = state.get("again", [])
        is_refused = error.reaction in {Reaction.ANOTHER_PLAN, Reaction.DIAGNOSE_AGAIN}
        if error.reaction in _OF_THE_MOMENT and len(again) < _MAX_REPEATS:
            again = self._once_more(state, act)
            await self._world.pause(self._world.settings.server_retry_s)
        return {
            "way": _WAYS[error.reaction],  # type: ignore[typeddict-item]
            "reason": str(error),
            "execution_results": _with_key(state, act),
            "again": again,
            "before": {},
            "refused_cause": act.cause if is_refused and state.get("is_confirmed") else "",
        }

    def _once_more(self, state: IncidentState, act: ActionRecord) -> list[str]:
        """Return the state's list `again`: the idempotency keys of the incident's actions that may be planned again.

        The key of `act` is added if the action server refused `act` and the list has fewer than `_MAX_REPEATS` keys.
        """
        again = state.get("again", [])
        return [*again, act.key] if act.status is ActionStatus.REFUSED and len(again) < _MAX_REPEATS else again

    async def verify(self, state: IncidentState) -> IncidentState:
        """Wait until polls and probes show what the last action has achieved, and store its effect.

        If the action made the service worse, roll it back.
        """
        world = self._world
        plan = ActionPlan.model_validate(state["action_plan"][-1])
        key = self._key(state, plan)
        act = await world.blocking(world.log.actions.get, key)
        book = next((book for book in await world.runbooks() if book.cause == plan.cause), None)
        if act.effect is RepairResult.WORSE:
            # The rollback had begun before this process was restarted, so new polls may show the rollback's effect.
            found = VerificationResult(RepairResult.WORSE, f"{act.action} has made it worse.")
        else:
            found = await self._seen_through(state, plan, act, book)
        act = await world.blocking(world.log.actions.get, key)
        came_back = found.result is RepairResult.FAILED and act.effect is RepairResult.VERIFIED
        if not came_back:
            effect, now_us = found.result.as_effect, world.clock.now_us()
            act = await world.blocking(world.log.actions.note_effect, key, effect, at_us=now_us)
        content = {"outcome": found.result.value, "well_s": found.well_s}
        new_event = NewEvent("verified", found.reason, content, once=f"verified.{act.key}.{found.result.value}")
        await world.append_events(state["incident_id"], Phase.VERIFY, new_event)
        changed: IncidentState = {"reason": found.reason, "before": {}}
        if found.result is RepairResult.VERIFIED:
            return {**changed, "way": "learn", "is_resolved": True}
        if found.result is RepairResult.MITIGATED:
            # Keep the diagnosis: the remaining latency is not a sign of another cause, and a person decides about it.
            said = f"Mitigated: {found.reason}"
            if found.lacks_traffic:
                said = f"{act.action} was done. {found.reason} {_to_verify(act.incident_id)}"
            return {**changed, "way": "escalate", "is_resolved": False, "reason": said}
        if found.result is RepairResult.WORSE and plan.undo is not None and act.record_id is not None:
            await self._undoing.take_back(state, plan, act, f"{act.action} has made it worse.")
        if came_back and len(again := state.get("again", [])) < _MAX_REPEATS:
            # The action helped while it was in force, so it may be planned again.
            changed["again"] = [*again, key]
        return {**changed, "way": "investigate", "is_resolved": False}

    async def _seen_through(
        self, state: IncidentState, plan: ActionPlan, act: ActionRecord, book: Runbook | None
    ) -> VerificationResult:
        """Wait until the result of the action `act` is certain, and return it.

        An action that sheds load makes the service reject some requests. After such an action has helped, this method
        rolls it back when the service can serve the whole load, and verifies that the service stays healthy without it.

        Args:
            state: the state of the incident workflow.
            plan: the plan that the action executed.
            act: the action.
            book: the runbook of the action; None if there is none.
        """
        world, sheds = self._world, book is not None and book.sheds
        before, facts = load_poll(state["before"]), load_known(state.get("known", {})).facts
        # Skip the first verification if the action was already verified before this process was restarted.
        if not (sheds and act.effect is RepairResult.VERIFIED):
            found = await self._verifying.watched(act, before, book, facts)
            if found.result is not RepairResult.VERIFIED or not sheds or plan.undo is None or act.record_id is None:
                return found
            now_us = world.clock.now_us()
            act = await world.blocking(world.log.actions.note_effect, act.key, RepairResult.VERIFIED, at_us=now_us)
        lifted = await self._undoing.take_back(state, plan, act, "The load can be served again.")
        if lifted is None:
            return VerificationResult(RepairResult.VERIFIED, f"{act.action} has helped, and stays in force.")
        found = await self._verifying.without_limits(lifted, world.watch.feed.latest or before, book, facts)
        if found.result is RepairResult.VERIFIED:
            return found
        return VerificationResult(
            RepairResult.FAILED, f"Without {act.action} it came back: {found.reason}", found.well_s
        )

    async def _may_ask(self, act: ActionRecord) -> bool:
        """Return whether the stored action `act` may still be requested from the action server.

        Return False if a person has paused the responder, rejected the action or ended the incident, or if this process
        has lost its lease.
        """
        try:
            await self._world.blocking(self._world.log.actions.put, act, lease=self._world.watch.lease)
        except (PausedError, ActionRejectedError, LeaseLostError, IncidentOverError):
            return False
        return True

    async def _known(self, key: str) -> ActionRecord | None:
        """Return the stored action with the idempotency key `key`; None if no action has this key.

        If the stored action has no outcome yet, the outcome is first read from the action server. If the server cannot
        be read or has no outcome yet, the action is returned without one.
        """
        world = self._world
        try:
            act = await world.blocking(world.log.actions.get, key)
        except ActionNotFoundError:
            return None
        if act.status is not ActionStatus.ASKED:
            return act
        try:
            return await self._survey.settled(act)
        except ActionServerError:
            # Decide about the request as if it were the first one; the key is the same, so it is still done only once.
            return act

    async def _objection(self, state: IncidentState, plan: ActionPlan) -> IncidentState | None:
        """Check whether a plan may still be executed.

        Return None if it may. Otherwise return the keys of the state to change: `way`, the next node, `reason`, why the
        plan may not be executed, and others.
        """
        world = self._world
        approval_id = state.get("approval_id")
        if by := await self._rejected_by(state, plan):
            return {"way": "escalate", "reason": f"{plan.action} was rejected by {by}.", "before": {}}
        if approval_id:
            request, decision = await world.blocking(world.log.approvals.get, approval_id)
            found = approval_state(
                request, decision, plan=plan, state_digest=state.get("state_digest"), now_us=world.clock.now_us()
            )
            if found is not ApprovalState.APPROVED:
                return await self._not_asked(state, plan, f"The approval of {plan.action} {found.words}.")
        try:
            ruling = await self._survey.ruling(
                state, plan, is_approved=bool(approval_id), leave_out=self._key(state, plan)
            )
        except ActionServerError as error:
            # Nothing was requested: the node `plan` waits for the server, for a limited number of times.
            return await self._not_asked(state, plan, str(error))
        return None if ruling.is_allowed else await self._not_asked(state, plan, ruling.reason)

    async def _rejected_by(self, state: IncidentState, plan: ActionPlan) -> str | None:
        """Return the name of the person who rejected the plan's action on the plan's target; None if no person did.

        All approval requests of the incident count, including withdrawn requests.
        """
        asked = await self._world.blocking(self._world.log.approvals.of_incident, state["incident_id"])
        return rejected_by(asked, plan.action, plan.target)

    async def _not_asked(self, state: IncidentState, plan: ActionPlan, reason: str) -> IncidentState:
        new_event = NewEvent("not_asked", f"{plan.action} is not requested: {reason}", {"attempt": state["attempt"]})
        await self._world.append_events(state["incident_id"], Phase.EXECUTE, new_event)
        return {"way": "investigate", "reason": reason, "approval_id": None, "before": {}}

    async def _written_down(self, state: IncidentState, plan: ActionPlan) -> ActionRecord | IncidentState:
        """Store the action of a plan before the action is requested, and return the action's record.

        If a person has paused the responder or rejected the action, return the changed keys of the state instead.

        Raises:
            IncidentOverError: the incident is over.
            LeaseLostError: another process has acquired the lease of the target.
        """
        world, decision = self._world, None
        if state.get("approval_id"):
            _, decision = await world.blocking(world.log.approvals.get, str(state["approval_id"]))
        act = ActionRecord(
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
            put = await world.blocking(world.log.actions.put, act, lease=world.watch.lease)
        except PausedError as error:
            return await self._not_asked(state, plan, str(error))
        except ActionRejectedError as error:
            return {"way": "escalate", "reason": error.message, "before": {}}
        await world.append_events(state["incident_id"], Phase.EXECUTE)
        return put.act

    async def _finished(
        self, act: ActionRecord, status: ActionStatus, *, record: ServerRecord | None = None, error: str | None = None
    ) -> ActionRecord:
        return await self._world.blocking(
            self._world.log.actions.finish,
            act.key,
            status,
            at_us=self._world.clock.now_us(),
            record_id=None if record is None else record.record_id,
            error=error,
        )

    def _over(self, state: IncidentState, act: ActionRecord) -> IncidentState:
        """Return the changed keys of the state after the action `act` has ended.

        The next node is `verify` if the action succeeded, otherwise `investigate`.
        """
        results = _with_key(state, act)
        if act.status is ActionStatus.SUCCEEDED:
            return {"way": "verify", "execution_results": results}
        reason = f"{act.action} did not succeed: {act.error or act.status.value}."
        return {"way": "investigate", "execution_results": results, "reason": reason}

    def _key(self, state: IncidentState, plan: ActionPlan) -> str:
        return idempotency_key(state["incident_id"], state["attempt"], plan.action)


def _to_verify(incident_id: str) -> str:
    """Return an instruction for people, for the case that too few requests arrive to verify a repair."""
    return (
        "Send requests to the service, or simulate users: once they are served well, the incident ends by itself. "
        f"If the service has no users, end the incident: lab incidents close {incident_id} --note WHAT_WAS_CHECKED"
    )


def _with_key(state: IncidentState, act: ActionRecord) -> list[str]:
    return [*state.get("execution_results", []), act.key]
