"""An incident without an action has passed once users were served well for long enough, at any poll interval."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from relab.incidents.actions.policy import Policy
from relab.incidents.actions.verification_models import HealthBounds
from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.response.recovery import Recovery
from relab.incidents.response.state import dump_poll
from relab.incidents.settings import settings_for
from support.clocks import MovableClock

SERVED_WELL = {"traffic.requests": 300.0, "errors.pct": 0.0, "latency.p95_ms": 20.0}
MOST_POLLS = 60


async def seconds_until_passed(interval_s: float) -> float | None:
    """Return after how many seconds of good polls an incident has passed; None if it has not after `MOST_POLLS` polls."""
    clock, watch = MovableClock(), SimpleNamespace(feed=PollFeed(), stale=set(), wrong_at_us=None)

    async def blocking(work: Any, *args: Any, **more: Any) -> Any:
        return work(*args, **more)

    world: Any = SimpleNamespace(
        watch=watch,
        clock=clock,
        settings=settings_for(interval_s, policy=Policy()),
        bounds=lambda _before: HealthBounds(1.0, 100.0),
        blocking=blocking,
        log=SimpleNamespace(alerts=SimpleNamespace(fires=lambda *_, **__: False)),
    )
    began_us = clock.us
    recovery = Recovery(world, "i", dump_poll(Snapshot(began_us, numbers={**SERVED_WELL, "errors.pct": 60.0})))
    for _ in range(MOST_POLLS):
        clock.move(interval_s)
        await watch.feed.put(Snapshot(clock.us, numbers=SERVED_WELL))
        await recovery.poll()
        if await recovery.has_passed():
            return (clock.us - began_us) / 1_000_000
    return None


@pytest.mark.parametrize("interval_s", [1.0, 30.0, 180.0, 181.0, 300.0])
def test_incident_passes_at_any_poll_interval(interval_s: float) -> None:
    took_s = asyncio.run(seconds_until_passed(interval_s))

    assert took_s is not None
    assert took_s >= settings_for(interval_s, policy=Policy()).verification.min_quiet_s
