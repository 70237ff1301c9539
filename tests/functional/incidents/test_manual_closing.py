"""A person closes an incident as repaired while the responder works: it stops, verifies and learns nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from relab.core.errors import NotFoundError
from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.detection.detector import MAX_MUTED_S
from relab.incidents.models import Severity
from relab.incidents.response.closing_nodes import ClosingNodes
from relab.incidents.response.state import IncidentState
from relab.incidents.storage.ending import manual_closing
from relab.incidents.storage.errors import IncidentOverError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus
from relab.knowledge.service import KnowledgeService
from support.incidents.runbooks import past
from support.shops.books import CURE, write_books
from support.shops.closing import close
from support.shops.small import (
    HEALTH,
    RUIN,
    Means,
    Watching,
    hasty,
    learnt,
    over,
    polled,
    watching,
    with_status,
)
from support.shops.ways import GoOn, Way, at, is_act, is_dry_run, is_record_list

pytestmark = pytest.mark.anyio
ASKS = Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0)
OBSERVES = Policy(autonomy=Autonomy.OBSERVE)
CLOSED = IncidentOutcome.CLOSED_BY_PERSON


async def ended(running: Watching) -> None:
    """Wait until the responder has left the incident, and polled several times afterwards."""
    await running.until(lambda: running.responder.incident_id is None)
    await running.until(polled(running, 10))


def is_learnt_from(running: Watching, incident: Incident) -> bool:
    """Return whether the incident is stored as a past incident."""
    knowledge: KnowledgeService = running.world.knowledge
    try:
        knowledge.get(incident.incident_id)
    except NotFoundError:
        return False
    return True


async def test_escalated_incident_is_closed_and_nothing_is_learnt(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.broken.clear()
        closed = close(running, fresh)
        await ended(running)

    assert [each.outcome for each in running.incidents()] == [CLOSED]
    assert closed.diagnosis == "valve_a_shut"
    assert not is_learnt_from(running, closed)
    assert way.acts == []


async def test_closing_while_a_request_waits_ends_the_wait(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        waits = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        fresh.shop.broken.clear()
        close(running, fresh)
        with pytest.raises(IncidentOverError):
            running.answer(waits, approved=True)
        await ended(running)

    assert [each.outcome for each in running.incidents()] == [CLOSED]
    assert way.acts == []


@pytest.mark.parametrize("moment", ["after_the_approval", "during_its_dry_run"])
async def test_approved_plan_of_a_closed_incident_is_not_executed(fresh: Means, way: Way, moment: str) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        waits = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        if moment == "during_its_dry_run":
            way.meet = at(is_dry_run, 1, lambda: close(running, fresh))
        fresh.may_poll.clear()
        await fresh.is_held.wait()
        running.answer(waits, approved=True)
        if moment == "after_the_approval":
            close(running, fresh)
        fresh.may_poll.set()
        await running.until(over(running))
        fresh.shop.broken.clear()
        await ended(running)

    assert running.incidents()[0].outcome is CLOSED
    assert way.acts == []
    assert fresh.shop.valves.read() == {}


async def test_result_of_an_action_in_progress_is_stored_and_not_verified(fresh: Means, way: Way) -> None:
    way.meet = at(is_act, 1, lambda: close(running, fresh))
    running: Watching
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(over(running))
        await ended(running)
        (act,) = running.log.actions.of_incident(found.incident_id)
        events = running.log.read_after(found.incident_id)

    assert found.outcome is CLOSED
    assert act.status is ActionStatus.SUCCEEDED
    assert act.effect is None
    assert len(way.acts) == 1
    assert [event.kind for event in events].count("verified") == 0
    said = "The result of turn_valve on a was not known at that time. The responder does not undo turn_valve on a."
    assert said in next(event.message for event in events if event.is_terminal)
    assert not is_learnt_from(running, found)


async def test_lost_request_of_a_closed_incident_is_not_sent_again(fresh: Means, way: Way) -> None:
    async def lose(_request: httpx.Request, _go_on: GoOn) -> httpx.Response:
        raise httpx.ReadError("the connection broke")

    running: Watching
    way.meet = at(is_act, 1, lambda: close(running, fresh), then=lose)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(over(running))
        fresh.shop.broken.clear()
        await ended(running)

    assert found.outcome is CLOSED
    assert len(way.acts) == 1
    assert fresh.shop.valves.read() == {}


async def test_harmful_action_of_a_closed_incident_is_left_to_the_person(
    fresh: Means, way: Way, tmp_path: Path
) -> None:
    running: Watching
    write_books(tmp_path / "books", [RUIN, CURE])
    way.meet = at(is_act, 1, lambda: close(running, fresh))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(over(running))
        await running.until(lambda: running.responder.incident_id != found.incident_id)
        acts = running.log.actions.of_incident(found.incident_id)

    assert [act.action for act in acts] == ["turn_valve"]
    assert [each for each in way.undos if found.incident_id in str(each.url)] == []
    assert acts[0].effect is None


async def test_closing_during_verification_ends_it(fresh: Means, way: Way) -> None:
    settings = fresh.settings
    fresh.settings = replace(
        settings, verification=replace(settings.verification, min_healthy_s=1e6, min_healthy_polls=9)
    )
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(lambda: way.acts or None)
        (incident,) = running.incidents()
        act = await running.until(
            lambda: next(
                (
                    each
                    for each in running.log.actions.of_incident(incident.incident_id)
                    if each.status is ActionStatus.SUCCEEDED
                ),
                None,
            )
        )
        close(running, fresh)
        await ended(running)
        again = running.log.actions.get(act.key)

    assert [each.outcome for each in running.incidents()] == [CLOSED]
    assert again.effect is not RepairResult.VERIFIED
    assert "The responder does not undo turn_valve on a." in running.story()
    assert not is_learnt_from(running, incident)


@pytest.mark.parametrize("autonomy", [Autonomy.OBSERVE, Autonomy.ACT])
async def test_restarted_responder_leaves_a_closed_incident_alone(fresh: Means, way: Way, autonomy: Autonomy) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        waits = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        running.answer(waits, approved=True)
        fresh.may_poll.clear()
        running.task.cancel()
    fresh.shop.broken.clear()
    if not running.incidents()[0].is_over and not way.acts:
        close(running, fresh)
    fresh.settings = hasty(Policy(autonomy=autonomy, cooldown_s=0.0))
    async with watching(fresh, "second") as second:
        await second.until(lambda: second.responder.is_leading)
        await second.until(polled(second, 20))

    assert [each.outcome for each in second.incidents()] == [CLOSED]
    assert way.acts == []


async def test_problem_that_lasts_after_the_closing_opens_a_new_incident(fresh: Means) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        first = close(running, fresh)
        _, second = await running.until(lambda: running.incidents()[1:] and running.incidents()[:2])

    assert first.closed_at is not None
    assert second.opened_at - first.closed_at >= MAX_MUTED_S * 1_000_000


async def test_figures_that_lag_behind_the_repair_open_no_new_incident(fresh: Means) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        close(running, fresh)
        await running.until(polled(running, 30))
        fresh.shop.broken.clear()
        await running.until(polled(running, 60))

    assert [each.outcome for each in running.incidents()] == [CLOSED]


async def test_unconfirmed_sign_of_the_repaired_problem_opens_no_new_incident(fresh: Means) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(lambda: running.incidents() and running.world.watch.findings.passing)
        # Hold the polls: ten seconds later the degraded health status is confirmed, and belongs to the incident.
        fresh.may_poll.clear()
        shown = running.world.watch.findings
        close(running, fresh)
        fresh.shop.lies[HEALTH] = fresh.shop.truth()[HEALTH] | {"dependencies": {}, "health_status": "degraded"}
        del fresh.shop.lies[HEALTH]["timestamp"]
        fresh.shop.broken.clear()
        fresh.may_poll.set()
        await running.until(polled(running, 30))
        fresh.shop.lies.clear()
        await running.until(polled(running, 60))

    assert "health" in {item.signal for item in shown.passing}
    assert [each.outcome for each in running.incidents()] == [CLOSED]


async def test_another_problem_after_the_closing_opens_an_incident_at_once(fresh: Means) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.broken.clear()
        first = close(running, fresh)
        await ended(running)
        broke_us = fresh.shop.clock.now_us()
        fresh.shop.broken.add("b")
        found = await running.until(lambda: running.incidents()[1:] and running.incidents()[:2])

    assert found[0].incident_id == first.incident_id
    # The clock of the shop moves by a second with each poll.
    assert found[1].opened_at - broke_us <= 10_000_000


async def test_repair_that_was_verified_after_the_closing_is_not_learnt(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        now_us = fresh.shop.clock.now_us()
        made = running.log.open("another shop", at_us=now_us, title="Errors", severity=Severity.WARNING).incident
        running.log.closings.close(made.incident_id, manual_closing("ann", "Done."), at_us=now_us)
        state: IncidentState = {"incident_id": made.incident_id, "is_resolved": True, "known": {}}
        with pytest.raises(IncidentOverError):
            await ClosingNodes(running.world).learn(state)

        assert not is_learnt_from(running, made)
        assert running.log.get(made.incident_id).outcome is CLOSED


async def test_nothing_is_learnt_from_an_incident_that_is_closed_while_it_is_learnt(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        # `learn` reads the records of others between its check of the incident and the storing.
        way.meet = at(is_record_list, 1, lambda: close(running, fresh))
        fresh.shop.broken.clear()
        await ended(running)

    assert running.log.get(found.incident_id).outcome is CLOSED
    assert not is_learnt_from(running, found)


async def test_past_incident_that_was_stored_before_a_person_closes_is_deleted(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        knowledge: KnowledgeService = running.world.knowledge
        log = IncidentLog(fresh.database, forget=knowledge.forget)
        now_us = fresh.shop.clock.now_us()
        made = [
            log.open(f"{fresh.target}-{number}", at_us=now_us, title="Errors", severity=Severity.WARNING).incident
            for number in range(3)
        ]
        for each in made:
            with log.while_open(each.incident_id) as unit:
                knowledge.remember(past(each.incident_id, "valve_a_shut"), unit)
        log.closings.close(made[0].incident_id, manual_closing("ann", "Done."), at_us=now_us)
        log.close(made[1].incident_id, at_us=now_us, outcome=IncidentOutcome.DISMISSED)
        log.close(made[2].incident_id, at_us=now_us, outcome=IncidentOutcome.RESOLVED)
        log.close(made[2].incident_id, at_us=now_us, outcome=IncidentOutcome.DISMISSED)

        assert [is_learnt_from(running, each) for each in made] == [False, False, True]
        with pytest.raises(IncidentOverError), log.while_open(made[0].incident_id):
            raise AssertionError("the incident is over")
