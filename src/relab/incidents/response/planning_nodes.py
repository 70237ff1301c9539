"""The graph's nodes `plan` and `approve`: choose the next action, and get the approval that it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from langgraph.types import interrupt

from relab.core.clock import format_time
from relab.incidents.actions.approvals import MAX_UNANSWERED, ApprovalState, approval_request, approval_state
from relab.incidents.actions.catalogue import Catalogue
from relab.incidents.actions.errors import ActionServerBusyError, ActionServerError, Reaction
from relab.incidents.actions.planning import ActionPlan, Escalation, next_plan
from relab.incidents.actions.policy import Autonomy, Permission, PolicyRule, Ruling
from relab.incidents.actions.records import ActionRecord, ActionStatus, ExcludedAction, RepairResult
from relab.incidents.response.assessment_nodes import AssessmentNodes, was_sure
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.news import NEWS, state_after_news, unused_news
from relab.incidents.response.recovery import PASSED, WELL_AGAIN
from relab.incidents.response.situation import SituationReader
from relab.incidents.response.state import IncidentState, Way, asked_as, load_candidates, load_known
from relab.incidents.storage.models import IncidentStatus, NewEvent, Phase
from relab.knowledge.models import UNNAMED

_MAX_PLANS: Final = 20
_DONE_WITH: Final = frozenset((RepairResult.MITIGATED, RepairResult.FAILED, RepairResult.WORSE))


@dataclass(frozen=True, slots=True)
class _Ready:
    """A plan that passed the dry run of the action server.

    Attributes:
        digest: the digest of the service's state, from the dry run; None if the server gave none.
        ruling: the policy's decision on the plan: allowed, needs approval, refused, or no action for now.
    """

    plan: ActionPlan
    digest: str | None
    ruling: Ruling


class PlanningNodes:
    """The nodes of the incident workflow that choose the next action, and request a person's approval if required.

    The policy decides whether approval is required. Each node takes the state of the workflow, and returns the keys of
    this state that it changes, with their values.
    """

    def __init__(self, world: ResponseContext, assessing: AssessmentNodes) -> None:
        self._world = world
        self._assessing = assessing
        self._survey = SituationReader(world)

    async def plan(self, state: IncidentState) -> IncidentState:
        """Choose the next action, get the policy's decision on it, and return the changed keys of the state.

        The decision says whether the action is executed, needs approval, is refused, or must wait.
        """
        if state.get("way") == "investigate":
            # A checkpoint of an earlier version, in which this node investigated itself.
            return {"way": "investigate"}
        return await self._plan(state)

    async def _plan(self, state: IncidentState) -> IncidentState:
        world = self._world
        runbooks = await world.runbooks()
        refused = [ExcludedAction(*item) for item in state.get("tried", [])]
        refused += [item for item in await self._rejected(state) if item not in refused]
        waits = state.get("waits", 0)
        for _ in range(_MAX_PLANS):
            found: ActionPlan | Escalation | None = None
            try:
                catalogue = await world.actions.catalogue()
                acts = await world.blocking(world.log.actions.of_incident, state["incident_id"])
                found = next_plan(
                    load_candidates(state["candidates"]),
                    runbooks,
                    load_known(state["known"]).facts,
                    catalogue,
                    [*refused, *tried_of(acts, state.get("again", ()), since_us=state.get("episode_us", 0))],
                    world.settings.planning,
                )
                if isinstance(found, Escalation):
                    reason = " ".join([found.reason, *found.left_out])
                    return {"way": "escalate", "reason": reason, "tried": _plain(refused), "waits": waits}
                ready = await self._try(state, found, catalogue)
            except ActionServerError as error:
                if isinstance(found, ActionPlan) and error.reaction in {Reaction.ANOTHER_PLAN, Reaction.DIAGNOSE_AGAIN}:
                    refused.append(ExcludedAction(found.action, found.target, found.fingerprint))
                    impossible = await self._impossible(state, found, str(error), len(refused))
                    return {**impossible, "tried": _plain(refused), "waits": waits}
                wait_s = (
                    error.retry_after_s if isinstance(error, ActionServerBusyError) else world.settings.server_retry_s
                )
                # Without a known cause, and for a responder that only observes, the catalogue would change nothing.
                needless = found is None and (
                    state.get("diagnosis", UNNAMED) == UNNAMED or world.settings.policy.only_observes
                )
                why = "The responder only observes." if world.settings.policy.only_observes else str(error)
                if (
                    error.reaction is Reaction.ESCALATE
                    or needless
                    or waits >= world.settings.max_server_retries
                    # People are not notified during a wait, and the situation may change during a long one.
                    or wait_s > world.settings.verification.effect_timeout_s
                ):
                    reason = _diagnosed(state, why) if needless else str(error)
                    return {"way": "escalate", "reason": reason, "tried": _plain(refused), "waits": waits}
                waits += 1
                await world.pause(wait_s)
                if wait_s > world.settings.server_retry_s:
                    return {"way": "investigate", "reason": str(error), "tried": _plain(refused), "waits": waits}
                continue
            decided = await self._decide(state, ready, waits)
            if decided is not None:
                return {**decided, "tried": _plain(refused)}
            waits += 1
        return {"way": "escalate", "reason": "No plan is possible.", "tried": _plain(refused), "waits": waits}

    async def approve(self, state: IncidentState) -> IncidentState:
        """Request a person's approval of the last plan, and wait for the decision.

        Return the changed keys of the state; the key `way` names the next node.
        """
        world, incident_id = self._world, state["incident_id"]
        plan = ActionPlan.model_validate(state["action_plan"][-1])
        approval_id = asked_as(state)
        seen = world.watch.outages.seen(world.clock.now_us())
        request = await world.blocking(
            world.log.approvals.request,
            approval_request(
                plan,
                approval_id=approval_id,
                incident_id=incident_id,
                state_digest=state.get("state_digest"),
                ground=state.get("ground", ""),
                now_us=world.clock.now_us(),
                valid_s=world.settings.approval_valid_s,
            ),
        )
        if request.asked_at >= seen.at_us:
            # The request is new: skip this when the node runs again after the answer.
            world.watch.outages.note_notified(seen)
        # When the decision arrives, LangGraph runs the whole node again; so approval has a separate node.
        answered = interrupt({"approval_id": request.approval_id, "until": format_time(request.expires_at)})
        if answered in {PASSED, NEWS}:
            is_over = answered == PASSED
            approval_id = request.approval_id
            return await (
                self._withdraw_question(approval_id) if is_over else self._amid_news(state, plan, approval_id)
            )
        _, decision = await world.blocking(world.log.approvals.get, request.approval_id)
        digest = await self._digest(plan)
        found = approval_state(request, decision, plan=plan, state_digest=digest, now_us=world.clock.now_us())
        if found is ApprovalState.APPROVED:
            return {"way": "execute", "approval_id": request.approval_id}
        if found is ApprovalState.REJECTED:
            by = decision.by if decision is not None else "a person"
            return {"way": "escalate", "reason": f"{plan.action} was rejected by {by}."}
        if found is ApprovalState.PENDING:
            return await self._wait_or_withdraw(state, plan, request.approval_id)
        # The request has expired, or the service has changed since people were asked.
        reason = f"The approval of {plan.action} {found.words}."
        unanswered = 0 if decision is not None else state.get("unanswered", 0) + 1
        if unanswered >= MAX_UNANSWERED:
            return {"way": "escalate", "reason": f"{reason} {unanswered} approval requests had no answer."}
        over = NewEvent("question_over", reason, once=f"over.{request.approval_id}")
        await world.append_events(incident_id, Phase.PLAN, over, status=IncidentStatus.OPEN)
        return {"way": "investigate", "approval_id": None, "reason": reason, "unanswered": unanswered}

    async def _withdraw_question(self, approval_id: str) -> IncidentState:
        """Withdraw an approval request because the problem has passed, and return the changed keys of the state.

        The plan is not executed, even if a person has just approved it.
        """
        world = self._world
        now_us = world.clock.now_us()
        await world.blocking(world.log.approvals.withdraw, approval_id, now_us=now_us, why=WELL_AGAIN)
        return {"way": "learn", "approval_id": None, "reason": WELL_AGAIN}

    async def _amid_news(self, state: IncidentState, plan: ActionPlan, approval_id: str) -> IncidentState:
        """Diagnose the incident again because of new outages, while an approval request for `plan` is open.

        If the new diagnosis names the cause that `plan` repairs, continue to wait; otherwise withdraw the request and
        investigate. Return the changed keys of the state.
        """
        world = self._world
        incident = await world.blocking(world.log.get, state["incident_id"])
        changed = state_after_news(state, await unused_news(world, state, incident), incident, world.clock.now_us())
        thought = await self._assessing.diagnose_again(state)
        asked: IncidentState = {**changed, "way": "approve", "approval_id": approval_id}
        if thought["diagnosis"] == plan.cause:
            await world.append_events(state["incident_id"], Phase.APPROVE)
            return asked
        why = f"Another problem has begun; the probable cause is now {thought['diagnosis']}."
        now_us = world.clock.now_us()
        answer = await world.blocking(world.log.approvals.withdraw, approval_id, now_us=now_us, why=why)
        # A decision that came before the withdrawal counts.
        return asked if answer is not None else {**asked, "way": "investigate", "approval_id": None, "reason": why}

    async def _wait_or_withdraw(self, state: IncidentState, plan: ActionPlan, approval_id: str) -> IncidentState:
        """Check whether `plan` still needs a person's approval, and return the changed keys of the state.

        If the plan needs no approval any more, withdraw the request and investigate again; otherwise continue to wait
        for the decision.
        """
        world = self._world
        asked: IncidentState = {"way": "approve", "approval_id": approval_id}
        if not await self._survey.may_act_without_approval(state, plan):
            return asked
        why = f"the incident now affects as much as the action may ({plan.blast_radius.value})."
        now_us = world.clock.now_us()
        answer = await world.blocking(world.log.approvals.withdraw, approval_id, now_us=now_us, why=why)
        # A decision that came before the withdrawal counts.
        return asked if answer is not None else {"way": "investigate", "approval_id": None, "reason": why}

    async def _digest(self, plan: ActionPlan) -> str | None:
        try:
            return (await self._world.actions.dry_run(plan.action, plan.parameters)).state_digest
        except ActionServerError as error:
            # This differs from the digest of the approved state, so the node plans again.
            return f"not to be done now: {error.code}"

    async def _rejected(self, state: IncidentState) -> list[ExcludedAction]:
        """Return the actions that people have rejected in this incident."""
        asked = await self._world.blocking(self._world.log.approvals.of_incident, state["incident_id"])
        plans = [request.plan for request, decision in asked if decision is not None and not decision.approved]
        return [ExcludedAction(plan.action, plan.target, plan.fingerprint) for plan in plans]

    async def _try(self, state: IncidentState, plan: ActionPlan, catalogue: Catalogue) -> _Ready:
        """Request a dry run of a plan from the action server, and get the policy's decision on the plan; return both.

        The decision is: allowed, needs approval, refused, or no action for now. `catalogue` has the server's actions.

        Raises:
            ActionServerError: the server would refuse the plan, or a request failed.
        """
        found = await self._world.actions.dry_run(plan.action, plan.parameters)
        ruling = await self._survey.ruling(state, plan, catalogue.actions[plan.action])
        return _Ready(plan, found.state_digest, ruling)

    async def _impossible(self, state: IncidentState, plan: ActionPlan, reason: str, count: int) -> IncidentState:
        """Write to the timeline that the server refuses the dry run of a plan; return the changed keys of the state.

        The next node probes the service again instead of trying the next action of the runbook, which may do more harm:
        the service may have changed since the diagnosis, and the cause may be gone. If `count` has reached
        `_MAX_PLANS`, the incident is escalated instead.

        Args:
            state: the state of the incident workflow.
            plan: the plan that the server refuses.
            reason: the server's reason, in one sentence.
            count: the number of refused and rejected actions of the incident, including this one.
        """
        new_event = NewEvent(
            "not_possible",
            f"{plan.action} is not requested, and the service is probed again: {reason}",
            {"attempt": state.get("attempt", 0) + 1},
        )
        await self._world.append_events(state["incident_id"], Phase.PLAN, new_event)
        way: Way = "investigate" if count < _MAX_PLANS else "escalate"
        return {"way": way, "reason": reason, "refused_cause": plan.cause if was_sure(state) else ""}

    async def _decide(self, state: IncidentState, ready: _Ready, waits: int) -> IncidentState | None:
        """Carry out the policy's decision on a plan, and return the changed keys of the state, with the next node.

        If the policy refuses the plan for a short time only, wait until that time has passed, and return None: the
        caller must then get a new decision.

        Args:
            state: the state of the incident workflow.
            ready: the plan and the policy's decision.
            waits: how often the workflow has waited because of a temporary refusal. After `max_server_retries` times,
                the next refusal is final.
        """
        world, ruling = self._world, ready.ruling
        if ruling.verdict is Permission.STAND_DOWN:
            return await self._stand_down(state, ruling)
        if ruling.verdict is Permission.REFUSED:
            wait_s = ruling.retry_after_s
            if (
                wait_s is None
                or wait_s > world.settings.verification.effect_timeout_s
                or waits >= world.settings.max_server_retries
            ):
                return await self._refused(state, ready, waits)
            await world.pause(wait_s)
            return None
        attempt = state.get("attempt", 0) + 1
        document = ready.plan.model_dump(mode="json")
        new_event = NewEvent(
            "planned",
            f"{ready.plan.action}: {ready.plan.why}",
            {"plan": document, "ruling": ruling.reason},
            once=f"planned.{attempt}.{ready.plan.fingerprint}",
        )
        found = await world.append_events(state["incident_id"], Phase.PLAN, new_event, plan=document)
        return {
            "heard_seq": found.last_seq,
            "way": "execute" if ruling.is_allowed else "approve",
            "action_plan": [document],
            "attempt": attempt,
            "state_digest": ready.digest,
            "approval_id": None,
            "ground": ruling.reason,
            "stood_down_us": 0,
            "waits": waits,
        }

    async def _refused(self, state: IncidentState, ready: _Ready, waits: int) -> IncidentState:
        """Write the policy's refusal of a plan to the timeline, and return the changed keys of the state.

        The next node hands the incident over to people. If the settings let the responder only suggest actions of this
        class (autonomy `suggest`), the timeline event suggests the action to people.

        Args:
            state: the state of the incident workflow.
            ready: the plan and the policy's decision.
            waits: how often the workflow has waited because of a temporary refusal; stored in the state.
        """
        world, plan, ruling = self._world, ready.plan, ready.ruling
        reason = f"{ruling.reason} {ruling.remedy}"
        if (
            ruling.ground is PolicyRule.AUTONOMY
            and world.settings.policy.autonomy_of(plan.action_class) is Autonomy.SUGGEST
        ):
            wanted = ", ".join(f"{name} = {value}" for name, value in plan.parameters.items())
            reason = f"Suggested action: {plan.action}{f' with {wanted}' if wanted else ''}: {plan.why} {ruling.reason}"
            document = plan.model_dump(mode="json")
            new_event = NewEvent("suggested", reason, {"plan": document, "ground": ruling.ground.value})
            await world.append_events(state["incident_id"], Phase.PLAN, new_event, plan=document)
        else:
            new_event = NewEvent("refused", f"{plan.action}: {reason}", {"ground": ruling.ground.value})
            await world.append_events(state["incident_id"], Phase.PLAN, new_event)
        return {"way": "escalate", "reason": reason, "waits": waits}

    async def _stand_down(self, state: IncidentState, ruling: Ruling) -> IncidentState:
        world, count = self._world, state.get("stand_downs", 0) + 1
        new_event = NewEvent("stood_down", f"{ruling.reason} {ruling.remedy}", {"ground": ruling.ground.value})
        await world.append_events(state["incident_id"], Phase.PLAN, new_event)
        seen_us = world.clock.now_us()
        began_us = state.get("stood_down_us", 0) or seen_us
        # A clock that was set back must not prolong the waits.
        is_late = abs(seen_us - began_us) / 1_000_000 >= world.settings.stand_down_timeout_s
        changed: IncidentState = {"reason": ruling.reason, "stand_downs": count, "stood_down_us": began_us}
        if is_late or count > world.settings.max_stand_downs:
            return {**changed, "way": "escalate"}
        # The next probe covers everything that others did until now, so only later actions of others count then.
        seen = await self._survey.records_seen()
        await world.pause(world.settings.stand_down_s)
        changed["way"] = "investigate"
        if ruling.ground is PolicyRule.OTHERS_ACT:
            changed["others_since_us"] = seen_us
            if seen is not None:
                changed["others_seen"] = seen
        return changed


def tried_of(actions: list[ActionRecord], again: Collection[str] = (), *, since_us: int = 0) -> list[ExcludedAction]:
    """Return the actions of an incident that must not be tried again.

    These actions failed, were refused, were rolled back, or were executed without making the service healthy.

    Args:
        actions: the actions of the incident.
        again: the keys of actions that may be tried once more; the result does not contain them.
        since_us: the beginning of the present outage, in microseconds since 1970. Actions of earlier outages may be
            tried once more, unless they made things worse or were already repeated.
    """
    own = [act for act in actions if act.undoes is None and act.key not in again]
    times = Counter((act.action, act.target, act.tried.fingerprint) for act in own)
    actions = [
        act
        for act in own
        if act.asked_at >= since_us
        or act.effect is RepairResult.WORSE
        or times[act.action, act.target, act.tried.fingerprint] > 1
    ]
    over = {ActionStatus.FAILED, ActionStatus.REFUSED, ActionStatus.UNDONE}
    return [act.tried for act in actions if act.status in over or act.effect in _DONE_WITH]


def _diagnosed(state: IncidentState, why: str) -> str:
    """Return the text of a handover to people without a plan: the diagnosis, and then the reason `why`."""
    cause = state.get("diagnosis", UNNAMED)
    said = (
        "No runbook fits what is seen."
        if cause == UNNAMED
        else f"The cause is probably {cause} ({state.get('confidence', 0.0):.2f})."
    )
    return f"{said} No action is planned. {why}"


def _plain(tried: list[ExcludedAction]) -> list[list[Any]]:
    return [[item.action, item.target, item.fingerprint] for item in tried]
