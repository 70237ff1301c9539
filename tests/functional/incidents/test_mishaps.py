"""Faults of the action server and of the database during an incident: no action is executed twice."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from support.shops.books import CURE
from support.shops.small import Means, learnt, over, watching, with_status
from support.shops.ways import (
    GoOn,
    Way,
    at,
    is_act,
    is_dry_run,
    is_switch,
    lie,
    lose_everything_from_the_first_act,
    said,
)
from support.storage.flaky_databases import FlakyDatabase

pytestmark = pytest.mark.anyio


# --- Wrong, rejected and lost answers of the action server.


@pytest.mark.full
async def test_false_success_is_detected_and_the_action_not_repeated(means: Means, way: Way) -> None:
    way.meet = at(is_act, 1, lambda: None, then=lie)
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        (act,) = running.log.actions.of_incident(found.incident_id)
    assert len(way.acts) == 1
    assert act.status == ActionStatus.SUCCEEDED
    assert act.effect == RepairResult.FAILED


@pytest.mark.full
@pytest.mark.parametrize(
    "answer", [(412, "stale_precondition"), (409, "in_progress"), (429, "too_many"), (503, "stopped")]
)
async def test_temporarily_rejected_action_is_planned_again(means: Means, way: Way, answer: tuple[int, str]) -> None:
    status, code = answer
    left = 3 if code == "in_progress" else 1

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal left
        if is_act(request) and left:
            left -= 1
            return said(status, {"code": code, "detail": "Not now."})
        return await go_on()

    way.meet = meet
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        found = await running.until(over(running))
        acts = running.log.actions.of_incident(found.incident_id)
    assert [act.status for act in acts] == [ActionStatus.REFUSED, ActionStatus.SUCCEEDED]
    assert found.outcome == IncidentOutcome.RESOLVED
    assert len(means.shop.actions.audit.newest(10)) == 1


@pytest.mark.full
async def test_repeatedly_rejected_action_is_escalated(means: Means, way: Way) -> None:
    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        return said(412, {"code": "stale_precondition"}) if is_act(request) else await go_on()

    way.meet = meet
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
    assert len(way.acts) == 3


@pytest.mark.full
async def test_unknown_result_is_settled_before_the_next_action(means: Means, way: Way) -> None:
    way.meet = lose_everything_from_the_first_act()
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert len(set(way.keys)) == 1
        way.meet = None
        means.shop.broken.clear()
        first = await running.until(over(running))
        (act,) = running.log.actions.of_incident(first.incident_id)
        assert act.status is ActionStatus.ASKED
        means.shop.clock.move(100)
        means.shop.broken.add("b")
        await running.until(lambda: len(running.incidents()) > 1 and running.incidents()[1].is_over)
        assert running.log.actions.get(act.key).status is ActionStatus.REFUSED
    assert means.shop.valves.read() == {"b": CURE}


# --- Outages of the database.


@pytest.mark.full
async def test_fault_during_an_outage_is_found_afterwards(means: Means, way: Way, flaky: FlakyDatabase) -> None:
    async with watching(means) as running:
        await learnt(running)
        flaky.is_away = True
        means.shop.broken.add("a")
        polls = running.responder.polls
        await running.until(lambda: running.responder.polls > polls + 30)
        assert way.acts == []
        flaky.is_away = False
        found = await running.until(over(running))
    assert found.outcome == IncidentOutcome.RESOLVED
    assert len(way.acts) == 1


@pytest.mark.parametrize(
    "moment",
    [
        (is_switch, 1),
        pytest.param((is_dry_run, 1), marks=pytest.mark.full),
        pytest.param((is_switch, 2), marks=pytest.mark.full),
        (is_act, 1),
    ],
)
async def test_responder_waits_for_the_end_of_a_database_outage(
    means: Means, way: Way, flaky: FlakyDatabase, moment: tuple[Callable[[httpx.Request], bool], int]
) -> None:
    def go_away() -> None:
        flaky.is_away = True

    way.meet = at(*moment, go_away)
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        await running.until(lambda: flaky.is_away)
        polls = running.responder.polls
        await running.until(lambda: running.responder.polls > polls + 60)
        flaky.is_away = False
        found = await running.until(over(running))
        (act,) = running.log.actions.of_incident(found.incident_id)
    assert found.outcome == IncidentOutcome.RESOLVED
    assert act.effect == RepairResult.VERIFIED
    assert len(set(way.keys)) == 1
    assert len(means.shop.actions.audit.newest(10)) == 1
