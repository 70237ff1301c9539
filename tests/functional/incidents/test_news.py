"""What begins with a little and becomes more: an incident without a cause is looked into again when something else goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.incidents.acting.policy import Autonomy, Policy
from relab.incidents.response.ending import MOST_RELOOKS
from relab.incidents.storage.models import IncidentStatus, Outcome
from relab.storage.migrate import upgrade
from support.small_shops import (
    FlakyDatabase,
    FlakySaver,
    Means,
    Watching,
    a_shop,
    hasty,
    learnt,
    over,
    watching,
    with_status,
    write_books,
)
from support.ways import Way

pytestmark = pytest.mark.anyio
HEALTH = "/api/v1/health"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def means(tmp_path: Path) -> Iterator[Means]:
    database = FlakyDatabase.open(f"sqlite:///{tmp_path / 'relab.db'}")
    assert isinstance(database, FlakyDatabase)
    upgrade(database)
    with a_shop(tmp_path / "shop") as shop:
        policy = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)
        books = write_books(tmp_path / "books")
        yield Means(shop, database, FlakySaver(database), books, hasty(policy), way=Way(shop.app))
    database.close()


def grumble(means: Means, *failing: str) -> None:
    """The target calls itself degraded, and says of some dependencies, which nobody knows, that they fail."""
    truth = means.shop.truth()[HEALTH]
    others = {name: {"ok": False} for name in failing}
    means.shop.lies[HEALTH] = {
        # It tells no time here, so its figures do not become old.
        **{name: told for name, told in truth.items() if name != "timestamp"},
        "health_status": "degraded",
        "dependencies": {**truth["dependencies"], **others},
    }


def count(running: Watching, kind: str) -> int:
    events = [event for each in running.incidents() for event in running.log.read_after(each.incident_id)]
    return sum(event.kind == kind for event in events)


async def test_what_goes_wrong_later_is_looked_into_and_mended(means: Means) -> None:
    async with watching(means) as running:
        await learnt(running)
        grumble(means)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert means.shop.valves.read().get("a") != means.shop.cure

        means.shop.lies.clear()
        means.shop.broken.add("a")
        found = await running.until(over(running))

    assert (found.outcome, found.diagnosis) == (Outcome.RESOLVED, "valve_a_shut")
    assert count(running, "looks_again") == 1
    assert count(running, "escalated") == 1
    assert [act.effect for act in running.log.acts.of_incident(found.incident_id)] == ["verified"]


async def test_what_a_person_stirs_up_while_mending_is_no_news(means: Means) -> None:
    async with watching(means) as running:
        await learnt(running)
        grumble(means)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        means.shop.do("ann", "c", 7)
        means.shop.lies.clear()
        means.shop.broken.add("a")
        polls = running.responder.polls
        await running.until(lambda: running.responder.polls > polls + 20)
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == 0
    assert running.log.acts.of_incident(incident.incident_id) == []


async def test_it_is_not_looked_into_for_ever(means: Means) -> None:
    async with watching(means) as running:
        await learnt(running)
        grumble(means)
        for number in range(MOST_RELOOKS):
            await running.until(lambda number=number: count(running, "escalated") == number + 1)
            grumble(means, *(f"part-{at}" for at in range(number + 1)))
        await running.until(lambda: count(running, "escalated") == MOST_RELOOKS + 1)
        polls = running.responder.polls
        grumble(means, *(f"part-{at}" for at in range(MOST_RELOOKS + 2)))
        await running.until(lambda: running.responder.polls > polls + 20)
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == MOST_RELOOKS
    assert running.log.acts.of_incident(incident.incident_id) == []


async def test_where_a_person_has_said_no_it_is_left_to_people(means: Means) -> None:
    means.settings = hasty(Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0))
    async with watching(means) as running:
        await learnt(running)
        means.shop.broken.add("a")
        asked = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        (question, _), *_ = running.log.approvals.of_incident(asked.incident_id)
        running.log.approvals.decide(
            question.approval_id, approved=False, by="ann", note="", now_us=means.shop.clock.now_us()
        )
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        polls = running.responder.polls
        means.shop.broken.add("b")
        await running.until(lambda: running.responder.polls > polls + 20)
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == 0
    assert running.log.acts.of_incident(incident.incident_id) == []
