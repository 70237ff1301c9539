"""Collect the present situation of a target, and get the policy's decision on a plan.

This happens when a plan is made, and again before the plan is executed. In between, people may have taken an hour to
approve, turned on the kill switch, or begun to repair by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relab.incidents.actions.catalogue import ActionEntry
from relab.incidents.actions.errors import ActionServerError, RefusedError
from relab.incidents.actions.planning import ActionPlan
from relab.incidents.actions.policy import SETTLE_TIMEOUT_S, Autonomy, ProposedAction, Ruling, Situation, rule
from relab.incidents.actions.records import ActionRecord, ActionStatus, of_others
from relab.incidents.actions.scope import scope_of
from relab.incidents.models import Anomaly
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.state import IncidentState, load_known, load_poll
from relab.incidents.storage.coordination import ALL_TARGETS
from relab.incidents.storage.models import Incident

_US: Final = 1_000_000
_HOST_SHORT: Final = 97.0
_MAX_SEEN: Final = 50
"""How many ids of the server's records are stored; the newest ones are enough to find where new records begin."""
_MAX_SETTLED: Final = 3
"""How many actions are settled at a time; with a server that does not answer, each one takes until its time limit."""
_CLOCKS_DIFFER_S: Final = 3_600.0
"""The largest difference between the action server's clock and the local one in a search for a record by its key."""


