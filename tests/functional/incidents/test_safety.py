"""Safety rules of a whole responder with real polls, graph, database and action server, in a small shop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from relab.incidents.actions.approvals import ApprovalExpiredError, ApprovalRequest
from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from support.shops.books import CURE, write_books
from support.shops.small import RUIN, Means, Watching, hasty, learnt, over, watching, with_status
from support.shops.ways import (
    GoOn,
    Way,
    at,
    is_act,
    is_dry_run,
    is_switch,
    is_undo,
    lost,
)

pytestmark = pytest.mark.anyio

ACTS = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)


async def test_fault_is_repaired(means: Means, way: Way) -> None:
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(over(running))
        (act,) = running.log.actions.of_incident(found.incident_id)
    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == "valve_a_shut"
    assert way.keys == [act.key]
    assert means.shop.valves.read() == {"a": CURE}


# --- The kill switch, at any moment.


def pause(means: Means) -> Callable[[], object]:
    log, now_us = IncidentLog(means.database), means.shop.clock.now_us()
    return lambda: log.switches.pause(means.target, by="ada", at_us=now_us)


@pytest.mark.parametrize("moment", [1, 2])
async def test_kill_switch_before_an_action_prevents_it(means: Means, way: Way, moment: int) -> None:
    # The switch is read first when the plan is made, and again just before its execution.
    way.meet = at(is_switch, moment, pause(means))
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        acts, story = running.log.actions.of_incident(found.incident_id), running.story()
    assert way.acts == []
    assert acts == []
    assert means.shop.valves.read() == {}
    # The target was paused by name, and a command for all targets would not resume it.
    assert f"lab incidents resume --target {means.target}" in story


@pytest.mark.full
async def test_kill_switch_during_an_action_prevents_the_next(means: Means, way: Way) -> None:
    way.meet = at(is_act, 1, pause(means), then=lost)
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        (act,) = running.log.actions.of_incident(found.incident_id)
    assert len(way.acts) == 1
    assert act.status == ActionStatus.ASKED
    assert means.shop.valves.read() == {}


@pytest.mark.full
async def test_harmful_action_is_not_undone_while_the_kill_switch_is_on(means: Means, way: Way, tmp_path: Path) -> None:
    write_books(tmp_path / "books", [RUIN])
    way.meet = at(is_act, 1, pause(means))
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        told = running.story()
    assert way.undos == []
    assert means.shop.valves.read() == {"a": RUIN}
    assert "could not be undone: The kill switch is on." in told


async def test_harmful_action_is_recorded_and_undone(means: Means, way: Way, tmp_path: Path) -> None:
    write_books(tmp_path / "books", [RUIN])
    log, written = IncidentLog(means.database), []
    way.meet = at(is_undo, 1, lambda: written.extend(log.actions.unsettled(means.target)))
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        act, undo = running.log.actions.of_incident(found.incident_id)
    assert [(each.key, each.undoes) for each in written] == [(undo.key, act.record_id)]
    assert act.status == ActionStatus.UNDONE
    assert act.effect == RepairResult.WORSE
    assert undo.status == ActionStatus.SUCCEEDED
    assert len(way.acts) == 1
    assert len(way.undos) == 1
    assert means.shop.valves.read() == {"a": 0}


# --- Approvals.


def question(running: Watching, number: int = 0) -> Callable[[], ApprovalRequest | None]:
    def found() -> ApprovalRequest | None:
        asked = [
            each for incident in running.incidents() for each in running.log.approvals.of_incident(incident.incident_id)
        ]
        return asked[number][0] if len(asked) > number else None

    return found


def decide(running: Watching, request: ApprovalRequest, approved: bool) -> None:
    now_us = running.world.clock.now_us()
    running.log.approvals.decide(request.approval_id, approved=approved, by="ada", now_us=now_us)


@pytest.mark.full
async def test_unanswered_request_is_renewed_after_expiry_and_nothing_is_done(means: Means, way: Way) -> None:
    means.settings = hasty(Policy())
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        first = await running.until(question(running))
        means.shop.clock.move(601)
        second = await running.until(question(running, 1))
        assert way.acts == []
        assert first.plan.fingerprint == second.plan.fingerprint
        with pytest.raises(ApprovalExpiredError):
            decide(running, first, approved=True)
        decide(running, second, approved=True)
        found = await running.until(over(running))
        (act,) = running.log.actions.of_incident(found.incident_id)
    assert found.outcome == IncidentOutcome.RESOLVED
    assert act.approved_by == "ada"
    assert way.keys == [act.key]


@pytest.mark.full
async def test_approval_of_another_state_does_not_count(means: Means, way: Way) -> None:
    means.settings = hasty(Policy())
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        first = await running.until(question(running))
        means.shop.valves.write("a", 5)
        decide(running, first, approved=True)
        second = await running.until(question(running, 1))
        assert way.acts == []
        assert first.state_digest != second.state_digest
        decide(running, second, approved=False)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
    assert way.acts == []


@pytest.mark.full
async def test_approval_withdrawn_at_the_last_moment_does_not_count(means: Means, way: Way) -> None:
    means.settings = hasty(Policy())
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        request = await running.until(question(running))
        # The next dry run checks the approval, which the responder has read by then.
        way.meet = at(is_dry_run, 1, lambda: decide(running, request, approved=False))
        decide(running, request, approved=True)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        told = running.story()
    assert way.acts == []
    assert "was rejected by ada" in told


# --- Operators and other responders.


@pytest.mark.full
@pytest.mark.parametrize("clocks_differ_s", [0, -7_200, 7_200])
async def test_an_operator_who_repairs_meanwhile_is_not_interfered_with(
    means: Means, way: Way, clocks_differ_s: int
) -> None:
    shop = means.shop
    shop.server_clock.behind_s = -clocks_differ_s
    way.meet = at(is_switch, 2, lambda: shop.do("ann", "a", CURE))
    async with watching(means) as running:
        await learnt(running)
        shop.broken.add("a")
        found = await running.until(over(running))
        told = running.story()
    assert way.acts == []
    assert shop.valves.read() == {"a": CURE}
    assert "Others have acted since the incident was detected: ann did turn_valve to a." in told
    assert found.outcome is IncidentOutcome.ESCALATED


async def test_responder_that_lost_the_lease_does_nothing_more(means: Means, way: Way) -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    async def freeze(_request: httpx.Request, answer: GoOn) -> httpx.Response:
        # The whole process hangs at the last check before the action, as if it were stopped.
        held.set()
        await go_on.wait()
        return await answer()

    way.meet = at(is_switch, 2, means.may_poll.clear, then=freeze)
    async with watching(means, "first") as first:
        await learnt(first)
        means.shop.broken.add("a")
        await held.wait()
        await means.is_held.wait()
        means.shop.clock.move(60)
        second_way = Way(means.shop.app)
        others = replace(means, way=second_way, may_poll=asyncio.Event())
        async with watching(others, "second") as second:
            found = await second.until(over(second))
        assert found.outcome == IncidentOutcome.RESOLVED
        assert way.acts == []
        assert len(second_way.acts) == 1
        go_on.set()
        means.may_poll.set()
        polls = first.responder.polls
        await first.until(lambda: first.responder.polls > polls + 5)
        assert first.responder.is_leading
        (act,) = first.log.actions.of_incident(found.incident_id)
    assert way.acts == []
    assert act.effect == RepairResult.VERIFIED


# --- Budgets, and more than one cause.


@pytest.mark.full
async def test_second_cause_that_appears_during_the_repair_is_repaired_too(means: Means, way: Way) -> None:
    way.meet = at(is_act, 1, lambda: means.shop.broken.add("b"))
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(over(running))
        acts = running.log.actions.of_incident(found.incident_id)
        story = running.story()
    assert found.outcome == IncidentOutcome.RESOLVED, story
    assert found.diagnosis == "valve_b_shut", story
    assert [act.effect for act in acts] == [RepairResult.MITIGATED, RepairResult.VERIFIED]
    assert len(way.acts) == 2
    assert means.shop.valves.read() == {"a": CURE, "b": CURE}


@pytest.mark.full
async def test_two_simultaneous_causes_end_in_resolution_or_escalation(means: Means, way: Way) -> None:
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.update("ab")
        found = await running.until(lambda: over(running)() or with_status(running, IncidentStatus.ESCALATED)())
        acts = running.log.actions.of_incident(found.incident_id)
    assert len(set(way.keys)) == len(acts)
    assert len(way.acts) <= 2
    assert means.shop.failing() == [] or "A person is needed." in found.recommendation


@pytest.mark.full
async def test_incident_is_escalated_when_the_action_budget_is_used_up(means: Means, way: Way) -> None:
    means.settings = hasty(replace(ACTS, max_actions_per_window=1))
    way.meet = at(is_act, 1, lambda: means.shop.broken.add("b"))
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
    assert len(way.acts) == 1
    assert "actions were done within" in found.recommendation
