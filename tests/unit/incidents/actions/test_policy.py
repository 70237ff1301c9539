"""The action policy: each rule and its reason, and limits that hold for any sequence of actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relab.incidents.actions import policy as rules
from relab.incidents.actions.catalogue import READ, UserImpact
from relab.incidents.actions.policy import Autonomy, Permission, Policy, PolicyRule, ProposedAction, Ruling, Situation
from relab.incidents.actions.records import ActionRecord, ActionStatus
from support.incidents.acts import NOW_US, SECOND_US, act, entry

WHOLE = UserImpact.WHOLE_SERVICE
ACTS = Policy(autonomy=Autonomy.ACT, cooldown_s=60)
WISH = ProposedAction(entry(), "target", "i1")
CALM = Situation(NOW_US, WHOLE)


def ruled(policy: Policy = ACTS, wish: ProposedAction = WISH, **situation: Any) -> Ruling:
    return rules.rule(policy, wish, replace(CALM, **situation))


def earlier(seconds: float, **more: Any) -> ActionRecord:
    return act(asked_at=NOW_US - int(seconds * SECOND_US), **more)


@pytest.mark.parametrize(
    ("autonomy", "verdict", "ground"),
    [
        (Autonomy.OBSERVE, Permission.REFUSED, PolicyRule.AUTONOMY),
        (Autonomy.SUGGEST, Permission.REFUSED, PolicyRule.AUTONOMY),
        (Autonomy.APPROVE, Permission.NEEDS_APPROVAL, PolicyRule.APPROVAL),
        (Autonomy.ACT, Permission.ALLOWED, PolicyRule.WITHIN_LIMITS),
    ],
)
def test_autonomy_decides_whether_approval_is_needed(
    autonomy: Autonomy, verdict: Permission, ground: PolicyRule
) -> None:
    found = ruled(Policy(autonomy))
    assert found.verdict == verdict
    assert found.ground == ground
    by_class = Policy(Autonomy.ACT, {"restart": autonomy})
    assert ruled(by_class).verdict is verdict
    assert ruled(by_class, replace(WISH, action=entry(action_class="session"))).is_allowed


def test_default_policy_needs_approval() -> None:
    assert ruled(Policy()).verdict is Permission.NEEDS_APPROVAL
    assert ruled(Policy(), replace(WISH, is_approved=True)).is_allowed


def test_unsettled_action_blocks_only_within_the_window() -> None:
    unknown = earlier(ACTS.action_window_s - 1, status=ActionStatus.ASKED)
    assert ruled(actions=(unknown,)).ground is PolicyRule.UNSETTLED
    assert ruled(actions=(earlier(ACTS.action_window_s, status=ActionStatus.ASKED),)).is_allowed
    # The age of an action is unknown if its time is after the current one, so the action still blocks.
    assert ruled(actions=(earlier(-ACTS.action_window_s, status=ActionStatus.ASKED),)).ground is PolicyRule.UNSETTLED


@pytest.mark.parametrize(
    ("situation", "ground"),
    [
        ({"is_stopped": True}, PolicyRule.KILL_SWITCH),
        ({"server_is_stopped": True}, PolicyRule.KILL_SWITCH),
        ({"server_is_stopped": None}, PolicyRule.KILL_SWITCH),
        ({"is_stale": True}, PolicyRule.STALE),
        ({"failing_dependencies": ("database", "cache"), "host_is_failing": True}, PolicyRule.WIDER_OUTAGE),
        ({"others": ("ann: restart-cache on cache",)}, PolicyRule.OTHERS_ACT),
        ({"others": None}, PolicyRule.OTHERS_ACT),
    ],
)
@pytest.mark.parametrize("wish", [WISH, replace(WISH, is_approved=True), replace(WISH, is_undo=True)])
def test_policy_stands_down_despite_an_approval(
    situation: dict[str, Any], ground: PolicyRule, wish: ProposedAction
) -> None:
    found = ruled(wish=wish, **situation)
    assert found.verdict == Permission.STAND_DOWN
    assert found.ground == ground
    assert found.reason
    assert found.remedy


@pytest.mark.parametrize(
    ("paused", "command"),
    [(None, "lab incidents resume."), ("my shop", "lab incidents resume --target 'my shop'.")],
)
def test_remedy_of_a_pause_ends_it(paused: str | None, command: str) -> None:
    assert ruled(is_stopped=True, paused_target=paused).remedy.endswith(f": {command}")


@pytest.mark.parametrize(
    "situation",
    [
        {"failing_dependencies": ("database",), "host_is_failing": True},
        {"failing_dependencies": ("database", "cache")},
        {"host_is_failing": True},
    ],
)
def test_failure_of_some_dependencies_or_the_host_alone_does_not_stand_down(situation: dict[str, Any]) -> None:
    assert ruled(**situation).is_allowed


@pytest.mark.parametrize(
    ("policy", "acts", "ground", "retry_after_s"),
    [
        (Policy(Autonomy.ACT, max_actions_per_incident=2, cooldown_s=0), [earlier(9_000), earlier(8_000)], PolicyRule.INCIDENT_BUDGET, None),
        (Policy(Autonomy.ACT, max_actions_per_window=2, cooldown_s=0),
         [earlier(600, incident_id="i2", target="a"), earlier(100, incident_id="i3", target="b")], PolicyRule.WINDOW_BUDGET, 3_000.0),
        (Policy(Autonomy.ACT, max_actions_per_part=1, cooldown_s=0), [earlier(600, incident_id="i2")], PolicyRule.TARGET_BUDGET, 3_000.0),
        (Policy(Autonomy.ACT, cooldown_s=60), [earlier(20, incident_id="i2")], PolicyRule.COOLDOWN, 40.0),
        # An action whose time is after the current one still counts.
        (Policy(Autonomy.ACT, cooldown_s=60), [earlier(-3_600)], PolicyRule.COOLDOWN, 3_660.0),
        (Policy(Autonomy.ACT, max_actions_per_window=1, cooldown_s=0), [earlier(-9_000)], PolicyRule.WINDOW_BUDGET, 12_600.0),
        (Policy(Autonomy.ACT, max_actions_per_window=0), [], PolicyRule.WINDOW_BUDGET, None),
        (Policy(Autonomy.ACT), [earlier(3_000, status="asked", key="k9")], PolicyRule.UNSETTLED, None),
        (Policy(Autonomy.ACT), [earlier(rules.SETTLE_TIMEOUT_S, status="asked")], PolicyRule.UNSETTLED, None),
        (Policy(Autonomy.ACT), [earlier(rules.SETTLE_TIMEOUT_S - 0.5, status="asked")], PolicyRule.UNSETTLED, 10.0),
    ],
)  # fmt: skip
def test_earlier_actions_limit_further_ones(
    policy: Policy, acts: list[ActionRecord], ground: PolicyRule, retry_after_s: float | None
) -> None:
    found = ruled(policy, actions=acts)
    assert found.verdict == Permission.REFUSED
    assert found.ground == ground
    assert found.retry_after_s == retry_after_s
    assert found.remedy
    assert ruled(policy, replace(WISH, is_approved=True), actions=acts).ground is ground


@pytest.mark.parametrize(
    "acts",
    [
        [earlier(10, status="refused")],
        [earlier(10, undoes="r1")],
        [earlier(61)],
        [earlier(10, action="restart-target")],
        [earlier(10, target="database")],
    ],
)
def test_ineffective_or_unrelated_actions_cause_no_cooldown(acts: list[ActionRecord]) -> None:
    assert ruled(actions=acts).is_allowed


def test_undo_is_allowed_with_an_exhausted_budget() -> None:
    used_up = [earlier(number, key=f"k{number}") for number in range(20)]
    assert not ruled(actions=used_up).is_allowed
    assert ruled(wish=replace(WISH, is_undo=True), actions=used_up).is_allowed
    assert ruled(Policy(Autonomy.APPROVE), replace(WISH, is_undo=True)).is_allowed
    assert not ruled(Policy(Autonomy.SUGGEST), replace(WISH, is_undo=True)).is_allowed


@pytest.mark.parametrize("scope", list(UserImpact))
@pytest.mark.parametrize("radius", list(UserImpact))
def test_impact_beyond_the_incident_needs_approval(scope: UserImpact, radius: UserImpact) -> None:
    wish = replace(WISH, action=entry(blast_radius=radius))
    order = list(UserImpact)
    found = ruled(wish=wish, scope=scope)
    assert found.is_allowed is (order.index(radius) <= order.index(scope))
    assert found.is_allowed or (found.verdict, found.ground) == (Permission.NEEDS_APPROVAL, PolicyRule.SCOPE)
    assert ruled(wish=replace(wish, is_approved=True), scope=scope).is_allowed


SITUATIONS = st.builds(
    Situation,
    now_us=st.just(NOW_US),
    scope=st.sampled_from(UserImpact),
    is_stopped=st.booleans(),
    server_is_stopped=st.sampled_from([True, False, None]),
    is_stale=st.booleans(),
    failing_dependencies=st.lists(st.sampled_from(["database", "cache"]), unique=True),
    host_is_failing=st.booleans(),
    others=st.sampled_from([None, (), ("ann: restart",)]),
    actions=st.lists(
        st.builds(
            earlier,
            st.integers(-100, 4_000),
            status=st.sampled_from(ActionStatus),
            target=st.sampled_from(["target", "database"]),
        ),
        max_size=6,
    ),
)
WISHES = st.builds(
    ProposedAction,
    st.builds(
        entry,
        action_class=st.sampled_from(["restart", "session", READ]),
        blast_radius=st.sampled_from([item for item in UserImpact if item is not UserImpact.NONE]),
    ),
    st.sampled_from(["target", "database"]),
    st.just("i1"),
    is_undo=st.booleans(),
    is_approved=st.booleans(),
)


@settings(max_examples=50)
@given(SITUATIONS, WISHES, st.sampled_from([Autonomy.OBSERVE, Autonomy.SUGGEST]))
def test_observe_and_suggest_never_allow_a_change(
    situation: Situation, wish: ProposedAction, autonomy: Autonomy
) -> None:
    found = rules.rule(Policy(autonomy), wish, situation)
    assert found.verdict in {Permission.REFUSED, Permission.STAND_DOWN}


@settings(max_examples=50)
@given(SITUATIONS, st.sampled_from(Autonomy))
def test_probe_is_always_allowed(situation: Situation, autonomy: Autonomy) -> None:
    look = ProposedAction(entry("look", action_class=READ, blast_radius=UserImpact.NONE), "target", "i1")
    assert rules.rule(Policy(autonomy), look, situation).is_allowed


@settings(max_examples=50)
@given(SITUATIONS, WISHES, st.sampled_from(Autonomy))
def test_refusal_has_a_reason_and_a_remedy(situation: Situation, wish: ProposedAction, autonomy: Autonomy) -> None:
    found = rules.rule(Policy(autonomy), wish, situation)
    assert found.reason
    assert found.is_allowed or found.remedy
    if found.is_allowed:
        assert not any((situation.is_stopped, situation.is_stale, situation.others))
        assert situation.server_is_stopped is False
        assert wish.is_approved or wish.is_undo or autonomy is Autonomy.ACT
        assert wish.is_approved or wish.is_undo or not wish.action.blast_radius.exceeds(situation.scope)


class Night(RuleBasedStateMachine):
    """A responder that attempts actions at random, with clock steps, kill switches and other actors."""

    LIMITS = Policy(
        Autonomy.ACT,
        max_actions_per_incident=3,
        max_actions_per_window=4,
        max_actions_per_part=2,
        action_window_s=600.0,
        cooldown_s=30.0,
    )

    def __init__(self) -> None:
        super().__init__()
        self.now_us = self.latest_us = NOW_US
        self.is_stopped = False
        self.acts: list[ActionRecord] = []

    @rule(seconds=st.one_of(st.integers(1, 60), st.sampled_from([300, 599, 600, 601, -200, -3_600])))
    def time_passes(self, seconds: int) -> None:
        self.now_us += seconds * SECOND_US

    @rule(stopped=st.booleans())
    def somebody_switches(self, stopped: bool) -> None:
        self.is_stopped = stopped

    @rule(
        action=st.sampled_from(["restart-worker", "restart-target", "end-session"]),
        part=st.sampled_from(["target", "database", "cache"]),
        incident=st.sampled_from(["i1", "i2"]),
        status=st.sampled_from(ActionStatus),
    )
    def it_wants_to_act(self, action: str, part: str, incident: str, status: ActionStatus) -> None:
        situation = Situation(self.now_us, WHOLE, is_stopped=self.is_stopped, actions=tuple(self.acts))
        ruling = rules.rule(self.LIMITS, ProposedAction(entry(action), part, incident), situation)
        if ruling.is_allowed:
            assert not self.is_stopped
            # An action that was requested longer ago than the window is not in progress any more.
            begins_us = self.now_us - int(self.LIMITS.action_window_s * SECOND_US)
            assert not any(item.status is ActionStatus.ASKED and item.asked_at > begins_us for item in self.acts)
            self.acts.append(act(action=action, target=part, incident_id=incident, status=status, asked_at=self.now_us))

    @rule(status=st.sampled_from([ActionStatus.SUCCEEDED, ActionStatus.FAILED, ActionStatus.UNDONE]))
    def it_learns_what_became_of_it(self, status: ActionStatus) -> None:
        for number, item in enumerate(self.acts):
            if item.status is ActionStatus.ASKED:
                self.acts[number] = item.model_copy(update={"status": status})

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        counted = [item for item in self.acts if item.counts]
        for incident in ("i1", "i2"):
            assert sum(item.incident_id == incident for item in counted) <= self.LIMITS.max_actions_per_incident
        for item in counted:
            until_us = item.asked_at + int(self.LIMITS.action_window_s * SECOND_US)
            window = [other for other in counted if item.asked_at <= other.asked_at < until_us]
            assert len(window) <= self.LIMITS.max_actions_per_window
            assert sum(other.target == item.target for other in window) <= self.LIMITS.max_actions_per_part
            twins = [
                other
                for other in window
                if other is not item and (other.action, other.target) == (item.action, item.target)
            ]
            assert all(other.asked_at - item.asked_at >= self.LIMITS.cooldown_s * SECOND_US for other in twins)


TestNight = Night.TestCase
TestNight.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
