"""An incident that is handed over to people because its cause is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from relab.incidents.storage.models import IncidentOutcome, TimelineEvent
from support.shops.small import HEALTH, Means, Watching, learnt, over, watching

pytestmark = pytest.mark.anyio


def events(running: Watching, kind: str) -> list[TimelineEvent]:
    """Return the events of a kind, of all incidents."""
    found = [event for each in running.incidents() for event in running.log.read_after(each.incident_id)]
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
