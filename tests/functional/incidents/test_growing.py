"""Approval requests for actions that affect more than users notice: they are withdrawn once users notice as much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus
from relab.testbed.actions.models import BlastRadius
from support.shops.books import CURE
from support.shops.small import Means, Shop, Watching, hasty, learnt, over, watching, with_status
from support.shops.ways import Way, at, is_dry_run
from support.testbed.valves import TurnValve

pytestmark = pytest.mark.anyio
HEALTH, METRICS = "/api/v1/health", "/api/v1/metrics"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the valve's action the blast radius of the whole service."""
    monkeypatch.setattr(TurnValve, "action", replace(TurnValve.action, blast_radius=BlastRadius.WHOLE_SERVICE))


async def asked(running: Watching, shop: Shop) -> Incident:
    """Let the cache fail unnoticed by users; return the incident when it waits for approval."""
    metrics = {**shop.truth()[METRICS], "cache": {"errors": 50}}
    shop.broken.add("a")
    shop.lies[METRICS] = {name: told for name, told in metrics.items() if name != "timestamp"}
    shop.lies[HEALTH] = {**shop.truth()[HEALTH], "health_status": "healthy", "error_rate": 0.0}
    return await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))


async def test_approval_request_is_withdrawn_when_users_notice_as_much(fresh: Means, way: Way) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        incident = await asked(running, fresh.shop)
        polls = running.responder.polls
        await running.until(lambda: running.responder.polls > polls + 10)
        assert running.log.get(incident.incident_id).status is IncidentStatus.WAITING_APPROVAL
        assert way.acts == []

        fresh.shop.lies.clear()
        found = await running.until(over(running))
        ((_, answer),) = running.log.approvals.of_incident(incident.incident_id)
        kinds = [event.kind for event in running.events(incident)]

    assert found.outcome == IncidentOutcome.RESOLVED
    assert answer is None
    assert fresh.shop.valves.read() == {"a": CURE}
    assert kinds.index("approval_withdrawn") < kinds.index("act_asked")
    assert len(way.keys) == 1


async def test_growing_incident_still_needs_approval(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0))
    async with watching(fresh) as running:
        await learnt(running)
        incident = await asked(running, fresh.shop)
        fresh.shop.lies.clear()
        polls = running.responder.polls
        await running.until(lambda: running.responder.polls > polls + 20)
        still = running.log.get(incident.incident_id)

    assert still.status == IncidentStatus.WAITING_APPROVAL
    assert way.acts == []


@pytest.mark.parametrize("moment", [1, 2])
async def test_rejection_during_withdrawal_counts(fresh: Means, way: Way, moment: int) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        incident = await asked(running, fresh.shop)
        ((question, _),) = running.log.approvals.of_incident(incident.incident_id)

        def reject() -> None:
            now_us = fresh.shop.clock.now_us()
            running.log.approvals.decide(question.approval_id, approved=False, by="ann", now_us=now_us)

        # The first dry run comes just before the withdrawal, the second one with the new plan.
        way.meet = at(is_dry_run, moment, reject)
        fresh.shop.lies.clear()
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        told = [event.message for event in running.events(found)]

    assert way.acts == []
    assert fresh.shop.valves.read() == {}
    assert any("rejected by ann" in message for message in told)


async def test_confirmed_cause_survives_one_probe_without_it(fresh: Means, way: Way) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        incident = await asked(running, fresh.shop)
        truth = fresh.shop.truth()

        # Users notice the whole fault now. Until three answers after the withdrawal, the probes do not see its cause.
        hidden = {
            **{name: told for name, told in truth[HEALTH].items() if name != "timestamp"},
            "dependencies": {name: {"ok": True} for name in truth[HEALTH]["dependencies"]},
        }
        left = iter(range(3))

        def answered() -> dict[str, Any]:
            is_withdrawn = "approval_withdrawn" in [event.kind for event in running.events(incident)]
            return fresh.shop.truth()[HEALTH] if is_withdrawn and next(left, None) is None else hidden

        fresh.shop.lies = {HEALTH: answered}
        found = await running.until(over(running))
        kinds = [event.kind for event in running.events(incident)]

    assert found.outcome is IncidentOutcome.RESOLVED
    assert "escalated" not in kinds
    assert len(way.keys) == 1
