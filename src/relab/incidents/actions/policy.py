"""Decide whether an action may be executed now. Pure functions; every refusal names what would change the decision."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.incidents.actions.catalogue import ActionEntry, UserImpact
from relab.incidents.actions.records import ActionRecord, ActionStatus

_US: Final = 1_000_000
_RECHECK_S: Final = 10.0
OUTAGE_DEPENDENCIES: Final = 2
"""With at least this many failing dependencies and a failing host, the outage is wider than one service."""
SETTLE_TIMEOUT_S: Final = 90.0
"""How long an action may be in transit or in progress before a missing record on the server means that it was not begun."""


class Autonomy(StrEnum):
    """How much a responder may do without a person. The members are ordered, the least autonomy first.

    `OBSERVE` and `SUGGEST` execute nothing, `APPROVE` executes what a person has approved, and `ACT` needs no person.
    """

    OBSERVE = "observe"
    SUGGEST = "suggest"
    APPROVE = "approve"
    ACT = "act"


class Permission(StrEnum):
    """The policy's decision on an action: allowed, allowed after an approval, refused, or no action at all for now.

    `REFUSED` concerns only this action; `STAND_DOWN` concerns every action.
    """

    ALLOWED = "allowed"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"
    STAND_DOWN = "stand_down"
    """No action at all is allowed for now: wait, then check again."""


class PolicyRule(StrEnum):
    """The rule of the policy that decided on an action, such as a budget, the cooldown, or the kill switch.

    Two rules allow the action: `READ_ONLY`, because it changes nothing, and `WITHIN_LIMITS`, because it keeps all limits.
    Every other rule refuses the action, delays it, or requires a person's approval.
    """

    READ_ONLY = "read_only"
    KILL_SWITCH = "kill_switch"
    AUTONOMY = "autonomy"
    STALE = "stale"
    WIDER_OUTAGE = "wider_outage"
    OTHERS_ACT = "others_act"
    UNSETTLED = "unsettled"
    INCIDENT_BUDGET = "incident_budget"
    WINDOW_BUDGET = "window_budget"
    TARGET_BUDGET = "target_budget"
    COOLDOWN = "cooldown"
    SCOPE = "scope"
    APPROVAL = "approval"
    WITHIN_LIMITS = "within_limits"


@dataclass(frozen=True, slots=True)
class Ruling:
    """The decision whether an action may be executed.

    Attributes:
        verdict: the decision.
        ground: the policy's rule that led to the decision.
        reason: the reason, in one sentence.
        remedy: how to get the action allowed; empty if it is allowed.
        retry_after_s: the seconds until a refusal may end by itself; None if it will not, and for other decisions.
    """

    verdict: Permission
    ground: PolicyRule
    reason: str
    remedy: str = ""
    retry_after_s: float | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether the action may be executed now."""
        return self.verdict is Permission.ALLOWED


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits on a responder's actions, as the operators of a service set them.

    Attributes:
        autonomy: how much the responder may do without a person, for classes not in `autonomy_by_class`.
        autonomy_by_class: `{class of actions, such as restart: autonomy}`.
        max_actions_per_incident: the maximum number of actions for one incident.
        max_actions_per_window: the maximum number of actions on the target within `action_window_s`.
        max_actions_per_part: the maximum number of actions within `action_window_s` on one part of the service.
        cooldown_s: the least time between two executions of the same action on the same part.
    """

    autonomy: Autonomy = Autonomy.APPROVE
    autonomy_by_class: Mapping[str, Autonomy] = field(default_factory=dict)
    max_actions_per_incident: int = 5
    max_actions_per_window: int = 10
    max_actions_per_part: int = 5
    action_window_s: float = 3_600.0
    cooldown_s: float = 30.0

    @property
    def only_observes(self) -> bool:
        """Whether no action is executed or suggested: the autonomy of every class of actions is `OBSERVE`."""
        return {self.autonomy, *self.autonomy_by_class.values()} == {Autonomy.OBSERVE}

    def autonomy_of(self, action_class: str) -> Autonomy:
        """Return the autonomy for a class of actions: how much the responder may do without a person."""
        return self.autonomy_by_class.get(action_class, self.autonomy)


@dataclass(frozen=True, slots=True)
class ProposedAction:
    """An action on which the policy must decide.

    Attributes:
        action: the entry of the action in the server's catalogue.
        target: the part of the service that the action changes.
        is_undo: whether the action rolls back an earlier action of this responder; a rollback needs no approval, and no
            budget or cooldown limits it.
        is_approved: whether a person has approved exactly this action, and the approval is still valid.
    """

    action: ActionEntry
    target: str
    incident_id: str
    is_undo: bool = False
    is_approved: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """The state of the target, the kill switches and the earlier actions at the time when the policy decides.

    Attributes:
        now_us: the current time, in microseconds since 1970.
        scope: how many users notice the incident.
        is_stopped: whether the responder's own kill switch is on.
        paused_target: the target if only its own kill switch is on; None if that of all targets is on, or neither is.
        server_is_stopped: whether the action server's kill switch is on; None if the server does not report it.
        is_stale: whether the figures that the target reports are out of date.
        failing_dependencies: the names of the service's dependencies that fail.
        host_is_failing: whether the machine of the service lacks a resource, such as free disk space.
        others: what people or other clients have done since the incident was detected, one sentence for each action.
            Actions that the responder has already considered are left out. None if the action server's list of actions
            is incomplete.
        actions: the earlier actions of this responder: all actions for this incident, and those for other incidents of
            the target that were requested within `action_window_s` or have no result yet.
    """

    now_us: int
    scope: UserImpact
    is_stopped: bool = False
    paused_target: str | None = None
    server_is_stopped: bool | None = False
    is_stale: bool = False
    failing_dependencies: Sequence[str] = ()
    host_is_failing: bool = False
    others: Sequence[str] | None = ()
    actions: Sequence[ActionRecord] = ()


def resume_command(target: str | None) -> str:
    """Return the shell command that turns off the kill switch of a target; None for that of all targets."""
    return "lab incidents resume" + ("" if target is None else f" --target {shlex.quote(target)}")


def rule(policy: Policy, wish: ProposedAction, situation: Situation) -> Ruling:
    """Return whether the policy allows an action now, with the rule that decides and the reason.

    The first rule that objects decides. Actions that change nothing are always allowed.

    Args:
        policy: the limits that the operators set.
        wish: the action that needs a ruling.
        situation: the state of the target, the kill switches and the earlier actions.
    """
    if wish.action.is_read_only:
        return Ruling(Permission.ALLOWED, PolicyRule.READ_ONLY, f"{wish.action.name} changes nothing.")
    objection = (
        _switches(situation)
        or _autonomy(policy, wish)
        or _stand_down(situation)
        or _unsettled(policy, situation)
        or (None if wish.is_undo else _budgets(policy, wish, situation))
        or (None if wish.is_undo else _cooldown(policy, wish, situation))
        or (None if wish.is_undo or wish.is_approved else _approval(policy, wish, situation))
    )
    return objection or Ruling(
        Permission.ALLOWED, PolicyRule.WITHIN_LIMITS, f"{wish.action.name} is within the limits."
    )


def _switches(situation: Situation) -> Ruling | None:
    if situation.is_stopped:
        return Ruling(
            Permission.STAND_DOWN,
            PolicyRule.KILL_SWITCH,
            "The kill switch is on.",
            f"Switch it off: {resume_command(situation.paused_target)}.",
        )
    if situation.server_is_stopped is None:
        reason = "The action server does not report whether its kill switch is on."
        return Ruling(
            Permission.STAND_DOWN, PolicyRule.KILL_SWITCH, reason, "Wait until the action server answers again."
        )
    if situation.server_is_stopped:
        reason = "The kill switch of the action server is on."
        return Ruling(
            Permission.STAND_DOWN,
            PolicyRule.KILL_SWITCH,
            reason,
            "An administrator of the action server must switch it off.",
        )
    return None


def _autonomy(policy: Policy, wish: ProposedAction) -> Ruling | None:
    action_class = wish.action.action_class
    autonomy = policy.autonomy_of(action_class)
    if autonomy in {Autonomy.APPROVE, Autonomy.ACT}:
        return None
    reason = f"The autonomy for actions of the class {action_class} is {autonomy.value}."
    remedy = "Do it by hand, or set the autonomy to approve or act."
    return Ruling(Permission.REFUSED, PolicyRule.AUTONOMY, reason, remedy)


def _stand_down(situation: Situation) -> Ruling | None:
    if situation.is_stale:
        reason = "The target's figures are stale: its present state is unknown."
        return Ruling(Permission.STAND_DOWN, PolicyRule.STALE, reason, "Wait for current figures.")
    failing = situation.failing_dependencies
    if situation.host_is_failing and len(failing) >= OUTAGE_DEPENDENCIES:
        reason = f"{', '.join(failing)} and the host fail at once: this is wider than one service."
        return Ruling(Permission.STAND_DOWN, PolicyRule.WIDER_OUTAGE, reason, "Check by hand what they have in common.")
    if situation.others is None:
        reason = "It is unknown whether others are acting: the records cannot be read."
        return Ruling(
            Permission.STAND_DOWN, PolicyRule.OTHERS_ACT, reason, "Wait until the action server answers again."
        )
    if situation.others:
        reason = f"Others have acted since the incident was detected: {'; '.join(situation.others[:3])}."
        return Ruling(Permission.STAND_DOWN, PolicyRule.OTHERS_ACT, reason, "Diagnose again after their actions.")
    return None


def _unsettled(policy: Policy, situation: Situation) -> Ruling | None:
    for act in situation.actions:
        # An action that was requested longer ago than the window is not in progress any more; it still counts in the budgets.
        if act.status is ActionStatus.ASKED and situation.now_us - act.asked_at < policy.action_window_s * _US:
            reason = f"It is not known yet whether {act.action} on {act.target} was done; only one action is executed at a time."
            left_s = SETTLE_TIMEOUT_S - (situation.now_us - act.asked_at) / _US
            remedy = f"Check the record with the key {act.key}."
            return Ruling(Permission.REFUSED, PolicyRule.UNSETTLED, reason, remedy, _RECHECK_S if left_s > 0 else None)
    return None


def _budgets(policy: Policy, wish: ProposedAction, situation: Situation) -> Ruling | None:
    counted = [act for act in situation.actions if act.counts]
    mine = [act for act in counted if act.incident_id == wish.incident_id]
    if len(mine) >= policy.max_actions_per_incident:
        reason = f"{len(mine)} actions were done for this incident; the limit is {policy.max_actions_per_incident}."
        return Ruling(Permission.REFUSED, PolicyRule.INCIDENT_BUDGET, reason, "Take over by hand.")
    now_us, window_s = situation.now_us, policy.action_window_s
    # If the clock was set back, actions with a later time count as recent too.
    recent = [act for act in counted if now_us - act.asked_at < window_s * _US]
    if len(recent) >= policy.max_actions_per_window:
        reason = f"{len(recent)} actions were done within {window_s:g} s; the limit is {policy.max_actions_per_window}."
        return _full(PolicyRule.WINDOW_BUDGET, reason, recent, policy.max_actions_per_window, situation, window_s)
    same = [act for act in recent if act.target == wish.target]
    if len(same) >= policy.max_actions_per_part:
        reason = f"{len(same)} actions were done to {wish.target} within {window_s:g} s; the limit is {policy.max_actions_per_part}."
        return _full(PolicyRule.TARGET_BUDGET, reason, same, policy.max_actions_per_part, situation, window_s)
    return None


def _full(
    ground: PolicyRule, reason: str, acts: Sequence[ActionRecord], most: int, situation: Situation, window_s: float
) -> Ruling:
    remedy = "Take over by hand, or wait."
    if most < 1:
        return Ruling(Permission.REFUSED, ground, reason, "Take over by hand, or raise the limit.")
    newest = sorted((act.asked_at for act in acts), reverse=True)
    left_us = newest[most - 1] + window_s * _US - situation.now_us
    return Ruling(Permission.REFUSED, ground, reason, remedy, left_us / _US)


def _cooldown(policy: Policy, wish: ProposedAction, situation: Situation) -> Ruling | None:
    same = [
        act.asked_at
        for act in situation.actions
        if act.counts and act.action == wish.action.name and act.target == wish.target
    ]
    left_s = policy.cooldown_s - (situation.now_us - max(same)) / _US if same else 0.0
    if left_s <= 0:
        return None
    reason = f"{wish.action.name} was done to {wish.target} less than {policy.cooldown_s:g} s ago."
    return Ruling(Permission.REFUSED, PolicyRule.COOLDOWN, reason, "Wait.", left_s)


def _approval(policy: Policy, wish: ProposedAction, situation: Situation) -> Ruling | None:
    radius = wish.action.blast_radius
    if radius.exceeds(situation.scope):
        reason = (
            f"{wish.action.name} may affect more ({radius.value}) than the incident does ({situation.scope.value})."
        )
        return Ruling(Permission.NEEDS_APPROVAL, PolicyRule.SCOPE, reason, "Approve it if it is worth that.")
    if policy.autonomy_of(wish.action.action_class) is Autonomy.APPROVE:
        reason = f"Actions of the class {wish.action.action_class} need the approval of a person."
        return Ruling(Permission.NEEDS_APPROVAL, PolicyRule.APPROVAL, reason, "Approve or reject it.")
    return None
