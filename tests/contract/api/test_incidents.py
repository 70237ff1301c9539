"""Incidents over HTTP: lists, approvals, pauses, triggers, alerts and streams, alike on each back end."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.api.incidents import ALERTS_EXAMPLE
from relab.bootstrap import Services, build
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, NewEvent, Phase
from relab.server import create_app
from relab.testbed.scoring.status import read_status
from support.api.asgi import RawRequest
from support.api.client import assert_problem, fields_of, read_events
from support.incidents.logs import MINUTE_US, asked, opened, question

_numbers = itertools.count()


@pytest.fixture
def target() -> str:
    """A target that no other test uses."""
    return f"shop-{next(_numbers)}"


@pytest.fixture
def log(installation: Services) -> IncidentLog:
    return installation.incidents.log


@pytest.fixture
def now_us(installation: Services) -> int:
    return installation.clock.now_us()


def ask(log: IncidentLog, incident_id: str, now_us: int, **more: Any) -> str:
    """Request a person's approval of a plan, and return the id of the request."""
    given = {"asked_at": now_us, "expires_at": now_us + MINUTE_US, **more}
    return log.approvals.request(question(incident_id, f"{incident_id}.1", **given)).approval_id


def kinds(text: str) -> list[str]:
    return [data["type"].removeprefix("relab.incident.") for _, data in read_events(text)]


