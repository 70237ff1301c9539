"""An incident that is escalated because its cause is unknown: later probes and actions of people count."""

from __future__ import annotations

from typing import Any

import pytest

from relab.incidents.storage.models import IncidentOutcome, TimelineEvent
from support.shops.small import HEALTH, Means, Watching, escalated, learnt, over, polled, unknown, watching

pytestmark = pytest.mark.anyio


def events(running: Watching, kind: str) -> list[TimelineEvent]:
    """Return the events of a kind, of all incidents."""
    found = [event for each in running.incidents() for event in running.events(each)]
    return [event for event in found if event.kind == kind]


async def test_cause_that_appears_in_the_probes_of_the_handover_is_repaired(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)

        def told() -> dict[str, Any]:
            health: dict[str, Any] = fresh.shop.truth()[HEALTH]
            if not events(running, "diagnosed"):
                health["dependencies"] = {name: {"ok": True} for name in health["dependencies"]}
            return health

        fresh.shop.lies[HEALTH] = told
        fresh.shop.broken.add("a")
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert found.diagnosis == "valve_a_shut"
    assert len(events(running, "escalated")) == 1
    (again,) = events(running, "looks_again")
    assert "signs of valve_a_shut" in again.message


async def test_facts_from_before_the_persons_action_are_learnt_despite_a_second_diagnosis(
    fresh: Means,
) -> None:
    async with watching(fresh) as running:
        incident = await escalated(running, fresh, 30.0)
        await running.until(polled(running, 25))
        fresh.shop.do("ann", "c", 7)
        await running.until(polled(running, 2))
        unknown(fresh, 95.0)
        await running.until(lambda: len(events(running, "escalated")) == 2)
        unknown(fresh, 0.0)
        await running.until(over(running))
        past = running.world.knowledge.get(incident.incident_id)

    assert [act.action for act in past.helped] == ["turn_valve"]
    assert past.facts["errors.pct"] == 30.0
    assert past.well["errors.pct"] == 0.0
