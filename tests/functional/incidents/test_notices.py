"""`lab serve` sends notices of incidents and accepts commands, also after it was killed while it sent one."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from rig.servers import free_port
from rig.waiting import wait_until
from support.lab.cli import Lab
from support.lab.process import LabProcess
from support.notices.receivers import SECRET_PATH, Answer, loopback_receiver
from support.notices.senders import ROUTING_KEY
from support.notices.slack import EXAMPLE_SECRET, command_body, signed_headers
from support.shops.well_targets import a_well_target

EXIT_UNAVAILABLE = 69
pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


def test_notices_and_commands_survive_a_kill(tmp_path: Path) -> None:
    with (
        a_well_target() as target,
        loopback_receiver(Answer(until=threading.Event())) as slack,
        # It rejects every notice: the killed server may have sent the first one without recording the rejection.
        loopback_receiver(*[Answer(400, body=f"bad key {ROUTING_KEY}".encode())] * 100) as pagerduty,
    ):
        settings = {
            "TARGET_API_BASE_URL": target,
            "ACTION_SERVER_URL": f"http://127.0.0.1:{free_port()}",
            "ACTION_SERVER_TOKEN": "t",
            "POLL_INTERVAL_SECONDS": "0.5",
            "LOG_LEVEL": "DEBUG",
            "RELAB_NOTICES__SLACK_WEBHOOK_URL": slack.url,
            "RELAB_NOTICES__SLACK_SIGNING_SECRET": EXAMPLE_SECRET,
            "RELAB_NOTICES__SLACK_OPERATORS": '["U2CERLKJA"]',
            "RELAB_NOTICES__PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
            "RELAB_NOTICES__PAGERDUTY_URL": pagerduty.url,
        }
        home = tmp_path / "home"
        with LabProcess.serve(home, "--only", "incidents", settings=settings) as lab:
            with lab.client() as client:
                incident_id = client.post("/agent/trigger", json={"detail": "Checkout hangs."}).json()["incident_id"]
            wait_until(lambda: slack.keys == [f"{incident_id}:1"], what="the first notice")
            lab.kill()
            lab.start()
            wait_until(lambda: len(slack.received) >= 3, within_s=90, what="what came after it")
            body = command_body("pause we look ourselves")
            with lab.client() as client:
                heard = client.post(
                    "/slack/command", content=body, headers=signed_headers(body, time.time_ns() // 1_000)
                )
                status = client.get("/agent/status").json()

            def checks() -> dict[str, str]:
                # The action server does not run, so `lab doctor` exits with an error.
                told = Lab(home, settings).run("doctor", "--json", code=EXIT_UNAVAILABLE).json["checks"]
                return {check["name"]: check["found"] for check in told}

            wait_until(lambda: " 0 given up" not in checks()["notices to pagerduty"], what="a notice that is given up")
            found, said = checks(), lab.log()

    # The notice that the killed server sent but did not record is sent again; later notices follow in order.
    sent = [int(key.rpartition(":")[2]) for key in slack.keys]
    assert sent[:2] == [1, 1]
    assert sent[1:] == sorted(set(sent))
    assert heard.json()["text"] == "Paused: no more actions are executed; polling continues."
    assert status["paused"] is True
    assert status["paused_by"] == "slack:roadrunner/U2CERLKJA"
    assert not found["notices to slack"].startswith("0 sent")
    assert found["notices to pagerduty"].startswith("0 sent")
    assert "last error: " in found["notices to pagerduty"]
    for secret in (SECRET_PATH.strip("/"), ROUTING_KEY, EXAMPLE_SECRET):
        assert secret not in said + str(found)