def test_incidents_are_listed_page_by_page(api: TestClient, log: IncidentLog, now_us: int, target: str) -> None:
    ids = []
    for number in range(3):
        ids.append(opened(log, target, at_us=now_us + number).incident_id)
        if number < 2:
            log.close(ids[-1], at_us=now_us + number, outcome=IncidentOutcome.RESOLVED)

    first = api.get("/agent/incidents", params={"target": target, "limit": 2}).json()
    rest = api.get("/agent/incidents", params={"target": target, "cursor": first["next_cursor"]}).json()

    assert [item["incident_id"] for item in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    still = api.get("/agent/incidents", params={"target": target, "status": ["open", "escalated"]}).json()
    assert [item["incident_id"] for item in still["items"]] == ids[2:]


def test_false_positive_is_dismissed(api: TestClient, log: IncidentLog, now_us: int, target: str) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    path = f"/agent/incidents/{incident_id}/dismiss"

    assert_problem(api.post(path, json={"because": "x"}), 422)
    found = api.post(path, json={"why": "The release is slower."}).json()
    assert found["status"] == "closed"
    assert found["outcome"] == "dismissed"
    assert (
        "dismissed the incident as a false positive: The release is slower." in log.read_after(incident_id)[-1].message
    )
    assert api.post(path).json() == found
    assert_problem(api.post("/agent/incidents/none/dismiss"), 404)


def test_repaired_incident_is_closed_by_a_person(api: TestClient, log: IncidentLog, now_us: int, target: str) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    path = f"/agent/incidents/{incident_id}/close"
    done = {"note": "I restarted the cache.", "cause": "cache_down", "if_status": "open"}

    for wrong in ({}, {"note": ""}, {"note": " "}, {"note": "x" * 2_001}, done | {"cause": "no cause"}):
        assert_problem(api.post(path, json=wrong), 422)
    assert_problem(api.post(path, json=done | {"if_status": "closed"}), 422)
    assert_problem(api.post(path, json=done | {"by": "somebody else"}), 422)
    assert_problem(api.post(path, json=done | {"if_status": "escalated"}), 409, "incident_status")
    assert log.get(incident_id).status is IncidentStatus.OPEN

    found = api.post(path, json=done).json()

    assert found["status"] == "closed"
    assert found["outcome"] == "closed_by_person"
    assert log.read_after(incident_id)[-1].content["by"] == "loopback"
    assert api.post(path, json=done).json() == found
    assert_problem(api.post(path, json={"note": "Something else."}), 409, "incident_over")
    assert_problem(api.post("/agent/incidents/none/close", json=done), 404, "incident_not_found")


@pytest.mark.parametrize("query", [{"cursor": "x"}, {"status": "over"}, {"limit": 0}, {"target": ""}])
def test_invalid_query_of_a_list_is_rejected(api: TestClient, query: dict[str, Any]) -> None:
    assert_problem(api.get("/agent/incidents", params=query), 422)


def test_incident_is_shown_with_its_actions_and_approval_requests(
    api: TestClient, log: IncidentLog, now_us: int, target: str
) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    log.actions.put(asked(incident_id))
    ask(log, incident_id, now_us)

    shown = api.get(f"/agent/incidents/{incident_id}").json()

    assert shown["status"] == "waiting_approval"
    assert shown["phase"] == "approve"
    assert shown["agent_run_id"] == f"incident.{incident_id}"
    assert [act["action"] for act in shown["actions"]] == ["restart-worker"]
    assert [(each["request"]["plan"]["action"], each["decision"]) for each in shown["questions"]] == [
        ("restart-worker", None)
    ]
    assert_problem(api.get("/agent/incidents/none"), 404, "incident_not_found")


def test_approved_plan_can_be_rejected_and_rejected_plan_not_approved(
    api: TestClient, log: IncidentLog, now_us: int, target: str
) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    path = f"/agent/approvals/{ask(log, incident_id, now_us)}"

    first = api.post(path, json={"approved": True, "note": "go"})
    again = api.post(path, json={"approved": True})
    rejected = api.post(path, json={"approved": False})

    assert first.status_code == 200
    assert first.json()["approved"] is True
    assert first.json()["by"] == "loopback"
    assert first.json()["note"] == "go"
    assert again.json() == first.json()
    assert rejected.json()["approved"] is False
    assert_problem(api.post(path, json={"approved": True}), 409, "approval_decided")
    assert log.get(incident_id).status is IncidentStatus.OPEN


def test_last_approval_request_is_decided_by_the_id_of_its_incident(
    api: TestClient, log: IncidentLog, now_us: int, target: str
) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    approval_id = ask(log, incident_id, now_us)

    assert api.post(f"/agent/approvals/{incident_id}", json={"approved": True}).json()["approval_id"] == approval_id


def test_late_unknown_and_invalid_decisions_are_rejected(
    api: TestClient, log: IncidentLog, now_us: int, target: str
) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    late = ask(log, incident_id, now_us, asked_at=now_us - 2 * MINUTE_US, expires_at=now_us - MINUTE_US)

    assert_problem(api.post(f"/agent/approvals/{late}", json={"approved": True}), 409, "approval_expired")
    assert_problem(api.post("/agent/approvals/none", json={"approved": True}), 404, "no_question")
    assert fields_of(assert_problem(api.post(f"/agent/approvals/{late}", json={}), 422)) == ["approved"]
    assert_problem(api.post(f"/agent/approvals/{late}", json={"approved": "yes"}), 422)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert_problem(api.post(f"/agent/approvals/{late}", content=b"approved=1", headers=form), 415)


def test_concurrent_approvals_store_one_decision(api: TestClient, log: IncidentLog, now_us: int, target: str) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    path = f"/agent/approvals/{ask(log, incident_id, now_us)}"

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api.post(path, json={"approved": True}), range(8)))

    assert len({answer.text for answer in answers}) == 1
    decided = [event for event in log.read_after(incident_id) if event.kind == "approval_decided"]
    assert len(decided) == 1


def test_pause_and_resume_name_the_person(api: TestClient, target: str) -> None:
    paused = api.post("/agent/pause", json={"target": target, "why": "We move."}).json()
    resumed = api.post("/agent/resume", json={"target": target}).json()

    assert paused["target"] == target
    assert paused["is_paused"] is True
    assert paused["by"] == "loopback"
    assert paused["why"] == "We move."
    assert resumed["is_paused"] is False


def test_pause_without_a_body_pauses_all_targets(api: TestClient) -> None:
    assert api.post("/agent/pause").json()["target"] == "*"
    assert api.get("/agent/status").json()["paused"] is True
    api.post("/agent/resume")
    assert api.get("/agent/status").json()["paused"] is False


