"""What begins with a little and becomes more: an incident without a cause is looked into again when something else goes wrong."""

from __future__ import annotations

import pytest

from relab.incidents.acting.policy import Autonomy, Policy
from relab.incidents.response.ending import MOST_RELOOKS
from relab.incidents.storage.models import IncidentStatus, Outcome
from support.small_shops import (
    Means,
    Watching,
    hasty,
    learnt,
    over,
    watching,
    with_status,
)

pytestmark = pytest.mark.anyio


def count(running: Watching, kind: str) -> int:
    events = [event for each in running.incidents() for event in running.log.read_after(each.incident_id)]
    return sum(event.kind == kind for event in events)


async def test_what_goes_wrong_later_is_looked_into_and_mended(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble()
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert fresh.shop.valves.read().get("a") != fresh.shop.cure

        fresh.shop.lies.clear()
        fresh.shop.broken.add("a")
        found = await running.until(over(running))

    assert (found.outcome, found.diagnosis) == (Outcome.RESOLVED, "valve_a_shut")
    assert count(running, "looks_again") == 1
    assert count(running, "escalated") == 1
    assert [act.effect for act in running.log.acts.of_incident(found.incident_id)] == ["verified"]


async def test_what_a_person_stirs_up_while_mending_is_no_news(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble()
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.do("ann", "c", 7)
        fresh.shop.lies.clear()
        fresh.shop.broken.add("a")
        polls = running.responder.polls
        await running.until(lambda: running.responder.polls > polls + 20)
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == 0
    assert running.log.acts.of_incident(incident.incident_id) == []


async def test_it_is_not_looked_into_for_ever(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble()
        for number in range(MOST_RELOOKS):
            await running.until(lambda number=number: count(running, "escalated") == number + 1)
            fresh.shop.grumble(*(f"part-{at}" for at in range(number + 1)))
        await running.until(lambda: count(running, "escalated") == MOST_RELOOKS + 1)
        polls = running.responder.polls
        fresh.shop.grumble(*(f"part-{at}" for at in range(MOST_RELOOKS + 2)))
        await running.until(lambda: running.responder.polls > polls + 20)
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == MOST_RELOOKS
    assert running.log.acts.of_incident(incident.incident_id) == []


async def test_where_a_person_has_said_no_it_is_left_to_people(fresh: Means) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        asked = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        running.answer(asked, approved=False)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        polls = running.responder.polls
        fresh.shop.broken.add("b")
        await running.until(lambda: running.responder.polls > polls + 20)
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == 0
    assert running.log.acts.of_incident(incident.incident_id) == []
