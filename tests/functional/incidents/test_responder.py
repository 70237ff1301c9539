"""A responder on a testbed: it detects, diagnoses, repairs and verifies injected faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from relab.incidents.actions.policy import Policy
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus
from support.incidents.responders import Running, acting, responding
from support.testbed.fault_field import Field

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
CAUSES = {
    "hang": "process_stopped",
    "db_lock": "database_lock",
    "cache_down": "cache_down",
    "db_pool": "connection_pool_leak",
}
SAMPLE = "db_pool"
"""The fault that is tested with the other long tests; the others are tested with the matrix of faults."""


def respond(field: Field, home: Path, policy: Policy, story: Callable[[Running], Coroutine[Any, Any, None]]) -> None:
    token = str(field.actions.headers["Authorization"]).removeprefix("Bearer ")

    async def go() -> None:
        async with responding(home, field.target, str(field.actions.base_url), token, policy=policy) as running:
            await running.until(lambda: running.world.watch.baseline.is_learnt, what="a baseline")
            try:
                await story(running)
            finally:
                for item in running.incidents().items:
                    print("\n".join(running.story(item.incident_id)))

    asyncio.run(go())


def is_over(running: Running) -> Callable[[], Incident | None]:
    def found() -> Incident | None:
        items = running.incidents().items
        return running.only() if items and items[0].is_over else None

    return found


@pytest.mark.parametrize(
    ("fault", "cause"),
    [pytest.param(*pair, marks=[] if pair[0] == SAMPLE else [pytest.mark.matrix]) for pair in CAUSES.items()],
)
def test_fault_is_repaired(field: Field, tmp_path: Path, fault: str, cause: str) -> None:
    async def story(running: Running) -> None:
        await asyncio.to_thread(field.inject, fault)
        over = await running.until(is_over(running), within_s=120, what="the end of the incident")
        assert over.outcome == IncidentOutcome.RESOLVED
        assert over.status == IncidentStatus.RESOLVED
        assert over.diagnosis == cause
        acts = running.log.actions.of_incident(over.incident_id)
        assert [act.effect for act in acts][-1] == "verified"
        await running.until(field.is_well, what="users who are served well")

    respond(field, tmp_path / "home", acting(), story)


def test_no_action_without_approval(field: Field, tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await asyncio.to_thread(field.inject, "hang")
        request = await running.until(
            lambda: next(iter(running.log.approvals.pending(now_us=running.world.clock.now_us())), None)
        )
        assert running.log.actions.of_incident(request.incident_id) == []
        assert running.only().status is IncidentStatus.WAITING_APPROVAL
        running.log.approvals.decide(request.approval_id, approved=True, by="ada", now_us=running.world.clock.now_us())
        over = await running.until(is_over(running), within_s=90)
        (act,) = running.log.actions.of_incident(over.incident_id)
        assert over.outcome == IncidentOutcome.RESOLVED
        assert act.approved_by == "ada"

    respond(field, tmp_path / "home", Policy(), story)