def test_trigger_without_a_target_is_rejected(api: TestClient) -> None:
    status = api.get("/agent/status").json()

    assert status["target"] is None
    assert status["incident"] is None
    assert status["leading"] is False
    assert status["polls"] == 0
    assert_problem(api.post("/agent/trigger"), 409, "no_target")
    assert_problem(api.post("/agent/trigger", json={"nonsense": 1}), 422)


def test_alerts_without_a_target_get_503_with_retry_after(api: TestClient) -> None:
    response = api.post("/alerts/alertmanager", json=ALERTS_EXAMPLE)

    # Another process may soon watch the target, and Alertmanager does not repeat requests that get a 4xx response.
    assert_problem(response, 503, "no_target_yet")
    assert int(response.headers["retry-after"]) >= 1


def test_only_target_that_another_process_watches_is_the_default(
    api: TestClient, log: IncidentLog, now_us: int, target: str
) -> None:
    def take(name: str) -> None:
        assert log.leases.take(name, "another", now_us=now_us, until_us=now_us + MINUTE_US) is not None

    take("/notices/slack")
    assert_problem(api.post("/agent/trigger"), 409, "no_target")
    take(target)
    made = api.post("/agent/trigger").json()["incident_id"]
    assert api.get(f"/agent/incidents/{made}").json()["target"] == target

    take(f"{target}-other")
    problem = assert_problem(api.post("/agent/trigger"), 409, "no_target")
    assert f"{target}, {target}-other" in problem["detail"]
    for name in (target, f"{target}-other"):
        log.leases.release(name, "another")


def test_harness_reads_the_status(api: TestClient) -> None:
    sight = read_status(1.0, api.get("/agent/status").json())

    assert sight.answered is True
    assert sight.incident is None
    assert sight.polls == 0
    assert sight.cost_usd == 0.0


def test_a_late_follower_gets_the_whole_timeline(api: TestClient, log: IncidentLog, now_us: int, target: str) -> None:
    incident_id = opened(log, target, at_us=now_us).incident_id
    log.update(
        incident_id, at_us=now_us, phase=Phase.GATHER, events=[NewEvent("gathered", "2 facts.", evidence=["e1"])]
    )
    log.close(incident_id, at_us=now_us, outcome=IncidentOutcome.PASSED)
    # An event after the end of the incident does not keep the stream open.
    log.append(incident_id, NewEvent("noted", "It was the weather."), at_us=now_us)

    whole = api.get(f"/agent/incidents/{incident_id}/events")
    rest = api.get(f"/agent/incidents/{incident_id}/events", headers={"last-event-id": "2"})

    assert whole.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert kinds(whole.text) == ["opened", "gathered", "closed", "noted"]
    event = read_events(whole.text)[1][1]
    assert event["specversion"] == "1.0"
    assert event["subject"] == incident_id
    assert event["data"]["evidence"] == ["e1"]
    assert [number for number, _ in read_events(rest.text)] == [3, 4]
    assert_problem(api.get("/agent/incidents/none/events"), 404)
    assert_problem(api.get(f"/agent/incidents/{incident_id}/events", headers={"last-event-id": "x"}), 422)


def test_events_of_another_process_arrive_while_the_stream_is_open(installation: Services, target: str) -> None:
    async def scenario() -> list[str]:
        app = create_app(build(installation.settings))
        async with app.router.lifespan_context(app):
            other = build(installation.settings)
            log, now_us = other.incidents.log, other.clock.now_us()
            incident_id = (await asyncio.to_thread(opened, log, target, at_us=now_us)).incident_id
            stream = RawRequest(app, f"/agent/incidents/{incident_id}/events")
            await stream.until(lambda: "opened" in stream.text)
            await asyncio.to_thread(log.append, incident_id, NewEvent("looked"), at_us=now_us)
            await stream.until(lambda: "looked" in stream.text)
            await asyncio.to_thread(log.close, incident_id, at_us=now_us, outcome=IncidentOutcome.RESOLVED)
            await stream.end()
            other.close()
            return kinds(stream.text)

    assert asyncio.run(scenario()) == ["opened", "looked", "closed"]
