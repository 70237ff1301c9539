"""Outages that begin during an open incident: people are notified of each one, and the responder investigates it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.notices.composition import NoticeContext, notice_of
from relab.incidents.response.news import MAX_REDIAGNOSES
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, Phase, TimelineEvent
from support.shops.books import CURE
from support.shops.small import (
    HEALTH,
    Means,
    Watching,
    escalated,
    hasty,
    learnt,
    over,
    polled,
    unknown,
    watching,
    with_status,
)
from support.shops.ways import Way, at, is_act

pytestmark = pytest.mark.anyio
ASKS = Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0)
BOUND_US = 60 * 1_000_000
RECOVERED_POLLS = 35


def events(running: Watching, *kinds: str) -> list[TimelineEvent]:
    found = [event for each in running.incidents() for event in running.events(each)]
    return [event for event in found if not kinds or event.kind in kinds]


def count(running: Watching, kind: str) -> int:
    return len(events(running, kind))


def notices(running: Watching) -> list[TimelineEvent]:
    """Return the events that people are notified of."""
    found = []
    for incident in running.incidents():
        asked = running.stored(running.log.approvals.of_incident, incident.incident_id)
        context = NoticeContext(incident, question=asked[-1][0] if asked else None)
        own = running.events(incident)
        found += [event for event in own if notice_of(event, context) is not None]
    return found


def notified_since(running: Watching, began_us: int) -> Callable[[], bool]:
    """Return a check whether people were notified after an outage began."""
    return lambda: any(event.at > began_us for event in notices(running))


async def require_notice(running: Watching, means: Means, began_us: int) -> TimelineEvent:
    """Return the first notice after an outage began; it must come within a minute."""
    await running.until(notified_since(running, began_us))
    found = next(event for event in notices(running) if event.at > began_us)
    assert found.at - began_us <= BOUND_US, running.story()
    return found


# --- Escalated incidents.


async def test_later_fault_is_investigated_and_repaired(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble()
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert fresh.shop.valves.read().get("a") != fresh.shop.cure

        fresh.shop.lies.clear()
        fresh.shop.broken.add("a")
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == "valve_a_shut"
    assert count(running, "looks_again") == 1
    assert count(running, "escalated") == 1
    assert [act.effect for act in running.log.actions.of_incident(found.incident_id)] == ["verified"]


async def test_recurring_signal_is_notified_and_its_cause_repaired(fresh: Means, way: Way) -> None:
    """The incident is escalated after an action; the same signal comes again, from another cause that has a runbook."""
    fresh.settings = replace(
        hasty(fresh.settings.policy),
        verification=replace(fresh.settings.verification, min_quiet_s=600.0),
    )
    fresh.shop.cure = 99
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert len(running.log.actions.of_incident(incident.incident_id)) == 1
        fresh.shop.broken.clear()
        fresh.shop.cure = CURE
        await running.until(polled(running, RECOVERED_POLLS))

        began_us = fresh.shop.clock.now_us()
        fresh.shop.broken.add("b")
        told = await require_notice(running, fresh, began_us)
        found = await running.until(over(running))

    assert told.kind == "recurred"
    assert ("errors.pct is 40" in told.message or "database" in told.message) is True
    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == "valve_b_shut"
    assert "recurred 1 time" in found.recommendation or "recurred 1 time" in events(running, "closed")[0].message
    assert len(way.acts) == len(set(way.keys)) == 2


async def test_recurring_cause_is_repaired_although_the_action_failed_before(fresh: Means, way: Way) -> None:
    fresh.settings = replace(
        fresh.settings, verification=replace(fresh.settings.verification, min_quiet_s=600.0, min_healthy_s=3.0)
    )
    fresh.shop.cure = 99
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.broken.clear()
        await running.until(polled(running, RECOVERED_POLLS))
        fresh.shop.do("ann", "a", 1)
        fresh.shop.cure = CURE
        fresh.shop.broken.add("a")
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert len(way.acts) == 2
    # A person acted in between, so the responder stood down before its own action.
    assert count(running, "stood_down") >= 1


async def test_outage_that_becomes_much_worse_is_notified(fresh: Means) -> None:
    async with watching(fresh) as running:
        await escalated(running, fresh, 30.0)
        await running.until(polled(running, 25))
        began_us = fresh.shop.clock.now_us()
        unknown(fresh, 95.0)
        told = await require_notice(running, fresh, began_us)
        await running.until(polled(running, 60))

    assert told.kind == "worsened"
    assert "95" in told.message
    # The worsening is notified only once.
    assert count(running, "worsened") == 1


async def test_a_signal_that_comes_and_goes_is_not_notified_each_time(fresh: Means) -> None:
    async with watching(fresh) as running:
        await escalated(running, fresh)
        before = count(running, "recurred")
        for _ in range(12):
            unknown(fresh, 0.0)
            await running.until(polled(running, 5))
            unknown(fresh, 30.0)
            await running.until(polled(running, 5))
        assert count(running, "recurred") - before <= 1


async def test_change_by_a_person_during_the_repair_is_notified_and_stops_the_responder(fresh: Means, way: Way) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble()
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.do("ann", "c", 7)
        began_us = fresh.shop.clock.now_us()
        fresh.shop.lies.clear()
        fresh.shop.broken.add("a")
        await require_notice(running, fresh, began_us)
        await running.until(lambda: way.acts)
        kinds = [event.kind for event in events(running)]

    assert kinds.index("stood_down") < kinds.index("act_asked")


async def test_investigations_are_limited(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble()
        for number in range(MAX_REDIAGNOSES):
            await running.until(lambda number=number: count(running, "escalated") == number + 1)
            fresh.shop.grumble(*(f"part-{at}" for at in range(number + 1)))
        await running.until(lambda: count(running, "escalated") == MAX_REDIAGNOSES + 1)
        began_us = fresh.shop.clock.now_us()
        fresh.shop.grumble(*(f"part-{at}" for at in range(MAX_REDIAGNOSES + 2)))
        await require_notice(running, fresh, began_us)
        await running.until(polled(running, 20))
        (incident,) = running.incidents()

    assert incident.status is IncidentStatus.ESCALATED
    assert count(running, "looks_again") == MAX_REDIAGNOSES
    assert running.log.actions.of_incident(incident.incident_id) == []


async def test_rejected_action_is_not_requested_again_but_one_for_another_cause_is(fresh: Means) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        asked = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        running.answer(asked, approved=False)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        began_us = fresh.shop.clock.now_us()
        fresh.shop.broken.clear()
        fresh.shop.broken.add("b")
        await require_notice(running, fresh, began_us)
        await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        plans = [question.plan.target for question, _ in running.log.approvals.of_incident(asked.incident_id)]
        assert running.log.actions.of_incident(asked.incident_id) == []

    assert plans == ["a", "b"]


# --- Other states.


async def test_outage_during_an_approval_request_is_notified_and_gets_its_own_request(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        await running.until(polled(running, 25))
        began_us = fresh.shop.clock.now_us()
        fresh.shop.broken.clear()
        fresh.shop.broken.add("b")
        await require_notice(running, fresh, began_us)
        await running.until(lambda: len(running.stored(running.log.approvals.of_incident, incident.incident_id)) == 2)
        running.answer(incident, approved=True)
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"b": CURE}
    assert len(way.acts) == 1


async def test_incident_shows_that_it_waits_for_approval_again_after_worse_symptoms_of_the_same_cause(
    fresh: Means,
) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        fresh.shop.p95_ms = 10_000.0
        await running.until(lambda: count(running, "diagnosed") == 2)
        await running.until(lambda: running.incidents()[0].phase is Phase.APPROVE)

        assert running.incidents()[0].status == IncidentStatus.WAITING_APPROVAL
        assert len(running.log.approvals.of_incident(incident.incident_id)) == 1


async def test_an_outage_while_a_repair_is_verified_is_notified(fresh: Means, way: Way) -> None:
    def linger() -> None:
        fresh.shop.p95_ms = 100.0

    way.meet = at(is_act, 1, linger)
    settings = replace(fresh.settings.verification, effect_timeout_s=900.0, recovery_timeout_s=900.0)
    fresh.settings = replace(fresh.settings, verification=settings)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(lambda: count(running, "recovering"))
        began_us = fresh.shop.clock.now_us()
        unknown(fresh, 30.0)
        told = await require_notice(running, fresh, began_us)

    assert "errors.pct is 30" in told.message


async def test_an_outage_while_the_kill_switch_is_on_is_notified(fresh: Means, way: Way) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        log = IncidentLog(fresh.database)
        log.switches.pause(fresh.target, by="ann", why="work", at_us=fresh.shop.clock.now_us())
        fresh.shop.broken.add("a")
        began_us = fresh.shop.clock.now_us()
        await require_notice(running, fresh, began_us)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.broken.clear()
        await running.until(polled(running, 4))
        began_us = fresh.shop.clock.now_us()
        fresh.shop.broken.add("b")
        await require_notice(running, fresh, began_us)
        await running.until(polled(running, 20))

    assert way.acts == []


async def test_an_outage_after_the_budget_is_used_up_is_notified_and_not_acted_on(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.ACT, cooldown_s=0.0, max_actions_per_incident=1))
    fresh.settings = replace(fresh.settings, verification=replace(fresh.settings.verification, min_quiet_s=600.0))
    fresh.shop.cure = 99
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.broken.clear()
        await running.until(polled(running, RECOVERED_POLLS))
        began_us = fresh.shop.clock.now_us()
        fresh.shop.broken.add("b")
        await require_notice(running, fresh, began_us)
        await running.until(lambda: count(running, "escalated") == 2)
        (incident,) = running.incidents()

    assert len(way.acts) == 1
    assert "1 actions were done for this incident" in incident.recommendation


@pytest.mark.parametrize("worse", ["latency", "critical"])
async def test_dismissed_symptom_that_becomes_much_worse_opens_an_incident(fresh: Means, worse: str) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        if worse == "latency":
            fresh.shop.p95_ms = 400.0
        else:
            fresh.shop.grumble()
        incident = await running.until(with_status(running, IncidentStatus.ESCALATED))
        running.log.close(incident.incident_id, at_us=fresh.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)
        await running.until(polled(running, 15))
        assert len(running.incidents()) == 1
        began_us = fresh.shop.clock.now_us()
        if worse == "latency":
            fresh.shop.p95_ms = 10_000.0
        else:
            fresh.shop.lies[HEALTH] |= {"health_status": "critical"}
        told = await require_notice(running, fresh, began_us)

    assert told.kind == "opened"
    assert len(running.incidents()) == 2


async def test_restarted_responder_does_not_repeat_notices(fresh: Means) -> None:
    async with watching(fresh) as running:
        await escalated(running, fresh)
        await running.until(polled(running, 5))
        before = len(notices(running))
    async with watching(fresh, "second") as running:
        await running.until(polled(running, 60))
        assert len(notices(running)) == before
        unknown(fresh, 0.0)
        await running.until(polled(running, 4))
        began_us = fresh.shop.clock.now_us()
        unknown(fresh, 30.0)
        await require_notice(running, fresh, began_us)


# --- Any sequence.


STATES: Sequence[Policy] = (
    Policy(autonomy=Autonomy.OBSERVE),
    Policy(autonomy=Autonomy.SUGGEST),
    ASKS,
    Policy(autonomy=Autonomy.ACT, cooldown_s=0.0),
    Policy(autonomy=Autonomy.ACT, cooldown_s=0.0, max_actions_per_incident=1),
)
SEQUENCES: Sequence[Sequence[tuple[str, float, int]]] = (
    (("a", 0, 70), ("", 0, 3), ("a", 0, 70), ("", 0, 40), ("b", 0, 70)),
    (("", 30, 70), ("", 95, 70), ("", 0, 2), ("", 95, 70), ("a", 0, 70)),
    (("b", 0, 70), ("", 0, 1), ("", 30, 70), ("a", 0, 70), ("", 0, 10), ("", 99, 70)),
)


@pytest.mark.parametrize("policy", STATES, ids=lambda policy: f"{policy.autonomy}-{policy.max_actions_per_incident}")
@pytest.mark.parametrize("sequence", SEQUENCES, ids=["again", "worse", "another"])
@pytest.mark.full
async def test_no_outage_is_longer_than_a_minute_without_a_notice(
    fresh: Means, policy: Policy, sequence: Sequence[tuple[str, float, int]]
) -> None:
    fresh.settings = hasty(policy)
    shop = fresh.shop
    shop.cure = 99
    async with watching(fresh) as running:
        await learnt(running)
        for part, errors_pct, lasts_polls in sequence:
            shop.broken = {part} if part else set()
            unknown(fresh, errors_pct)
            began_us, is_outage = shop.clock.now_us(), bool(part or errors_pct)
            await running.until(polled(running, lasts_polls))
            if is_outage:
                told = [event.at for event in notices(running) if event.at > began_us]
                assert told, running.story()
                assert min(told) - began_us <= BOUND_US, running.story()
