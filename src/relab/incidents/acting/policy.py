"""Decide whether an action may be executed now. Pure functions; every refusal names what would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.incidents.acting.catalogue import ActionEntry, BlastRadius
from relab.incidents.acting.records import ActRecord, ActStatus

_US: Final = 1_000_000
_LOOKS_AGAIN_S: Final = 10.0
OUTAGE_DEPENDENCIES: Final = 2
"""With at least this many failing dependencies and a failing host, the outage is wider than one service."""
SETTLES_WITHIN_S: Final = 90.0
"""How long an act may be in transit or in progress before a missing record on the server means that it was not begun."""


class Autonomy(StrEnum):
    """How much a responder may do by itself, the least first."""

    OBSERVE = "observe"
    SUGGEST = "suggest"
    APPROVE = "approve"
    ACT = "act"


class Verdict(StrEnum):
    """The result of a ruling."""

    ALLOWED = "allowed"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"
    STAND_DOWN = "stand_down"
    """No action at all is allowed for now: wait, then check again."""


class Ground(StrEnum):
    """The rule that decided."""

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
        ground: the rule that decided.
        reason: the reason, in one sentence.
        remedy: what would change the decision; empty if the action is allowed.
        retry_after_s: after how many seconds time alone changes the decision; None if it does not.
    """

    verdict: Verdict
    ground: Ground
    reason: str
    remedy: str = ""
    retry_after_s: float | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether the action may be executed now."""
        return self.verdict is Verdict.ALLOWED


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits that the operators of a service set.

    Attributes:
        autonomy: the autonomy for every class of actions that `autonomy_by_class` does not name.
        autonomy_by_class: the autonomy by class of actions.
        most_in_incident: the maximum number of actions for one incident.
        most_in_window, most_on_target: the maximum number of actions within `window_s`, in total and on one part of the
            service.
        cooldown_s: the least time between two executions of the same action on the same part.
    """

    autonomy: Autonomy = Autonomy.APPROVE
    autonomy_by_class: Mapping[str, Autonomy] = field(default_factory=dict)
    most_in_incident: int = 5
    most_in_window: int = 10
    most_on_target: int = 5
    window_s: float = 3_600.0
    cooldown_s: float = 30.0

    @property
    def only_observes(self) -> bool:
        """Whether the autonomy of every class of actions is `OBSERVE`."""
        return {self.autonomy, *self.autonomy_by_class.values()} == {Autonomy.OBSERVE}

    def autonomy_of(self, action_class: str) -> Autonomy:
        """Return the autonomy for a class of actions."""
        return self.autonomy_by_class.get(action_class, self.autonomy)


@dataclass(frozen=True, slots=True)
class Wish:
    """An action for which the responder needs a ruling.

    Attributes:
        target: the part of the service that the action changes.
        is_undo: whether it rolls back an act of this responder; the decision about the act covers its rollback.
        is_approved: whether a person has approved exactly this action, and the approval is still valid.
    """

    action: ActionEntry
    target: str
    incident_id: str
    is_undo: bool = False
    is_approved: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """The state of target, switches and records at the time of a ruling.

    Attributes:
        scope: what users notice of the incident.
        is_stopped: whether the responder's own kill switch is on.
        server_is_stopped: whether the kill switch of the action server is on; None if the server does not answer that.
        is_stale: whether the target's figures are old.
        failing_dependencies: the names of the failing dependencies.
        host_is_failing: whether the machine itself lacks a resource, or parts of it do not answer.
        others: descriptions of what others did since the incident was detected, or since the last look after that;
            None if that is unknown.
        acts: all acts of this responder on the target, for this incident and for others.
    """

    now_us: int
    scope: BlastRadius
    is_stopped: bool = False
    server_is_stopped: bool | None = False
    is_stale: bool = False
    failing_dependencies: Sequence[str] = ()
    host_is_failing: bool = False
    others: Sequence[str] | None = ()
    acts: Sequence[ActRecord] = ()


def rule(policy: Policy, wish: Wish, situation: Situation) -> Ruling:
    """Return whether an action may be executed now; the first rule that objects decides."""
    if wish.action.is_read_only:
        return Ruling(Verdict.ALLOWED, Ground.READ_ONLY, f"{wish.action.name} changes nothing.")
    objection = (
        _switches(situation)
        or _autonomy(policy, wish)
        or _stand_down(situation)
        or _unsettled(policy, situation)
        or (None if wish.is_undo else _budgets(policy, wish, situation))
        or (None if wish.is_undo else _cooldown(policy, wish, situation))
        or (None if wish.is_undo or wish.is_approved else _approval(policy, wish, situation))
    )
    return objection or Ruling(Verdict.ALLOWED, Ground.WITHIN_LIMITS, f"{wish.action.name} is within what is allowed.")


def _switches(situation: Situation) -> Ruling | None:
    if situation.is_stopped:
        return Ruling(Verdict.STAND_DOWN, Ground.KILL_SWITCH, "The kill switch is on.", "Somebody switches it off.")
    if situation.server_is_stopped is None:
        reason = "The action server does not tell whether its kill switch is on."
        return Ruling(Verdict.STAND_DOWN, Ground.KILL_SWITCH, reason, "The action server answers again.")
    if situation.server_is_stopped:
        reason = "The kill switch of the action server is on."
        return Ruling(Verdict.STAND_DOWN, Ground.KILL_SWITCH, reason, "An administrator of it switches it off.")
    return None


