"""The node `detect` dismisses a problem only if no poll shows it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.response.assessment_nodes import AssessmentNodes

POLLS = 3


async def detect(anomalous_poll: int | None) -> dict[str, Any]:
    """Return the result of the node while polls come of which only one shows the problem (None: no poll does)."""
    watch = SimpleNamespace(feed=PollFeed(), findings=None)

    def observe(number: int) -> None:
        watch.findings = SimpleNamespace(is_stale=False, opens=number == anomalous_poll, passing=[])

    async def blocking(work: Any, *args: Any) -> Any:
        return work(*args)

    async def poll() -> None:
        for number in range(1, POLLS + 1):
            await asyncio.sleep(0)
            observe(number)
            await watch.feed.put(Snapshot(at_us=number))
            for _ in range(10):
                await asyncio.sleep(0)

    world: Any = SimpleNamespace(
        watch=watch,
        blocking=blocking,
        log=SimpleNamespace(get=lambda _: SimpleNamespace(findings=[])),
        settings=SimpleNamespace(detection=SimpleNamespace(confirm_of_polls=POLLS)),
    )
    observe(0)
    polling = asyncio.create_task(poll())
    found = await AssessmentNodes(world).detect({"incident_id": "i"})
    await polling
    return dict(found)


@pytest.mark.parametrize("anomalous_poll", range(POLLS + 1))
def test_problem_in_any_of_the_polls_is_still_there(anomalous_poll: int) -> None:
    assert asyncio.run(detect(anomalous_poll)) == {"is_unhealthy": True}


def test_problem_in_none_of_the_polls_has_passed() -> None:
    found = asyncio.run(detect(None))
    assert found["is_unhealthy"] is False
    assert found["way"] == "end"
