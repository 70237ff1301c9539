"""An API that watches a target: its status, triggers and alerts, and incidents that it resumes after a restart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.api.incidents import ALERTS_EXAMPLE
from relab.bootstrap import Services, build
from relab.core.errors import ConfigurationError
from rig.waiting import wait_until
from support.api.client import assert_problem, fields_of, read_events, running_api
from support.shops.well_targets import a_well_target

NOBODY = "http://127.0.0.1:9"
"""The URL of an unused port."""
TARGET = "127.0.0.1:9"


@pytest.fixture
def watching(make_services: Callable[..., Services], database_url: str) -> Callable[..., Services]:
    """Return a function that composes services that watch an unreachable target."""

    def make(**options: Any) -> Services:
        given = {"target_api_base_url": NOBODY, "action_server_url": NOBODY, "action_server_token": "t"}
        return make_services(database_url=database_url, **{**given, "poll_interval_seconds": 300.0, **options})

    return make


ESCALATION_LIMIT_S = 90.0
"""The limit of waits for an escalation, in seconds. Without load, an escalation takes three seconds."""


def status(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/agent/status").json()
    return found


def alerts(**more: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ALERTS_EXAMPLE), **more}


def test_status_shows_target_and_autonomy(watching: Callable[..., Services]) -> None:
    options = {"incidents": {"autonomy": "suggest", "autonomy_by_class": {"restart": "act"}}}
    with running_api(watching(**options)) as client:
        wait_until(lambda: status(client)["polls"] == 1, what="the first poll")
        told = status(client)

    assert told["target"] == TARGET
    assert told["autonomy"] == "suggest"
    assert told["autonomy_by_class"] == {"restart": "act"}
    assert told["leading"] is True


def test_person_triggers_an_incident_once(watching: Callable[..., Services]) -> None:
    with running_api(watching()) as client:
        first = client.post("/agent/trigger", json={"detail": "Checkout hangs."})
        again = client.post("/agent/trigger")
        told = status(client)["incident"]

    assert first.status_code == 202
    assert first.json()["created"] is True
    assert again.json() == {**first.json(), "created": False}
    assert told["id"] == first.json()["incident_id"]
    assert told["title"] == "Checkout hangs."


def test_alert_with_a_nul_character_is_received(watching: Callable[..., Services]) -> None:
    with running_api(watching()) as client:
        answer = client.post("/alerts/alertmanager", json=alerts(commonAnnotations={"summary": "a\x00b"}))
        told = status(client)["incident"]

    assert answer.status_code == 200
    assert told["title"] == "a\ufffdb"


def test_repeated_alerts_open_one_incident(watching: Callable[..., Services]) -> None:
    with running_api(watching()) as client:
        first, again = (client.post("/alerts/alertmanager", json=alerts()).json() for _ in range(2))
        ended = alerts(status="resolved")
        ended["alerts"][0]["status"] = "resolved"
        over = client.post("/alerts/alertmanager", json=ended).json()
        shown = client.get(f"/agent/incidents/{first['incident_id']}").json()

    assert first["fresh"] == 1
    assert first["created"] is True
    assert again == {"fresh": 0, "incident_id": None, "created": False}
    assert over["fresh"] == 1
    assert over["incident_id"] is None
    assert shown["title"] == "Checkout takes longer than 2 s."
    assert shown["severity"] == "critical"
    assert [item["signal"] for item in shown["findings"]] == ["alert.CheckoutSlow"]


def test_invalid_notification_names_its_fields(watching: Callable[..., Services]) -> None:
    wrong = [
        ({}, ["groupKey", "alerts"]),
        (alerts(alerts=[{"status": "perhaps", "startsAt": 1}]), ["alerts.0.status", "alerts.0.startsAt"]),
        (alerts(groupKey=""), ["groupKey"]),
        ([], ["body"]),
    ]
    with running_api(watching()) as client:
        for document, fields in wrong:
            problem = assert_problem(client.post("/alerts/alertmanager", json=document), 422, "invalid_alerts")
            assert fields_of(problem) == fields
        assert client.get("/agent/incidents").json()["items"] == []


def test_start_without_an_action_token_is_rejected(watching: Callable[..., Services]) -> None:
    services = watching(action_server_token=None)

    with pytest.raises(ConfigurationError, match="ACTION_SERVER_TOKEN"), running_api(services):
        pass
    with pytest.raises(ConfigurationError, match="ACTION_SERVER_TOKEN"):
        services.incidents.check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"action_server_url": "ftp://127.0.0.1:9000"}, "address of an action server"),
        ({"action_server_url": "127.0.0.1:9000"}, "address of an action server"),
        ({"action_server_token": "two words"}, "token for the action server"),
        ({"target_api_base_url": "127.0.0.1:8011", "incidents": {"target_name": "shop"}}, "TARGET_API_BASE_URL"),
    ],
)
def test_unusable_address_or_token_is_found_before_the_start(
    watching: Callable[..., Services], options: dict[str, Any], said: str
) -> None:
    services = watching(**options)
    with pytest.raises(ConfigurationError, match=said):
        services.incidents.check()


@pytest.mark.full
def test_incident_triggered_by_another_process_is_handled_and_resumed_after_a_restart(
    watching: Callable[..., Services],
) -> None:
    services = watching(poll_interval_seconds=0.2)
    other = build(services.settings)
    triggered = other.incidents.trigger("Checkout hangs.", by="ann").incident_id
    with running_api(build(services.settings)) as client:
        events = other.incidents.timeline
        # The node that wrote `gathered` has ended: only an interrupted node writes its events again.
        wait_until(lambda: "thought" in {event.kind for event in events(triggered)}, what="the first diagnosis")
        first = status(client)["incident"]
    with running_api(build(services.settings)) as client:
        wait_until(
            lambda: status(client)["incident"]["phase"] == "escalated",
            within_s=ESCALATION_LIMIT_S,
            what="an escalation",
        )
        told = status(client)["incident"]
    kinds = [event.kind for event in other.incidents.timeline(triggered)]
    other.close()

    assert first["id"] == told["id"] == triggered
    # Steps before the restart are not repeated.
    assert kinds.count("gathered") == 1
    assert kinds.count("escalated") == 1


def is_handed_over(client: TestClient) -> bool:
    incident = status(client)["incident"]
    return incident is not None and incident["status"] == "escalated"


@pytest.mark.full
def test_triggered_incident_is_investigated_even_if_polls_are_healthy(
    watching: Callable[..., Services],
) -> None:
    with a_well_target() as target:
        services = watching(target_api_base_url=target, poll_interval_seconds=0.2, incidents={"autonomy": "act"})
        with running_api(services) as client:
            triggered = client.post("/agent/trigger", json={"detail": "It feels slow."}).json()["incident_id"]
            # An incident that relab did not repair stays open for a while, so a person dismisses it here.
            wait_until(lambda: is_handed_over(client), within_s=ESCALATION_LIMIT_S, what="a person to be called")
            client.post(f"/agent/incidents/{triggered}/dismiss", json={"why": "It was my own network."})
            wait_until(lambda: status(client)["incident"] is None, what="the end of the incident")
            shown = client.get(f"/agent/incidents/{triggered}").json()
            told = [data["type"] for _, data in read_events(client.get(f"/agent/incidents/{triggered}/events").text)]

    assert shown["outcome"] == "dismissed"
    assert shown["actions"] == []
    for kind in ("opened", "diagnosed", "escalated", "closed"):
        assert f"relab.incident.{kind}" in told