def _autonomy(policy: Policy, wish: Wish) -> Ruling | None:
    action_class = wish.action.action_class
    autonomy = policy.autonomy_of(action_class)
    if autonomy in {Autonomy.APPROVE, Autonomy.ACT}:
        return None
    reason = f"The autonomy for actions of the class {action_class} is {autonomy.value}."
    remedy = "A person does it, or sets the autonomy to approve or act."
    return Ruling(Verdict.REFUSED, Ground.AUTONOMY, reason, remedy)


def _stand_down(situation: Situation) -> Ruling | None:
    if situation.is_stale:
        reason = "The target's figures are old: nobody knows how it is now."
        return Ruling(Verdict.STAND_DOWN, Ground.STALE, reason, "Figures of now come in.")
    failing = situation.failing_dependencies
    if situation.host_is_failing and len(failing) >= OUTAGE_DEPENDENCIES:
        reason = f"{', '.join(failing)} and the host fail at once: this is wider than one service."
        return Ruling(Verdict.STAND_DOWN, Ground.WIDER_OUTAGE, reason, "A person looks at what they have in common.")
    if situation.others is None:
        reason = "Nobody can tell whether others are acting: the records cannot be read."
        return Ruling(Verdict.STAND_DOWN, Ground.OTHERS_ACT, reason, "The action server answers again.")
    if situation.others:
        reason = f"Others have acted since the incident was detected: {'; '.join(situation.others[:3])}."
        return Ruling(Verdict.STAND_DOWN, Ground.OTHERS_ACT, reason, "Look again at what has come of that.")
    return None


def _unsettled(policy: Policy, situation: Situation) -> Ruling | None:
    for act in situation.acts:
        # An act that was requested longer ago than the window is not in progress any more; it still counts in the budgets.
        if act.status is ActStatus.ASKED and situation.now_us - act.asked_at < policy.window_s * _US:
            reason = f"Nobody knows yet whether {act.action} on {act.target} was done; one action at a time."
            left_s = SETTLES_WITHIN_S - (situation.now_us - act.asked_at) / _US
            remedy = f"Ask again with the key {act.key}."
            return Ruling(Verdict.REFUSED, Ground.UNSETTLED, reason, remedy, _LOOKS_AGAIN_S if left_s > 0 else None)
    return None


def _budgets(policy: Policy, wish: Wish, situation: Situation) -> Ruling | None:
    counted = [act for act in situation.acts if act.counts]
    mine = [act for act in counted if act.incident_id == wish.incident_id]
    if len(mine) >= policy.most_in_incident:
        reason = f"{len(mine)} actions were done for this incident, and {policy.most_in_incident} may be."
        return Ruling(Verdict.REFUSED, Ground.INCIDENT_BUDGET, reason, "A person takes over.")
    now_us, window_s = situation.now_us, policy.window_s
    # If the clock was set back, acts with a later time count as recent too.
    recent = [act for act in counted if now_us - act.asked_at < window_s * _US]
    if len(recent) >= policy.most_in_window:
        reason = f"{len(recent)} actions were done within {window_s:g} s, and {policy.most_in_window} may be."
        return _full(Ground.WINDOW_BUDGET, reason, recent, policy.most_in_window, situation, window_s)
    same = [act for act in recent if act.target == wish.target]
    if len(same) >= policy.most_on_target:
        reason = (
            f"{len(same)} actions were done to {wish.target} within {window_s:g} s; {policy.most_on_target} may be."
        )
        return _full(Ground.TARGET_BUDGET, reason, same, policy.most_on_target, situation, window_s)
    return None


def _full(
    ground: Ground, reason: str, acts: Sequence[ActRecord], most: int, situation: Situation, window_s: float
) -> Ruling:
    remedy = "A person takes over, or time passes."
    if most < 1:
        return Ruling(Verdict.REFUSED, ground, reason, "A person takes over, or allows more.")
    newest = sorted((act.asked_at for act in acts), reverse=True)
    left_us = newest[most - 1] + window_s * _US - situation.now_us
    return Ruling(Verdict.REFUSED, ground, reason, remedy, left_us / _US)


def _cooldown(policy: Policy, wish: Wish, situation: Situation) -> Ruling | None:
    same = [
        act.asked_at
        for act in situation.acts
        if act.counts and act.action == wish.action.name and act.target == wish.target
    ]
    left_s = policy.cooldown_s - (situation.now_us - max(same)) / _US if same else 0.0
    if left_s <= 0:
        return None
    reason = f"{wish.action.name} was done to {wish.target} less than {policy.cooldown_s:g} s ago."
    return Ruling(Verdict.REFUSED, Ground.COOLDOWN, reason, "Time passes.", left_s)


def _approval(policy: Policy, wish: Wish, situation: Situation) -> Ruling | None:
    radius = wish.action.blast_radius
    if radius.exceeds(situation.scope):
        reason = (
            f"{wish.action.name} may touch more ({radius.value}) than users notice of the incident "
            f"({situation.scope.value})."
        )
        return Ruling(Verdict.NEEDS_APPROVAL, Ground.SCOPE, reason, "A person says that it is worth it.")
    if policy.autonomy_of(wish.action.action_class) is Autonomy.APPROVE:
        reason = f"Actions of the class {wish.action.action_class} are approved by a person."
        return Ruling(Verdict.NEEDS_APPROVAL, Ground.APPROVAL, reason, "A person approves or rejects it.")
    return None