class SituationReader:
    """Gets decisions of the policy, and collects the input of these decisions: kill switches, actions, and polls.

    It also finds out unknown outcomes of actions from the action server's records.
    """

    def __init__(self, world: ResponseContext) -> None:
        self._world = world

    async def ruling(
        self,
        state: IncidentState,
        plan: ActionPlan,
        entry: ActionEntry | None = None,
        *,
        is_approved: bool = False,
        is_undo: bool = False,
        leave_out: str = "",
    ) -> Ruling:
        """Return the policy's decision on a plan now: allowed, needs approval, refused, or no action for now.

        Args:
            state: the state of the incident workflow.
            plan: the plan to execute.
            entry: the action's entry in the action server's catalogue; None: it is requested from the server.
            is_approved: whether a person has approved exactly this plan, and the approval is still valid.
            is_undo: whether the decision is on the rollback of the plan's action.
            leave_out: the idempotency key of the plan's own action if it is stored already, so that the policy does not
                count it among the earlier actions; empty if it is not stored.

        Raises:
            ActionServerError: a request to the action server failed, or the server does not offer the action.
        """
        entry = entry or (await self._world.actions.catalogue()).actions.get(plan.action)
        if entry is None:
            raise RefusedError(f"The action server does not offer {plan.action} any more.")
        wish = ProposedAction(entry, plan.target, state["incident_id"], is_undo=is_undo, is_approved=is_approved)
        return rule(self._world.settings.policy, wish, await self._situation(state, leave_out))

    async def may_act_without_approval(self, state: IncidentState, plan: ActionPlan) -> bool:
        """Return whether a plan that waits for a person's approval may now be executed without approval.

        Three conditions must hold:
        - The autonomy for the plan's class of actions is `ACT`.
        - The action affects no more users than the incident does now.
        - A new decision of the policy allows the plan.
        """
        world, poll = self._world, self._world.watch.feed.latest
        if poll is None or world.settings.policy.autonomy_of(plan.action_class) is not Autonomy.ACT:
            return False
        # Approval may have been requested only because the action affects more users than the incident did then.
        incident = await world.blocking(world.log.get, state["incident_id"])
        if plan.blast_radius.exceeds(scope_of(_of_now(state, incident), poll)):
            # This check needs no request to the action server, so it is cheap enough for every poll.
            return False
        try:
            return (await self.ruling(state, plan)).is_allowed
        except ActionServerError:
            return False

    async def settled(self, act: ActionRecord) -> ActionRecord:
        """Update `act`, an action with an unknown outcome, from the server's record, and return the changed action.

        Without a record, the action is stored as refused if its request is at least `SETTLE_TIMEOUT_S` seconds old.
        `act` is returned unchanged if the request is younger, if the server has not finished the action yet, or if the
        record is of another action.

        Raises:
            ActionServerError: a request failed, or the server's list of records is incomplete.
        """
        world = self._world
        if act.undoes is not None:
            record = await world.actions.find_undo(act.undoes)
        else:
            record = await world.actions.find(act.key, since_us=act.asked_at - int(_CLOCKS_DIFFER_S * _US))
        now_us = world.clock.now_us()
        if record is None:
            # The request may still be in transit; and if the clock was set back, the action's age is unknown.
            if now_us - act.asked_at < SETTLE_TIMEOUT_S * _US:
                return act
            error = "The action server has no record of it: it was not begun."
            return await world.blocking(
                world.log.actions.finish, act.key, ActionStatus.REFUSED, at_us=now_us, error=error
            )
        if record.status is ActionStatus.ASKED or (act.undoes is None and record.action != act.action):
            return act
        return await world.blocking(
            world.log.actions.finish,
            act.key,
            record.status,
            at_us=now_us,
            record_id=record.record_id,
            error=record.error,
        )

    async def settle_all(self) -> None:
        """Determine the unknown outcomes of this target's actions, and store them.

        The outcomes come from the action server's records of actions. At most `_MAX_SETTLED` actions are updated. Call
        this method soon after the actions, because the server lists only its newest records.
        """
        world = self._world
        for act in (await world.blocking(world.log.actions.unsettled, world.target))[:_MAX_SETTLED]:
            await self._append_result(act)

    async def records_seen(self) -> list[str] | None:
        """Return the ids of the action server's newest records, of any client's actions; None if the request fails."""
        try:
            recent = await self._world.actions.records_after(())
        except ActionServerError:
            return None
        return [record.record_id for record in recent.records[:_MAX_SEEN]]

    async def _situation(self, state: IncidentState, leave_out: str) -> Situation:
        world, now_us = self._world, self._world.clock.now_us()
        incident = await world.blocking(world.log.get, state["incident_id"])
        switch = await world.blocking(world.log.switches.state, world.target)
        # Request the kill switch first: if the server does not answer that, settling acts would fail as well.
        server_is_stopped = await world.actions.is_stopped()
        acts = await self._acts(state["incident_id"], now_us, leave_out)
        poll = world.watch.feed.latest or load_poll(state["symptoms"])
        return Situation(
            now_us=now_us,
            scope=scope_of(_of_now(state, incident), poll),
            is_stopped=switch.is_paused,
            paused_target=switch.target if switch.is_paused and switch.target != ALL_TARGETS else None,
            server_is_stopped=server_is_stopped,
            is_stale=world.watch.findings.is_stale,
            failing_dependencies=sorted(poll.failing),
            host_is_failing=_host_is_failing(state),
            others=await self._others(state, acts),
            actions=[act for act in acts if act.key != leave_out],
        )

    async def _acts(self, incident_id: str, now_us: int, leave_out: str) -> list[ActionRecord]:
        """Return the actions of the incident, and those on the target that are recent or have no result yet.

        Recent actions were requested within the last `action_window_s` seconds.

        Actions with an unknown outcome are first updated from the action server's records. The action with the key
        `leave_out` is returned as it is stored, without an update.
        """
        world = self._world
        since_us = now_us - int(world.settings.policy.action_window_s * _US)
        recent = await world.blocking(world.log.actions.of_target, world.target, since_us=since_us)
        own = await world.blocking(world.log.actions.of_incident, incident_id)
        found = {act.key: act for act in (*recent, *own)}
        return [act if act.key == leave_out else await self._append_result(act) for act in found.values()]

    async def _append_result(self, act: ActionRecord) -> ActionRecord:
        if act.status is not ActionStatus.ASKED:
            return act
        try:
            return await self.settled(act)
        except ActionServerError:
            # The action stays unsettled, and the policy allows no other action until its outcome is known.
            return act

    async def _others(self, state: IncidentState, acts: Iterable[ActionRecord]) -> list[str] | None:
        # Compare with known record ids rather than times, because the server's clock may differ.
        seen, since_us = state.get("others_seen"), state["others_since_us"]
        if seen is None:
            recent = await self._world.actions.records_since(since_us)
        else:
            recent, since_us = await self._world.actions.records_after(seen), 0
        if not recent.is_whole:
            return None
        found = of_others(recent.records, list(acts), since_us=since_us)
        return [f"{record.actor} did {record.action} to {record.target}" for record in found]


def _of_now(state: IncidentState, incident: Incident) -> list[Anomaly]:
    """Return the anomalies that were found since the present outage began.

    An incident has several outages if the service recovered and broke again. If it never recovered, all anomalies of
    the incident are returned.
    """
    # Anomalies of an earlier outage do not justify an action that affects many users.
    since_us = state.get("episode_us", 0)
    return [finding.anomaly for finding in incident.findings if finding.last_at >= since_us]


def _host_is_failing(state: IncidentState) -> bool:
    facts = load_known(state["known"]).facts
    used = facts.get("volume.used_pct")
    return isinstance(used, float) and used >= _HOST_SHORT
