"""A killed sender of notices: a notice that was sent but not recorded is sent again with the same key."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from relab.core.clock import SystemClock
from relab.incidents.notices.outbox import Outbox
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import NewEvent
from relab.storage import Database
from rig.children import read_line
from rig.waiting import wait_until
from support.incidents.logs import opened
from support.lab.forked import forked
from support.notices.receivers import Answer, loopback_receiver

MODULE = "support.notices.child"


@pytest.mark.full
def test_notice_is_sent_again_if_the_sender_was_killed_before_recording_it(
    log: IncidentLog, shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    now_us = SystemClock().now_us()
    incident_id = opened(log, "shop", at_us=now_us).incident_id
    with loopback_receiver(Answer(until=threading.Event())) as slack:
        with forked(MODULE, shared_url, str(tmp_path), slack.url) as sender:
            assert read_line(sender) == "sending"
            wait_until(lambda: slack.keys == [f"{incident_id}:1"])
            sender.kill()
            sender.wait()
        # No sender runs when this event is stored.
        log.append(incident_id, NewEvent("escalated", "A person is needed."), at_us=now_us)
        with forked(MODULE, shared_url, str(tmp_path), slack.url) as sender:
            assert read_line(sender) == "sending"
            wait_until(lambda: any(state.sent == 2 for state in Outbox(notices_database).states()))
            sender.kill()

    assert slack.keys == [f"{incident_id}:1", f"{incident_id}:1", f"{incident_id}:2"]
