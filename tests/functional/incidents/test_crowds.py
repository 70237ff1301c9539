"""Overload: a limit is verified by the admitted requests, and undone when the traffic is lower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from support.shops.small import HEALTH, Means, Shop, Watching, learnt, over, polled, watching, with_status
from support.shops.ways import Way

pytestmark = pytest.mark.anyio
LIMIT, NO_LIMIT = 4, 0
METRICS = "/api/v1/metrics"

BOOK = """\
---
cause: crowd
title: More come than can be served
risk: low
symptoms:
  - "many more requests come than usual"
looks: [service]
requires:
  - {fact: traffic.times_usual, at_least: 1.3}
expects:
  - {fact: traffic.times_usual, at_least: 1.7, likely: 0.99, otherwise: 0.001}
actions:
  - {action: turn_valve, parameters: {component: a, to: 4}, why: Those who are let in are served.}
mended:
  - {fact: latency.p95_ms, at_most: 500}
sheds: true
---

Let fewer in.
"""


class CrowdedShop:
    """A shop with changing traffic; a valve limits the admitted requests.

    Attributes:
        times: the traffic as a multiple of the usual traffic.
        can_serve: the multiple of the usual traffic that is served without a limit.
        p95_ms: the latency of admitted requests during an overload.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop, self._truth = shop, shop.truth
        self.times, self.can_serve, self.p95_ms = 1.0, 1.0, 12.0

    def truth(self) -> dict[str, Any]:
        """Return the answers of the target, by path."""
        told = self._truth()
        is_limited = self._shop.valves.read().get("a", NO_LIMIT) == LIMIT
        is_crowded = self.times > self.can_serve
        # A limit rejects a few requests in busy moments, also under usual traffic.
        shed = (60 if is_crowded else 5) if is_limited else 0
        errors = float(shed) if is_limited else 40.0 if is_crowded else 0.0
        told[METRICS] |= {
            "requests_per_second": 50.0 * self.times, "error_rate": errors, "shed": shed,
            "p95_ms": 12.0 if not is_crowded else self.p95_ms if is_limited else 900.0,
        }  # fmt: skip
        told[HEALTH] |= {"error_rate": errors, "health_status": "degraded" if errors else "healthy"}
        return told


@pytest.fixture
def crowd(fresh: Means, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CrowdedShop:
    for path in (tmp_path / "books").iterdir():
        path.unlink()
    (tmp_path / "books" / "crowd.md").write_text(BOOK)
    made = CrowdedShop(fresh.shop)
    monkeypatch.setattr(fresh.shop, "truth", made.truth)
    return made


async def contained(running: Watching, crowd: CrowdedShop) -> None:
    """Raise the traffic to ten times the usual, and wait until the responder has contained the overload."""
    await learnt(running)
    crowd.times = 10.0
    await running.until(lambda: "contained" in running.story() or None)


async def test_limit_is_undone_when_the_traffic_is_usual_again(fresh: Means, way: Way, crowd: CrowdedShop) -> None:
    async with watching(fresh) as running:
        await contained(running, crowd)
        await running.until(polled(running, 60))
        assert fresh.shop.valves.read() == {"a": LIMIT}
        assert way.undos == []
        crowd.times = 1.0
        found = await running.until(over(running))
        act, undo = running.log.actions.of_incident(found.incident_id)

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": NO_LIMIT}
    assert act.status == ActionStatus.UNDONE
    assert act.effect == RepairResult.VERIFIED
    assert undo.status == ActionStatus.SUCCEEDED
    assert len(way.acts) == 1
    assert len(way.undos) == 1
    assert "stays in force" not in running.story()


async def test_limit_is_undone_when_few_requests_are_rejected_despite_high_traffic(
    fresh: Means, way: Way, crowd: CrowdedShop
) -> None:
    async with watching(fresh) as running:
        await contained(running, crowd)
        crowd.times, crowd.can_serve = 2.0, 2.0
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": NO_LIMIT}
    assert len(way.acts) == 1
    assert len(way.undos) == 1


async def test_limit_stays_while_admitted_requests_are_slow_in_an_overload(
    fresh: Means, way: Way, crowd: CrowdedShop
) -> None:
    async with watching(fresh) as running:
        crowd.p95_ms = 300.0
        await contained(running, crowd)
        await running.until(polled(running, 60))
        assert fresh.shop.valves.read() == {"a": LIMIT}
        assert way.undos == []
        crowd.times = 1.0
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": NO_LIMIT}


async def test_condition_relative_to_the_usual_traffic_is_probed(
    fresh: Means, crowd: CrowdedShop, tmp_path: Path
) -> None:
    compared = BOOK.replace("{fact: latency.p95_ms, at_most: 500}", "{fact: traffic.times_usual, at_most: 1.3}")
    (tmp_path / "books" / "crowd.md").write_text(compared)
    async with watching(fresh) as running:
        await learnt(running)
        crowd.times = 10.0
        await running.until(lambda: fresh.shop.valves.read() == {"a": LIMIT})
        crowd.times = 1.0
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": NO_LIMIT}


async def test_returning_overload_is_limited_again_a_bounded_number_of_times(
    fresh: Means, way: Way, crowd: CrowdedShop
) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        crowd.times = 10.0
        for number in range(1, 4):
            await running.until(lambda wanted=number: len(way.acts) == wanted)
            await running.until(lambda: fresh.shop.valves.read() == {"a": LIMIT})
            crowd.times = 1.0
            await running.until(lambda wanted=number: len(way.undos) == wanted)
            crowd.times = 10.0
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert len(set(way.keys)) == len(way.acts) == 3
    assert found.diagnosis == "crowd"


async def test_limit_that_cannot_be_undone_is_reported(fresh: Means, way: Way, crowd: CrowdedShop) -> None:
    async with watching(fresh) as running:
        await contained(running, crowd)
        fresh.shop.actions.switch(stopped=True, by="ann")
        crowd.times = 1.0
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": LIMIT}
    assert "turn_valve (component = a, to = 4) stays in force" in found.recommendation + running.story()
