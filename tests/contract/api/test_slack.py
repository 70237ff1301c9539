"""Slack commands over HTTP: requests need a valid signature, and only listed users can change anything."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from starlette.testclient import TestClient

from relab.api import slack
from relab.bootstrap import Services, build
from relab.incidents.service import SwitchState
from relab.incidents.storage.models import IncidentOutcome
from relab.server import create_app
from relab.settings import NoticeSettings
from support.api.client import assert_problem, loopback_client
from support.clocks import MovableClock
from support.incidents.logs import MINUTE_US, opened, question
from support.notices.slack import (
    EXAMPLE_BODY,
    EXAMPLE_SECRET,
    EXAMPLE_SIGNATURE,
    EXAMPLE_TIMESTAMP,
    FORM,
    command_body,
    signed_headers,
)

SECOND_US = 1_000_000
OPERATOR = "U2CERLKJA"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    """A clock that is stopped at the time of the example in Slack's documentation."""
    return MovableClock(int(EXAMPLE_TIMESTAMP) * SECOND_US)


@pytest.fixture(scope="module")
def listening(installation: Services, clock: MovableClock) -> Iterator[Services]:
    """The installation with a configured Slack signing secret."""
    notices = NoticeSettings(slack_signing_secret=SecretStr(EXAMPLE_SECRET), slack_operators=[OPERATOR])
    services = build(installation.settings.model_copy(update={"notices": notices}), clock=clock)
    yield services
    services.close()


@pytest.fixture(scope="module")
def remote(listening: Services) -> Iterator[TestClient]:
    """A client on another machine, without a token."""
    app = create_app(listening)
    with loopback_client(app, client_host="203.0.113.9", url="https://relab.example") as client:
        yield client


@pytest.fixture
def typed(remote: TestClient, clock: MovableClock) -> Callable[..., str]:
    """Return a function that sends a signed command and returns the text of the response."""

    def type_in(text: str, **who: str) -> str:
        clock.us += SECOND_US
        body = command_body(text, **who)
        response = remote.post("/slack/command", content=body, headers=signed_headers(body, clock.us))
        assert response.status_code == 200, response.text
        assert response.json()["response_type"] == "ephemeral"
        return str(response.json()["text"])

    return type_in


def asked_incident(services: Services) -> str:
    """Open an incident with a pending approval request, and return the id of the incident."""
    log, now_us = services.incidents.log, services.clock.now_us()
    incident_id = opened(log, f"shop-{next(_numbers)}", at_us=now_us).incident_id
    given = {"asked_at": now_us, "expires_at": now_us + 10 * MINUTE_US}
    log.approvals.request(question(incident_id, f"{incident_id}.1", **given))
    return incident_id


def decisions(services: Services, incident_id: str) -> list[tuple[bool, str, str]]:
    told = [event for event in services.incidents.log.read_after(incident_id) if event.kind == "approval_decided"]
    made = [event.content["decision"] for event in told]
    return [(each["approved"], each["by"], each["note"]) for each in made]


def test_published_example_is_accepted_once(remote: TestClient) -> None:
    headers = {
        "content-type": FORM,
        "x-slack-request-timestamp": EXAMPLE_TIMESTAMP,
        "x-slack-signature": EXAMPLE_SIGNATURE,
    }

    first = remote.post("/slack/command", content=EXAMPLE_BODY, headers=headers)
    again = remote.post("/slack/command", content=EXAMPLE_BODY, headers=headers)

    assert first.status_code == 200
    assert "/relab status" in first.json()["text"]
    assert_problem(again, 401, "invalid_signature")


