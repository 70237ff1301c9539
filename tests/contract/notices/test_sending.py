"""Notices are sent to receivers in order, at least once, with retries that end after a limit."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from relab.bootstrap import build
from relab.core.clock import SystemClock
from relab.core.errors import ConfigurationError
from relab.incidents.actions.records import ActionStatus
from relab.incidents.notices.channels.slack import SlackOptions
from relab.incidents.notices.models import ReceiverState
from relab.incidents.notices.outbox import Outbox
from relab.incidents.notices.service import NoticeService
from relab.incidents.notices.settings import NoticeOptions
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, NewEvent
from relab.settings import load_settings
from relab.storage import Database
from rig.servers import refusing_port
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.incidents.logs import MINUTE_US, SECOND_US, asked, opened, question
from support.notices.receivers import SECRET_PATH, Answer, LoopbackReceiver, Received, loopback_receiver
from support.notices.senders import QUICK, ROUTING_KEY, sending, to_both, to_slack

HOUR_US = 60 * MINUTE_US
_numbers = itertools.count()


def now_us() -> int:
    return SystemClock().now_us()


def new_incident(log: IncidentLog, *, ago_us: int = 0) -> str:
    return opened(log, f"shop-{next(_numbers)}", at_us=now_us() - ago_us).incident_id


def tell(log: IncidentLog, incident_id: str, *kinds: str) -> None:
    for kind in kinds:
        log.append(incident_id, NewEvent(kind, f"It is {kind}."), at_us=now_us())


def events_of(keys: list[str], incident_id: str) -> list[int]:
    return [int(seq) for each, _, seq in (key.partition(":") for key in keys) if each == incident_id]


def state_of(database: Database, receiver: str = "slack") -> ReceiverState:
    none = ReceiverState(
        receiver=receiver, since=0, sent=0, given_up=0, last_sent_at=None, attempts=0, retry_at=None, error=None
    )
    return next((state for state in Outbox(database).states() if state.receiver == receiver), none)


def wait_for(receiver: LoopbackReceiver, count: int) -> list[Received]:
    wait_until(lambda: len(receiver.received) >= count, what=f"request {count}")
    return receiver.received


def wait_for_state(database: Database, receiver: str = "slack", **wanted: Any) -> ReceiverState:
    def found() -> ReceiverState | None:
        state = state_of(database, receiver)
        return state if all(getattr(state, name) == value for name, value in wanted.items()) else None

    state = wait_until(found, what=f"{receiver} {wanted}")
    assert state is not None
    return state


def test_receiver_is_notified_from_opening_to_end(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    with (
        loopback_receiver() as slack,
        loopback_receiver() as pagerduty,
        sending(shared_url, tmp_path, to_both(slack, pagerduty)),
    ):
        incident_id = new_incident(log)
        wait_for(pagerduty, 1)
        act = log.actions.put(asked(incident_id, asked_at=now_us())).act
        log.actions.finish(act.key, ActionStatus.FAILED, at_us=now_us(), error="No worker answers.")
        tell(log, incident_id, "escalated")
        wait_for(pagerduty, 2)
        log.close(incident_id, at_us=now_us(), outcome=IncidentOutcome.ESCALATED, message="Ann has restarted it.")
        wait_for_state(notices_database, "slack", sent=4)
        wait_for_state(notices_database, "pagerduty", sent=3)

    titles = [each.document["blocks"][0]["text"]["text"].partition("*")[2].partition("*")[0] for each in slack.received]
    assert titles == ["Incident opened", "Action failed", "A person is needed", "Incident ended by a person"]
    assert slack.keys == [f"{incident_id}:{seq}" for seq in (1, 3, 4, 5)]
    pages = [each.document for each in pagerduty.received]
    assert [page["event_action"] for page in pages] == ["trigger", "trigger", "resolve"]
    assert {page["dedup_key"] for page in pages} == {incident_id}
    assert {page["routing_key"] for page in pages} == {ROUTING_KEY}
    assert [page["payload"]["severity"] for page in pages[:2]] == ["error", "critical"]
    assert {each.content_type for each in slack.received} == {"application/json; charset=utf-8"}


@pytest.mark.full
def test_end_of_an_incident_that_opened_before_the_first_sending_is_notified(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    incident_id = new_incident(log, ago_us=50 * HOUR_US)
    with loopback_receiver() as slack:
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=1)
        log.close(incident_id, at_us=now_us(), outcome=IncidentOutcome.PASSED)
        tell(log, incident_id, "escalated")
        after = new_incident(log)
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=3)

    # Events after the end of an incident are not sent.
    assert slack.keys == [f"{incident_id}:1", f"{incident_id}:2", f"{after}:1"]


def test_next_process_does_not_repeat_notices(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    with loopback_receiver() as slack:
        incident_id = new_incident(log)
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=1)
        tell(log, incident_id, "gathered", "escalated")
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=2)

    assert events_of(slack.keys, incident_id) == [1, 3]


@pytest.mark.full
def test_new_receiver_is_notified_of_open_incidents_only(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    over = new_incident(log, ago_us=HOUR_US)
    log.close(over, at_us=now_us(), outcome=IncidentOutcome.PASSED)
    still = new_incident(log, ago_us=HOUR_US)
    with loopback_receiver() as slack:
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=1)
        # An incident that opened and closed while no sender ran is notified later.
        between = new_incident(log)
        log.close(between, at_us=now_us(), outcome=IncidentOutcome.PASSED)
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=3)

    assert slack.keys == [f"{still}:1", f"{between}:1", f"{between}:2"]


@pytest.mark.parametrize("status", [503, *(pytest.param(each, marks=pytest.mark.full) for each in (408, 429, 500))])
def test_failed_notice_is_retried_before_later_ones_are_sent(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path, status: int
) -> None:
    with loopback_receiver(Answer(status), Answer(status), Answer(status)) as slack:
        incident_id = new_incident(log)
        tell(log, incident_id, "escalated")
        with sending(shared_url, tmp_path, to_slack(slack)):
            state = wait_for_state(notices_database, sent=2)

    assert events_of(slack.keys, incident_id) == [1, 1, 1, 1, 2]
    assert state.given_up == 0
    assert state.attempts == 0
    assert state.retry_at is None
    assert state.error is None


@pytest.mark.full
def test_retry_after_of_a_receiver_is_respected(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    clock = MovableClock(now_us())
    with loopback_receiver(Answer(429, {"Retry-After": "3"})) as slack:
        new_incident(log)
        with sending(shared_url, tmp_path, to_slack(slack), clock):
            state = wait_for_state(notices_database, attempts=1)
        assert state.retry_at == clock.us + 3 * SECOND_US
        assert state.error == "answered 429: ok"
        # The retry time is stored, so a process that starts earlier also waits.
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for_state(notices_database, sent=1)
            assert now_us() >= state.retry_at


def test_rejection_is_final_and_noted_in_the_timeline(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    refusal = Answer(404, body=f"no_service {SECRET_PATH} <!channel>\n".encode())
    with loopback_receiver(refusal) as slack, structlog.testing.capture_logs() as logs:
        incident_id = new_incident(log)
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_until(lambda: state_of(notices_database).given_up == 1)
            tell(log, incident_id, "escalated")
            wait_for_state(notices_database, sent=1, given_up=1)

    assert len(slack.received) == 2
    lost = next(event for event in log.read_after(incident_id) if event.kind == "notice_lost")
    assert lost.message == "slack did not get event 1 (opened): answered 404: no_service /*** <!channel>."
    assert [entry["reason"] for entry in logs if entry["event"] == "notice_given_up"] == [lost.content["reason"]]
    assert SECRET_PATH.strip("/") not in str(logs)


@pytest.mark.full
def test_a_redirect_is_not_followed(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    with loopback_receiver() as other, loopback_receiver(Answer(307, {"Location": other.url})) as slack:
        new_incident(log)
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_until(lambda: state_of(notices_database).given_up == 1)

    assert other.received == []


def test_undeliverable_notice_is_given_up_and_the_next_one_sent(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    # The pauses between the attempts are 0.1, 0.2 and 0.4 s.
    with loopback_receiver(*[Answer(503)] * 4) as slack:
        incident_id = new_incident(log)
        tell(log, incident_id, "escalated")
        with sending(shared_url, tmp_path, to_slack(slack, replace(QUICK, give_up_after_s=0.6))):
            wait_for_state(notices_database, sent=1, given_up=1)

    assert events_of(slack.keys, incident_id) == [1, 1, 1, 1, 2]


def test_old_notice_is_retried_as_long_as_a_new_one(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    long_ago_us = now_us() - 5 * HOUR_US
    incident_id = new_incident(log, ago_us=5 * HOUR_US)
    log.append(incident_id, NewEvent("escalated", "A person is needed."), at_us=long_ago_us)
    # No sender ran at the time of the events, and the first attempts fail like unresolved host names.
    answers = Answer(503), Answer(503), Answer(), Answer(503)
    with loopback_receiver(*answers) as slack, sending(shared_url, tmp_path, to_slack(slack)):
        wait_for_state(notices_database, sent=2, given_up=0)

    assert events_of(slack.keys, incident_id) == [1, 1, 1, 2, 2]


def test_clock_that_jumps_forward_gives_up_no_notice(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    clock = MovableClock(now_us())
    incident_id = opened(log, "shop", at_us=clock.us).incident_id
    with loopback_receiver(Answer(503), Answer(503)) as slack, sending(shared_url, tmp_path, to_slack(slack), clock):
        for attempts in (1, 2):
            wait_for_state(notices_database, attempts=attempts)
            clock.us += 5 * HOUR_US
        wait_for_state(notices_database, sent=1, given_up=0)

    assert slack.keys == [f"{incident_id}:1"] * 3


def test_unusable_proxy_prevents_the_start_of_sending(
    notices_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    services = build(load_settings(tmp_path))
    settings = NoticeOptions((SlackOptions(SecretStr(f"https://slack.invalid{SECRET_PATH}")),))
    service = NoticeService(notices_database, services.clock, services.incidents, settings)

    async def start() -> None:
        async with service.sending():
            pytest.fail("It has begun.")

    try:
        for starting in (service.configured, lambda: asyncio.run(start())):
            with pytest.raises(ConfigurationError, match="proxy"):
                starting()
        # Without receivers an unusable proxy is no error.
        assert NoticeService(notices_database, services.clock, services.incidents, NoticeOptions()).configured() == []
    finally:
        services.close()


@pytest.mark.full
def test_slow_receiver_does_not_delay_others(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    held = threading.Event()
    with loopback_receiver(Answer(until=held)) as slack, loopback_receiver() as pagerduty:
        settings = replace(to_both(slack, pagerduty), delivery=replace(QUICK, request_timeout_s=1.0))
        incident_id = new_incident(log)
        with sending(shared_url, tmp_path, settings):
            wait_for(slack, 1)
            tell(log, incident_id, "escalated")
            wait_for_state(notices_database, "pagerduty", sent=2)
            # The request to Slack timed out, so the notice is sent again.
            wait_for_state(notices_database, "slack", sent=2)
        held.set()

    assert events_of(slack.keys, incident_id) == [1, 1, 2]


@pytest.mark.full
def test_receiver_that_was_unreachable_gets_its_notices(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    incident_id = new_incident(log)
    with (
        refusing_port() as port,
        structlog.testing.capture_logs() as logs,
        sending(shared_url, tmp_path, to_slack(LoopbackReceiver(port))),
    ):
        wait_until(lambda: state_of(notices_database).attempts >= 2)
    with loopback_receiver() as slack, sending(shared_url, tmp_path, to_slack(slack)):
        wait_for_state(notices_database, sent=1)

    assert slack.keys == [f"{incident_id}:1"]
    assert SECRET_PATH.strip("/") not in str(logs)


@pytest.mark.full
def test_only_one_of_two_processes_sends(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    # A sender that a busy machine delays for longer than its lease loses it, and may send a notice twice.
    patient = replace(QUICK, lease_s=60.0)
    with loopback_receiver() as slack:
        settings = to_slack(slack, patient)
        with sending(shared_url, tmp_path, settings), sending(shared_url, tmp_path, settings):
            ids = [new_incident(log) for _ in range(3)]
            wait_for_state(notices_database, sent=3)
            # Either process may be the sender; when it ends, the other takes over.
        with sending(shared_url, tmp_path, settings):
            ids.append(new_incident(log))
            wait_for_state(notices_database, sent=4)

    assert slack.keys == [f"{incident_id}:1" for incident_id in ids]


def test_answered_question_and_closed_incident_page_no_person(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    at_us = now_us()
    answered, over = new_incident(log), new_incident(log)
    log.approvals.request(question(answered, f"{answered}.1", asked_at=at_us, expires_at=at_us + MINUTE_US))
    log.approvals.decide(f"{answered}.1", approved=False, by="ann", now_us=now_us())
    log.update(over, at_us=now_us(), status=IncidentStatus.ESCALATED, events=[NewEvent("escalated", "Help.")])
    log.close(over, at_us=now_us(), outcome=IncidentOutcome.ESCALATED)
    with loopback_receiver() as slack, loopback_receiver() as pagerduty:
        Outbox(notices_database).set_up("pagerduty", at_us=at_us - HOUR_US)
        Outbox(notices_database).set_up("slack", at_us=at_us - HOUR_US)
        with sending(shared_url, tmp_path, to_both(slack, pagerduty)):
            wait_for_state(notices_database, "pagerduty", sent=3)
            wait_for_state(notices_database, "slack", sent=5)

    pages = [(each.document["dedup_key"], each.document["event_action"]) for each in pagerduty.received]
    assert pages == [(answered, "trigger"), (answered, "acknowledge"), (over, "resolve")]
    assert "Approval needed" not in str([each.document for each in slack.received])


def test_deleted_incident_does_not_block_other_notices(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    held = threading.Event()
    with loopback_receiver(Answer(until=held)) as slack:
        gone = new_incident(log, ago_us=MINUTE_US)
        with sending(shared_url, tmp_path, to_slack(slack)):
            wait_for(slack, 1)
            log.close(gone, at_us=now_us(), outcome=IncidentOutcome.PASSED)
            log.forget([gone])
            held.set()
            after = new_incident(log)
            wait_until(lambda: f"{after}:1" in slack.keys)

    assert [key for key in slack.keys if key.startswith((gone, after))][-1] == f"{after}:1"


def test_retry_time_from_before_the_clock_was_set_back_is_ignored(log: IncidentLog, notices_database: Database) -> None:
    incident_id = new_incident(log)
    outbox, at_us = Outbox(notices_database), now_us()
    outbox.set_up("slack", at_us=at_us)
    outbox.put_off("slack", until_us=at_us + 50 * HOUR_US, attempts=1, error="away")

    assert [each.incident_id for each in outbox.waiting("slack", now_us=at_us)] == [incident_id]


def test_position_of_a_receiver_never_moves_back(log: IncidentLog, notices_database: Database) -> None:
    incident_id = new_incident(log)
    tell(log, incident_id, "gathered", "thought", "planned")
    _, second, third, _ = log.read_after(incident_id)
    outbox, at_us = Outbox(notices_database), now_us()
    outbox.set_up("slack", at_us=at_us)
    outbox.note_sent("slack", third, at_us=at_us)
    outbox.pass_over("slack", second)

    assert [each.seq for each in outbox.waiting("slack", now_us=at_us)] == [3]
