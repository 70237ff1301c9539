"""Long incidents without attention: clock changes, outages, internal errors, and late answers of people."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.models import Anomaly, Severity
from relab.incidents.response import planning_nodes, responder
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus
from relab.incidents.storage.opening import MAX_FINDINGS
from support.shops.books import CURE, write_books
from support.shops.small import HEALTH, RUIN, Means, Watching, hasty, learnt, over, polled, watching, with_status
from support.shops.ways import GoOn, Way, at, is_act, is_dry_run, is_switch
from support.storage.flaky_databases import FlakyDatabase

pytestmark = pytest.mark.anyio
ASKS = Policy(autonomy=Autonomy.APPROVE, cooldown_s=0.0)


def kinds(running: Watching, incident: Incident) -> list[str]:
    return [event.kind for event in running.events(incident)]


# --- Approval requests.


async def test_clock_set_back_during_an_approval_request_leads_to_one_new_request(fresh: Means, way: Way) -> None:
    fresh.settings = hasty(ASKS)
    tries = 0

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal tries
        tries += is_dry_run(request)
        return await go_on()

    way.meet = meet
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        fresh.shop.clock.move(-3_000)
        await running.until(lambda: len(running.stored(running.log.approvals.of_incident, incident.incident_id)) == 2)
        before = tries
        await running.until(polled(running, 30))
        assert tries <= before + 1
        # An answer by the incident's id belongs to the newest request, whatever its time.
        (first, _), (second, _) = running.log.approvals.of_incident(incident.incident_id)
        assert second.asked_at < first.asked_at
        assert second.approval_id == f"{incident.incident_id}.2"
        running.answer(incident, approved=True)
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": CURE}


async def test_unanswered_approval_requests_stop(fresh: Means, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_nodes, "MAX_UNANSWERED", 3)
    fresh.settings = hasty(ASKS, approval_valid_s=5.0)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        asked = running.log.approvals.of_incident(found.incident_id)

    assert len(asked) == 3
    assert way.acts == []
    assert "3 approval requests had no answer." in found.recommendation


@pytest.mark.parametrize("moment", [2, 3])
async def test_rejection_after_an_approval_counts_until_the_action_is_stored(
    fresh: Means, way: Way, moment: int
) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        # The last check before the action reads the kill switch; the plan was checked once, when it was made.
        which = is_dry_run if moment == 2 else is_switch
        way.meet = at(which, 1, lambda: running.answer(incident, approved=False))
        running.answer(incident, approved=True)
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert way.acts == []
    assert fresh.shop.valves.read() == {}
    assert "was rejected by ann" in found.recommendation


async def test_new_trigger_asks_for_another_plan(fresh: Means, tmp_path: Path) -> None:
    write_books(tmp_path / "books", [5, CURE], first_of="c")
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        running.answer(incident, approved=False)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        again = Anomaly("trigger", "trigger", Severity.WARNING, None, None, "Please look again.")
        running.log.open(
            fresh.target,
            at_us=fresh.shop.clock.now_us(),
            title=again.detail,
            severity=again.severity,
            anomalies=[again],
        )
        await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        plans = [question.plan for question, _ in running.log.approvals.of_incident(incident.incident_id)]
        running.answer(incident, approved=True)
        found = await running.until(over(running))

    assert [plan.target for plan in plans] == ["c", "a"]
    assert "Please look again." in running.story()
    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": CURE}


# --- Harmful actions are undone after an outage.


async def test_harm_of_an_action_is_detected_after_a_database_outage(
    fresh: Means, way: Way, empty: FlakyDatabase, tmp_path: Path
) -> None:
    write_books(tmp_path / "books", [RUIN])

    def go_away() -> None:
        empty.is_away = True

    way.meet = at(is_act, 1, go_away)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(lambda: way.acts or None)
        await running.until(polled(running, 20))
        empty.is_away = False
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        act, undo = running.log.actions.of_incident(found.incident_id)

    assert act.status == ActionStatus.UNDONE
    assert act.effect == RepairResult.WORSE
    assert undo.status == ActionStatus.SUCCEEDED
    assert len(set(way.keys)) == 1
    assert fresh.shop.valves.read() == {"a": 0}


async def test_harmful_action_is_undone_once_the_server_answers_again(fresh: Means, way: Way, tmp_path: Path) -> None:
    write_books(tmp_path / "books", [RUIN])
    refused = 0

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal refused
        # More failures than the client retries.
        if way.acts and is_switch(request) and refused < 5:
            refused += 1
            raise httpx.ReadTimeout("the machine is overloaded")
        return await go_on()

    way.meet = meet
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        act, undo = running.log.actions.of_incident(found.incident_id)

    assert act.status == ActionStatus.UNDONE
    assert undo.status == ActionStatus.SUCCEEDED
    assert refused == 5
    assert fresh.shop.valves.read() == {"a": 0}


# --- Internal errors.


@pytest.mark.full
async def test_incident_is_retried_after_repeated_internal_errors(
    fresh: Means, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "_GIVEN_UP_S", 0.5)
    books, away = tmp_path / "books", tmp_path / "away"
    async with watching(fresh) as running:
        await learnt(running)
        books.rename(away)
        books.write_text("no folder")
        fresh.shop.broken.add("a")
        found = await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert kinds(running, found).count("failed") == 5
        books.unlink()
        away.rename(books)
        found = await running.until(over(running))

    assert found.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": CURE}


# --- Dismissed and escalated incidents.


async def grumbled_at_and_dismissed(running: Watching, means: Means) -> None:
    """Let the target report a symptom of an unknown cause, and dismiss its incident as a false positive."""
    means.shop.grumble()
    found = await running.until(with_status(running, IncidentStatus.ESCALATED))
    dismiss(running, means, found)
    await running.until(lambda: running.responder.incident_id is None)


def dismiss(running: Watching, means: Means, incident: Incident) -> None:
    """Dismiss an incident as a false positive."""
    running.log.close(incident.incident_id, at_us=means.shop.clock.now_us(), outcome=IncidentOutcome.DISMISSED)


async def test_dismissed_symptom_is_ignored_and_a_later_one_detected(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        await grumbled_at_and_dismissed(running, fresh)
        learnt_polls = running.world.watch.baseline.polls
        await running.until(polled(running, 40))
        assert len(running.incidents()) == 1
        assert running.world.watch.baseline.polls > learnt_polls + 20

        fresh.shop.lies.clear()
        fresh.shop.broken.add("a")
        await running.until(lambda: len(running.incidents()) == 2)
        second = await running.until(lambda: next((each for each in running.incidents()[1:] if each.is_over), None))

    assert second.outcome == IncidentOutcome.RESOLVED
    assert fresh.shop.valves.read() == {"a": CURE}


async def test_dismissed_symptom_is_ignored_after_a_restart_too(fresh: Means) -> None:
    async with watching(fresh) as running:
        await learnt(running)
        await grumbled_at_and_dismissed(running, fresh)
        await running.until(polled(running, 5))
    async with watching(fresh, "second") as running:
        await running.until(polled(running, 40))
        assert len(running.incidents()) == 1


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "restarted"])
async def test_dismissed_incident_with_more_anomalies_than_are_stored_opens_no_other(
    fresh: Means, is_running: bool
) -> None:
    fresh.settings = hasty(Policy(autonomy=Autonomy.OBSERVE))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.grumble(*(f"mail-{number}" for number in range(90)))
        fresh.shop.lies[HEALTH]["workers"] = [{"worker": number, "state": "stopped"} for number in range(50)]
        incident = await running.until(with_status(running, IncidentStatus.ESCALATED))
        assert len(incident.findings) == MAX_FINDINGS
        # The target's own status is confirmed a few polls later.
        await running.until(lambda: "health" in {each.signal for each in running.world.watch.findings.confirmed})
        if is_running:
            dismiss(running, fresh, incident)
            await running.until(polled(running, 40))
    if not is_running:
        dismiss(running, fresh, incident)
        async with watching(fresh, "second") as running:
            await running.until(polled(running, 40))

    assert [each.outcome for each in running.incidents()] == [IncidentOutcome.DISMISSED]


async def test_escalated_incident_is_notified_once_of_each_new_symptom(fresh: Means) -> None:
    fresh.settings = hasty(ASKS)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        incident = await running.until(with_status(running, IncidentStatus.WAITING_APPROVAL))
        running.answer(incident, approved=False)
        await running.until(with_status(running, IncidentStatus.ESCALATED))
        fresh.shop.broken.add("b")
        await running.until(lambda: "worsened" in kinds(running, incident))
        await running.until(polled(running, 20))
        told = [event for event in running.events(incident) if event.kind == "worsened"]

    assert len(told) == len({event.message for event in told}) >= 1
