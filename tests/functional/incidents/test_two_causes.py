"""Two causes that begin at once: both are diagnosed and repaired in turn, and only successful actions are learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.actions.records import RepairResult
from relab.incidents.postmortem.service import PostmortemService
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from relab.knowledge.models import TriedActionResult
from support.shops.small import Means, hasty, learnt, over, watching, with_status

pytestmark = pytest.mark.anyio

BOTH = {"valve_a_shut", "valve_b_shut"}


async def test_two_causes_that_begin_in_one_poll_are_both_repaired_without_a_person(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken |= {"a", "b"}
        found = await running.until(over(running))
        first, second = running.log.actions.of_incident(found.incident_id)
        events = running.log.read_after(found.incident_id)
        (past,) = running.world.knowledge.latest(limit=5)

    assert found.outcome == IncidentOutcome.RESOLVED
    assert len(running.incidents()) == 1
    assert not {"escalated", "approval_asked"} & {event.kind for event in events}
    assert {first.cause, second.cause} == BOTH
    assert first.effect == RepairResult.MITIGATED
    assert second.effect == RepairResult.VERIFIED
    # The remaining symptoms are diagnosed again before the verification of the first action times out.
    verdict = next(event.message for event in events if event.kind == "verified")
    assert f"something else is wrong, probably {second.cause}" in verdict
    diagnosed = next(event for event in events if event.kind == "diagnosed")
    (pair, *_) = diagnosed.content["together"]
    assert set(pair["causes"]) == BOTH
    assert pair["probability"] > 0.5
    assert all(cause in events[-1].message for cause in BOTH)
    assert [each.outcome for each in past.tried] == [TriedActionResult.HELPED]
    assert past.cause == second.cause


async def test_second_cause_without_user_impact_is_repaired_without_a_long_wait(fresh: Means) -> None:
    """The target reports degraded because of the second cause; a recovery could be watched for a long time."""
    fresh.shop.unfelt = frozenset("b")
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken |= {"a", "b"}
        found = await running.until(over(running))
        first, second = running.log.actions.of_incident(found.incident_id)

    assert found.outcome == IncidentOutcome.RESOLVED
    assert first.cause == "valve_a_shut"
    assert second.cause == "valve_b_shut"
    assert first.effect == RepairResult.MITIGATED
    assert second.effect == RepairResult.VERIFIED
    waited_s = (second.asked_at - first.finished_at) / 1_000_000
    assert waited_s < 2 * fresh.settings.verification.effect_timeout_s


async def test_two_causes_without_user_impact_are_both_repaired(fresh: Means) -> None:
    fresh.shop.unfelt = frozenset("ab")
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken |= {"a", "b"}
        found = await running.until(over(running))
        acts = running.log.actions.of_incident(found.incident_id)

    assert found.outcome is IncidentOutcome.RESOLVED
    assert {act.cause for act in acts} == BOTH
    assert [act.effect for act in acts] == [RepairResult.MITIGATED, RepairResult.VERIFIED]


async def test_second_cause_is_not_repaired_beyond_the_budget_of_the_incident(fresh: Means) -> None:
    policy = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0, max_actions_per_incident=1)
    async with watching(replace(fresh, settings=hasty(policy))) as running:
        await learnt(running)
        fresh.shop.broken |= {"a", "b"}
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        (act,) = running.log.actions.of_incident(found.incident_id)

    assert act.effect == RepairResult.MITIGATED
    assert found.diagnosis in BOTH - {act.cause}


async def test_both_actions_are_named_as_the_resolution(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken |= {"a", "b"}
        found = await running.until(over(running))
        told = running.log.actions.of_incident(found.incident_id)
        post = PostmortemService(running.log).of(found.incident_id)

    assert len(told) == 2
    assert [each.has_helped for each in post.actions] == [True, True]
    assert set(post.diagnoses[0].causes) == BOTH