def test_unsigned_request_is_rejected(remote: TestClient, clock: MovableClock, listening: Services) -> None:
    incident_id = asked_incident(listening)
    body = command_body(f"approve {incident_id}")
    signed = signed_headers(body, clock.us)
    old = signed_headers(body, clock.us - 6 * MINUTE_US)
    for headers in (
        {},
        {**signed, "x-slack-signature": ""},
        {**signed, "x-slack-request-timestamp": str(clock.us // SECOND_US + 1)},
        signed_headers(body + b"&x=1", clock.us),
        signed_headers(body, clock.us, secret="another"),
        old,
    ):
        response = remote.post("/slack/command", content=body, headers={"content-type": FORM, **headers})
        problem = assert_problem(response, 401, "invalid_signature")
        assert EXAMPLE_SECRET not in str(problem)

    assert decisions(listening, incident_id) == []


def test_malformed_compressed_or_oversized_body_is_rejected(remote: TestClient, clock: MovableClock) -> None:
    for body, headers, status in (
        (b"nonsense", {}, 422),
        (b"text=help", {}, 422),
        (command_body("help") + b"&a=1", {"content-type": "application/json"}, 415),
        (command_body("help"), {"content-encoding": "gzip"}, 415),
        (b"a=" + b"x" * slack.MAX_BYTES, {}, 413),
    ):
        response = remote.post("/slack/command", content=body, headers={**signed_headers(body, clock.us), **headers})
        assert_problem(response, status)


def test_without_a_signing_secret_every_request_is_rejected(api: TestClient) -> None:
    body = command_body("help")

    problem = assert_problem(
        api.post("/slack/command", content=body, headers=signed_headers(body, 0, secret="")), 404, "slack_off"
    )

    assert "RELAB_NOTICES__SLACK_SIGNING_SECRET" in problem["detail"]


def test_ssl_check_of_slack_is_answered(remote: TestClient, clock: MovableClock) -> None:
    body = b"ssl_check=1&token=xyzz0WbapA4vBCDEFasx0q6G"

    response = remote.post("/slack/command", content=body, headers=signed_headers(body, clock.us))

    assert response.status_code == 200
    assert response.json()["text"] == ""


def test_a_plan_is_approved_and_rejected_by_name(typed: Callable[..., str], listening: Services) -> None:
    incident_id = asked_incident(listening)

    approved = typed(f"approve {incident_id}.1 go <ahead> & do it")
    rejected = typed(f"reject {incident_id}")

    by = f"slack:roadrunner/{OPERATOR}"
    assert approved == f"restart-worker on target, approved by {by}: `{incident_id}.1`"
    assert rejected == f"restart-worker on target, rejected by {by}: `{incident_id}.1`"
    assert decisions(listening, incident_id) == [(True, by, "go <ahead> & do it"), (False, by, "")]


def test_unlisted_user_can_read_but_change_nothing(typed: Callable[..., str], listening: Services) -> None:
    incident_id = asked_incident(listening)
    for text in (f"approve {incident_id}", f"REJECT {incident_id}", "pause", "resume"):
        said = typed(text, user_id="U999", user_name=OPERATOR)
        assert said.startswith("The user U999 may read, but not change anything.")

    assert decisions(listening, incident_id) == []
    assert not listening.incidents.log.switches.state("shop").is_paused
    assert incident_id in typed("incidents", user_id="U999")


def test_no_user_is_listed_by_default(installation: Services, clock: MovableClock) -> None:
    notices = NoticeSettings(slack_signing_secret=SecretStr(EXAMPLE_SECRET))
    services = build(installation.settings.model_copy(update={"notices": notices}), clock=clock)
    try:
        clock.us += SECOND_US
        body = command_body("pause")
        headers = signed_headers(body, clock.us)
        taken = services.notices.take_in(
            body, timestamp=headers["x-slack-request-timestamp"], signature=headers["x-slack-signature"]
        )
        assert "not change anything" in services.notices.answer(taken)
    finally:
        services.close()


def test_pause_command_pauses_all_targets_with_its_reason_until_resume(
    typed: Callable[..., str], listening: Services
) -> None:
    assert typed("pause we move the database") == "Paused: no more actions are executed; polling continues."
    state: SwitchState = listening.incidents.log.switches.state("anything")
    assert state.is_paused is True
    assert state.by == f"slack:roadrunner/{OPERATOR}"
    assert state.why == "we move the database"

    assert typed("resume") == "Resumed."
    assert not listening.incidents.log.switches.state("anything").is_paused


def test_resume_command_names_the_targets_that_stay_paused(typed: Callable[..., str], listening: Services) -> None:
    target = f"shop-{next(_numbers)}"
    listening.incidents.pause(by="ann", target=target)

    said = typed("resume")
    listening.incidents.resume(by="ann", target=target)

    assert said == f"Resumed. Still paused by name: {target}. `lab incidents resume --target` ends that."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "`/relab status`"),
        ("help", "`/relab approve ID [note]`"),
        ("HELP me", "`/relab pause [why]`"),
        ("<!channel>", "There is no command &lt;!channel&gt;"),
        ("approve", "The id is missing."),
        ("approve nothing-of-ours", "There is no approval request 'nothing-of-ours'"),
        ("approve " + "x" * 3_000, "The id is missing."),
        ("status", "This process watches no target"),
    ],
)
def test_any_command_text_is_answered(typed: Callable[..., str], text: str, said: str) -> None:
    assert said in typed(text)


def test_command_for_an_incident_that_is_over_says_so(typed: Callable[..., str], listening: Services) -> None:
    incident_id = asked_incident(listening)
    listening.incidents.log.close(incident_id, at_us=listening.clock.now_us(), outcome=IncidentOutcome.PASSED)

    assert f"The incident {incident_id} is over." in typed(f"approve {incident_id}")


def test_hostile_title_mentions_no_user(typed: Callable[..., str], listening: Services) -> None:
    target = f"shop-{next(_numbers)}"
    listening.incidents.trigger("<!here> @channel <https://evil.example|ok>\n*x*", by="ann", target=target)

    said = typed("incidents")

    assert target in said
    for sign in ("<", "@channel", "s://"):
        assert sign not in said


def test_response_is_sent_before_slack_times_out(
    remote: TestClient, listening: Services, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, answered = threading.Event(), threading.Event()

    def slowly(command: Any) -> str:
        held.wait(30)
        answered.set()
        return "late"

    monkeypatch.setattr(slack, "RESPONSE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(listening.notices, "answer", slowly)
    clock.us += SECOND_US
    body = command_body("status")
    try:
        response = remote.post("/slack/command", content=body, headers=signed_headers(body, clock.us))
    finally:
        held.set()

    assert response.json()["text"].startswith("The command is still running.")
    assert answered.wait(30)


def test_secrets_are_in_no_log(remote: TestClient, clock: MovableClock) -> None:
    body = command_body("help")
    headers = signed_headers(body, clock.us + 77 * SECOND_US)
    with structlog.testing.capture_logs() as logs:
        remote.post("/slack/command", content=body, headers=headers)
        remote.post("/slack/command", content=body, headers={**headers, "x-slack-signature": "v0=0"})

    assert logs
    for secret in (EXAMPLE_SECRET, headers["x-slack-signature"], "response_url"):
        assert secret not in str(logs)
