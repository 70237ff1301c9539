"""A person ends an incident while the responder is down, has given it up, or is adding anomalies to it."""

from __future__ import annotations

from typing import Any

import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.detection.detector import MAX_MUTED_S
from relab.incidents.response.closing_nodes import ClosingNodes
from relab.incidents.response.state import IncidentState
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus, Opened
from support.shops.closing import close
from support.shops.small import (
    Means,
    escalated,
    hasty,
    learnt,
    polled,
    unknown,
    watching,
    with_status,
)

pytestmark = pytest.mark.anyio
OBSERVES = Policy(autonomy=Autonomy.OBSERVE)


async def test_problem_of_an_incident_that_was_closed_while_no_responder_ran_opens_another_after_a_minute(
    fresh: Means,
) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
    first = close(running, fresh)
    async with watching(fresh, "second") as second:
        found = await second.until(lambda: second.incidents()[1:])

    assert first.closed_at is not None
    assert found[0].opened_at - first.closed_at >= MAX_MUTED_S * 1_000_000


@pytest.mark.parametrize(("errors_pct", "is_worse"), [(50.0, False), (90.0, True)])
async def test_varying_number_of_an_incident_that_was_closed_while_no_responder_ran_is_compared_with_its_worst_value(
    fresh: Means, errors_pct: float, is_worse: bool
) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await escalated(running, fresh, 50.0)
        unknown(fresh, 30.0)
        await running.until(polled(running, 10))
    first = close(running, fresh)
    async with watching(fresh, "second") as second:
        await second.until(lambda: second.responder.is_leading)
        await second.until(polled(second, 10))
        unknown(fresh, errors_pct)
        found = await second.until(lambda: second.incidents()[1:])

    assert first.closed_at is not None
    assert ({each.signal: each.value for each in first.findings})["errors.pct"] == 30.0
    assert (found[0].opened_at - first.closed_at < MAX_MUTED_S * 1_000_000) is is_worse


@pytest.mark.parametrize("happens", ["same_problem", "another_problem"])
async def test_incident_that_was_dismissed_while_no_responder_ran_opens_again_only_for_another_problem(
    fresh: Means, happens: str
) -> None:
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
    (only,) = running.incidents()
    running.log.close(only.incident_id, at_us=fresh.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)
    async with watching(fresh, "second") as second:
        await second.until(lambda: second.responder.is_leading)
        await second.until(polled(second, 100))
        opened = second.incidents()
        if happens == "another_problem":
            fresh.shop.broken.add("b")
            opened = await second.until(lambda: second.incidents()[1:] and second.incidents())

    assert [each.outcome for each in opened] == [
        IncidentOutcome.DISMISSED, *([None] if happens == "another_problem" else []),
    ]  # fmt: skip


async def test_closing_of_an_incident_that_the_responder_has_given_up_mutes_its_anomalies(
    fresh: Means, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> IncidentState:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ClosingNodes, "escalate", fail)
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        await running.until(lambda: running.responder.incident_id is None)
        await running.until(polled(running, 3))
        first = close(running, fresh)
        found = await running.until(lambda: running.incidents()[1:])

    assert first.closed_at is not None
    assert found[0].opened_at - first.closed_at >= MAX_MUTED_S * 1_000_000


async def test_incident_that_is_closed_between_the_check_and_the_opening_of_another_mutes_its_anomalies(
    fresh: Means, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> IncidentState:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ClosingNodes, "escalate", fail)
    fresh.settings = hasty(OBSERVES)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        await running.until(lambda: running.responder.incident_id is None)
        store = running.log.open
        closed: list[Incident] = []

        def close_first(*given: Any, **more: Any) -> Opened:
            # The responder has read that the incident is open, and opens or joins one now.
            if not closed:
                closed.append(close(running, fresh))
            return store(*given, **more)

        monkeypatch.setattr(running.log, "open", close_first)
        found = await running.until(lambda: running.incidents()[1:])

    ended_at = closed[0].closed_at
    assert ended_at is not None
    assert found[0].opened_at - ended_at >= MAX_MUTED_S * 1_000_000
