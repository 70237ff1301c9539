"""Incidents that end without a repair or by a person: they stay open as long as their symptom, and then are over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.actions.records import ActionRecord, ActionStatus, RepairResult
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.errors import IncidentOverError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, ReceivedAlert
from support.shops.books import CURE, write_books
from support.shops.small import HEALTH, RUIN, Means, Shop, Watching, hasty, learnt, over, polled, watching, with_status
from support.shops.ways import GoOn, Way, at, is_act, is_dry_run, said

pytestmark = pytest.mark.anyio
ASKS = Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0)
QUIET_POLLS = 6


def ail(shop: Shop) -> None:
    """Let the dependency `mail` fail, which no runbook covers, without a change of the totals."""
    told = shop.truth()[HEALTH]
    # Without a timestamp, these figures do not become stale.
    del told["timestamp"]
    shop.lies[HEALTH] = told | {"dependencies": told["dependencies"] | {"mail": {"ok": False}}}


# --- Symptoms that pass.


async def test_persistent_symptom_keeps_its_incident_open_and_pages_once(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        ail(fresh.shop)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        await running.until(polled(running, 10 * QUIET_POLLS))
        (incident,) = running.incidents()
        assert incident.status is IncidentStatus.ESCALATED
        fresh.shop.lies.clear()
        found = await running.until(over(running))

    assert found.outcome is IncidentOutcome.PASSED
    assert len(running.incidents()) == 1


async def test_an_alert_that_fires_keeps_its_incident_open_until_it_has_ended(fresh: Means) -> None:
    def tell(running: Watching, *, is_firing: bool) -> None:
        anomaly = Anomaly("alert", "Slow", Severity.WARNING, None, None, "It is slow.")
        alert = ReceivedAlert("f1", 1_000_000, is_firing, anomaly, {})
        running.log.alerts.take_in(
            fresh.target, "g", [alert], at_us=fresh.shop.clock.now_us(), title="Slow", severity=Severity.WARNING
        )

    async with watching(fresh) as running:
        await learnt(running)
        tell(running, is_firing=True)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        await running.until(polled(running, 10 * QUIET_POLLS))
        assert [each.status for each in running.incidents()] == [IncidentStatus.ESCALATED]
        tell(running, is_firing=False)
        found = await running.until(over(running))

    assert found.outcome is IncidentOutcome.PASSED


async def test_approval_request_is_withdrawn_when_the_symptom_has_passed(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        fresh.shop.broken.clear()
        found = await running.until(over(running))
        with pytest.raises(IncidentOverError):
            running.answer(incident, approved=True)

    assert found.outcome == IncidentOutcome.PASSED
    assert way.acts == []
    assert "The approval request for turn_valve is withdrawn" in running.story()


@pytest.mark.parametrize("heals", [True, False])
async def test_refused_dry_run_leads_to_a_new_diagnosis(fresh: Means, way: Way, tmp_path: Path, *, heals: bool) -> None:
    refused = 0

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal refused
        if not is_dry_run(request) or json.loads(request.content)["component"] == "a":
            return await go_on()
        refused += 1
        if heals:
            fresh.shop.broken.clear()
        return said(409, {"code": "precondition_failed", "detail": "Nothing holds it."})

    way.meet = meet
    write_books(tmp_path / "books", (RUIN, CURE), first_of="b")
    fresh.settings = hasty(Policy(autonomy=Autonomy.ACT, cooldown_s=0.0))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(over(running))
        acts = running.log.actions.of_incident(found.incident_id)

    assert refused == 1
    assert [act.parameters["to"] for act in acts] == ([] if heals else [CURE])
    assert found.outcome == (IncidentOutcome.PASSED if heals else IncidentOutcome.RESOLVED)
    assert "turn_valve is not requested, and the service is probed again" in running.story()


# --- Levels of autonomy.


async def test_suggest_autonomy_recommends_an_action(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.SUGGEST))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert "Suggested action: turn_valve with component = a, to = 3: It opens it." in found.recommendation
    assert (found.plan or {})["action"] == "turn_valve"
    assert way.acts == []
    assert fresh.shop.valves.read() == {}


async def test_observe_autonomy_reports_only_the_cause(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.OBSERVE))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert "turn_valve" not in found.recommendation
    assert found.plan is None
    assert way.acts == []


@pytest.mark.parametrize("status", [401, 503])
async def test_observing_responder_without_a_usable_action_server_reports_the_cause(
    fresh: Means, way: Way, status: int
) -> None:
    async def meet(_: httpx.Request, __: GoOn) -> httpx.Response:
        return said(status, {"code": "away"})

    way.meet = meet
    fresh.settings = hasty(Policy(autonomy=Autonomy.OBSERVE))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert found.diagnosis is not None
    assert f"The cause is probably {found.diagnosis} (" in found.recommendation
    assert found.recommendation.endswith("No action is planned. The responder only observes.")


@pytest.mark.parametrize(
    ("autonomy", "harm", "reason"),
    [
        (Autonomy.APPROVE, ail, "No runbook fits what is seen. No action is planned. The action server answered 503"),
        (Autonomy.OBSERVE, lambda shop: shop.broken.add("a"), "No action is planned. The responder only observes."),
    ],
)
async def test_action_server_that_could_change_nothing_is_asked_for_its_actions_only_once(
    fresh: Means, way: Way, autonomy: Autonomy, harm: Callable[[Shop], None], reason: str
) -> None:
    asked = 0

    async def meet(request: httpx.Request, _: GoOn) -> httpx.Response:
        nonlocal asked
        asked += request.url.path == "/actions"
        return said(503, {"code": "away"})

    fresh.settings = hasty(Policy(autonomy=autonomy))
    async with watching(fresh) as running:
        await learnt(running)
        way.meet = meet
        harm(fresh.shop)
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert asked == 1
    assert reason in found.recommendation


async def test_long_retry_after_of_the_action_server_escalates_the_incident(fresh: Means, way: Way) -> None:
    tries = 0

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal tries
        if not is_dry_run(request):
            return await go_on()
        tries += 1
        return said(429, {"code": "too_many"}, **{"Retry-After": "3600"})

    way.meet = meet
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert "answered 429" in found.recommendation
    assert tries == 1
    assert way.acts == []


# --- Dismissed incidents.


async def test_incident_dismissed_during_verification_is_over_and_the_next_is_detected(
    fresh: Means, way: Way, tmp_path: Path
) -> None:
    write_books(tmp_path / "books", [5, CURE])
    settings = fresh.settings
    fresh.settings = replace(
        settings, verification=replace(settings.verification, effect_timeout_s=1e6, cause_timeout_s=1e6)
    )
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(lambda: way.acts or None)
        (incident,) = running.incidents()
        await running.until(
            lambda: running.log.actions.of_incident(incident.incident_id)[0].status is ActionStatus.SUCCEEDED
        )
        running.log.close(incident.incident_id, at_us=fresh.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)
        await running.until(lambda: running.responder.incident_id is None)
        fresh.shop.broken.add("b")
        first, second = await running.until(lambda: running.incidents()[1:] and running.incidents()[:2])

    assert first.outcome == IncidentOutcome.DISMISSED
    assert second.outcome is None


async def test_dismissed_share_of_errors_that_lasts_opens_no_incident_until_it_grows(fresh: Means) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.OBSERVE))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.ESCALATED))
        # The target's own status turns a few polls later; dismissed before, the incident would not contain it.
        await running.until(
            lambda: "health" in {each.signal for each in running.log.get(incident.incident_id).findings} or None
        )
        assert "burn_rate" in {finding.detector for finding in incident.findings}
        running.log.close(incident.incident_id, at_us=fresh.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)
        await running.until(polled(running, 60))
        assert [each.outcome for each in running.incidents()] == [IncidentOutcome.DISMISSED]
        fresh.shop.do("ann", "c", RUIN)
        await running.until(lambda: running.incidents()[1:])


async def test_dismissal_during_internal_errors_does_not_stop_the_loop(fresh: Means, tmp_path: Path) -> None:
    books, away = tmp_path / "books", tmp_path / "away"
    async with watching(fresh) as running:
        await learnt(running)
        books.rename(away)
        books.write_text("no folder")
        fresh.shop.broken.add("a")
        incident = await running.until(lambda: next(iter(running.incidents()), None))
        await running.until(lambda: "failed" in running.story() or None)
        running.log.close(incident.incident_id, at_us=fresh.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)
        await running.until(lambda: running.responder.incident_id is None)
        books.unlink()
        away.rename(books)
        fresh.shop.broken.add("b")
        first, second = await running.until(lambda: running.incidents()[1:] and running.incidents()[:2])

    assert first.outcome is IncidentOutcome.DISMISSED
    assert second.opened_at > (first.closed_at or 0)


# --- Results of actions.


async def test_effect_of_an_action_is_measured_from_its_own_start(fresh: Means, way: Way, tmp_path: Path) -> None:
    write_books(tmp_path / "books", [5, CURE], first_of="c")

    async def fail(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        done = await go_on()
        record = json.loads(await done.aread())["record"]
        return said(502, {"record": record | {"status": "failed", "error": "it is stuck"}})

    # A failed action may still do harm: this one raises the errors from 40 % to 99 %.
    way.meet = at(is_act, 1, lambda: fresh.shop.do("ann", "b", RUIN), then=fail)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        acts = running.log.actions.of_incident(found.incident_id)

    assert [act.status for act in acts] == [ActionStatus.FAILED, ActionStatus.SUCCEEDED]
    # Its own cause is gone; the harm of the other action is another cause.
    assert acts[1].effect is RepairResult.MITIGATED


async def test_result_of_an_action_is_queried_after_the_end_of_its_incident(fresh: Means) -> None:
    log = IncidentLog(fresh.database)
    async with watching(fresh) as running:
        await learnt(running)
        opened = log.open(
            fresh.target, at_us=fresh.shop.clock.now_us(), title="old", severity=Severity.WARNING, anomalies=[]
        )
        incident_id = opened.incident.incident_id
        act = ActionRecord(
            key="k1", incident_id=incident_id, attempt=1, action="turn_valve", action_class="valve",
            blast_radius="one_dependency", target="a", parameters={"component": "a", "to": 2}, cause="c", why="w",
            asked_at=fresh.shop.clock.now_us(),
        )  # fmt: skip
        log.actions.put(act)
        log.close(incident_id, at_us=fresh.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)
        fresh.shop.actions.perform("turn_valve", {"component": "a", "to": 2}, actor="responder", key="k1")
        await running.until(lambda: log.actions.get("k1").status is ActionStatus.SUCCEEDED)

    assert log.actions.get("k1").record_id is not None
    assert log.actions.unsettled(fresh.target) == []
