"""Recovery after a repair: a slow recovery is waited for, and a symptom that only dips is not a repair."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from relab.incidents.actions.records import RepairResult
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus
from relab.knowledge.models import Resolver, TriedActionResult
from support.shops.small import Means, Shop, Watching, learnt, over, polled, watching, with_status
from support.shops.ways import GoOn, Way, at, is_act, is_record_list, lost

pytestmark = pytest.mark.anyio
PATIENCE_POLLS = 12
SLOW_MS = 112.5


def kinds(running: Watching, incident: Incident) -> list[str]:
    return [event.kind for event in running.events(incident)]


def slow(shop: Shop) -> Callable[[], None]:
    """Return a callback that raises the shop's latency to 112.5 ms, above its bound of 62 ms."""

    def wait() -> None:
        shop.p95_ms = SLOW_MS

    return wait


async def test_slow_recovery_of_latency_is_waited_for_and_the_diagnosis_kept(fresh: Means, way: Way) -> None:
    way.meet = at(is_act, 1, slow(fresh.shop))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(lambda: next((each for each in running.incidents() if way.acts), None))
        await running.until(polled(running, 2 * PATIENCE_POLLS + 4))
        assert [each.status for each in running.incidents()] == [IncidentStatus.OPEN]
        fresh.shop.p95_ms = 12.0
        found = await running.until(over(running))
        acts = running.log.actions.of_incident(incident.incident_id)

    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == "valve_a_shut"
    assert [act.effect for act in acts] == [RepairResult.VERIFIED]
    timeline = kinds(running, found)
    assert timeline.count("recovering") == 1
    assert "escalated" not in timeline


async def test_target_that_reports_degraded_for_long_is_waited_for(fresh: Means, way: Way) -> None:
    def grumble() -> None:
        fresh.shop.word = "degraded"

    way.meet = at(is_act, 1, grumble)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("b")
        await running.until(lambda: way.acts)
        await running.until(polled(running, 3 * PATIENCE_POLLS))
        fresh.shop.word = "healthy"
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == "valve_b_shut"
    assert len(way.acts) == 1
    assert "escalated" not in kinds(running, found)


async def test_latency_that_stays_ends_as_mitigated_with_a_person_notified(fresh: Means, way: Way) -> None:
    way.meet = at(is_act, 1, slow(fresh.shop))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        told = await running.until(with_status(running, IncidentStatus.ESCALATED))
        (act,) = running.log.actions.of_incident(told.incident_id)
        assert act.effect == RepairResult.MITIGATED
        assert told.diagnosis == "valve_a_shut"
        assert "Mitigated: The cause is gone and users are served" in told.recommendation
        assert "latency.p95_ms is 112.5, above 62" in told.recommendation

        fresh.shop.p95_ms = 12.0
        found = await running.until(over(running))
        (act,) = running.log.actions.of_incident(found.incident_id)
        (past,) = running.world.knowledge.latest(limit=5)

    assert found.outcome == IncidentOutcome.RESOLVED
    assert act.effect == RepairResult.VERIFIED
    assert past.cause == "valve_a_shut"
    assert [each.outcome for each in past.tried] == [TriedActionResult.HELPED]
    assert len(running.incidents()) == 1


async def test_mitigated_repair_is_not_verified_while_the_actions_of_others_are_unknown(fresh: Means, way: Way) -> None:
    async def lose_records(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        return await (lost(request, go_on) if is_record_list(request) else go_on())

    way.meet = at(is_act, 1, slow(fresh.shop))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        way.meet = lose_records
        fresh.shop.p95_ms = 12.0
        found = await running.until(over(running))
        (act,) = running.log.actions.of_incident(found.incident_id)
        (past,) = running.world.knowledge.latest(limit=5)

    assert found.outcome == IncidentOutcome.PASSED
    assert act.effect == RepairResult.MITIGATED
    assert past.resolved_by == Resolver.ITSELF
    assert "records_unknown" in kinds(running, found)


async def test_unchanged_latency_is_not_a_recovery(fresh: Means, way: Way) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.p95_ms = 4_000.0
        fresh.shop.lies["/api/v1/metrics"] = fresh.shop.truth()["/api/v1/metrics"] | {"error_rate": 0.0}
        del fresh.shop.lies["/api/v1/metrics"]["timestamp"]
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        acts = running.log.actions.of_incident(found.incident_id)

    assert all(act.effect is not RepairResult.VERIFIED for act in acts)
    assert "Mitigated" not in found.recommendation


@pytest.mark.parametrize("well_polls", [1, 2])
async def test_a_symptom_that_only_dips_is_not_called_repaired(fresh: Means, way: Way, well_polls: int) -> None:
    shop = fresh.shop
    shop.cure = 99
    way.meet = at(is_act, 1, shop.broken.clear)
    async with watching(fresh) as running:
        await learnt(running)
        shop.broken.add("a")
        await running.until(lambda: way.acts)
        await running.until(polled(running, well_polls))
        shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        acts = running.log.actions.of_incident(found.incident_id)

    assert [act.effect for act in acts] == [RepairResult.FAILED]
    assert found.outcome is None


async def test_repair_without_requests_is_handed_over_with_its_diagnosis_and_ends_with_requests(
    fresh: Means, way: Way
) -> None:
    def leave() -> None:
        fresh.shop.requests = 0

    way.meet = at(is_act, 1, leave)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        told = await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert told.diagnosis == "valve_a_shut"
        for part in ("was done", "cannot be verified: fewer than 5 requests arrived in", "Send requests", "close"):
            assert part in told.recommendation

        fresh.shop.requests = 100
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
