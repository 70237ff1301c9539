"""Diagnoses and waits without a call of a person end in time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import httpx
import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.storage.models import IncidentStatus, TimelineEvent
from support.shops.small import Means, Watching, hasty, learnt, watching, with_status
from support.shops.ways import GoOn, Way, is_dry_run, said

pytestmark = pytest.mark.anyio
ACTS = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)
LIMIT_S = 60.0


def events(running: Watching, kind: str) -> list[TimelineEvent]:
    """Return the events of a kind, in order."""
    return [event for each in running.incidents() for event in running.events(each) if event.kind == kind]


async def test_repeated_diagnosis_of_a_confirmed_cause_ends_although_no_poll_comes(fresh: Means, way: Way) -> None:
    async def refuse(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        if not is_dry_run(request):
            return await go_on()
        fresh.shop.broken.clear()
        fresh.may_poll.clear()
        return said(409, {"code": "precondition_failed", "detail": "It is not shut."})

    way.meet = refuse
    fresh.settings = replace(hasty(ACTS), rediagnosis_timeout_s=0.05)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(lambda: len(events(running, "diagnosed")) == 2)
        assert not fresh.may_poll.is_set()


async def test_waits_while_others_act_end_in_time_with_a_handover(fresh: Means, way: Way) -> None:
    positions = itertools.cycle((4, 5))

    async def others_act(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        if is_dry_run(request):
            fresh.shop.do("ann", "b", next(positions))
        return await go_on()

    way.meet = others_act
    fresh.settings = hasty(ACTS, max_stand_downs=1_000_000, stand_down_timeout_s=LIMIT_S)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        waits = [event.at for event in events(running, "stood_down")]

    assert len(waits) > 2
    assert all(at_us - waits[0] < LIMIT_S * 1_000_000 for at_us in waits[:-1])
