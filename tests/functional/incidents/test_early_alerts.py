"""Notifications from Alertmanager that arrive before the server answers: their alerts are stored."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from relab.api.incidents import ALERTS_EXAMPLE
from rig.servers import free_port
from rig.waiting import wait_until
from support.api.raw_http import RawConnection
from support.components.alerting import alertmanager, require_alerting
from support.lab.installation import Installation
from support.lab.process import LabProcess
from support.shops.well_targets import a_well_target


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A responder whose polls are so rare that all its incidents come from alerts."""
    with a_well_target() as url:
        yield Installation.on_sqlite(
            tmp_path / "home",
            TARGET_API_BASE_URL=url,
            ACTION_SERVER_URL=f"http://127.0.0.1:{free_port()}",
            ACTION_SERVER_TOKEN="t",
            POLL_INTERVAL_SECONDS="300",
        )


def notification(name: str) -> bytes:
    """Return the bytes of a request with one alert."""
    alert = {**ALERTS_EXAMPLE["alerts"][0], "labels": {"alertname": name}, "fingerprint": name}
    body = json.dumps({**ALERTS_EXAMPLE, "groupKey": name, "alerts": [alert]}).encode()
    head = [
        "POST /alerts/alertmanager HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(head).encode() + body


def stored(installation: Installation) -> list[str]:
    return [name for (name,) in installation.query("SELECT fingerprint FROM incident_alerts ORDER BY fingerprint")]


def statuses(server: LabProcess) -> list[str]:
    """Return the logged statuses of notifications, in order."""
    lines = [line for line in server.log().splitlines() if "path=/alerts/alertmanager" in line]
    return [line.rpartition("status=")[2].split()[0] for line in lines]


def test_notification_of_a_disconnected_sender_is_accepted(installation: Installation) -> None:
    with installation.serve("--only", "incidents") as server:
        assert server.port is not None
        # To a client this is a slow start: the kernel accepts the connection, and no response comes.
        server.send(signal.SIGSTOP)
        for name in ("a", "b", "c"):
            with RawConnection(server.port) as connection:
                connection.send(notification(name))
        server.send(signal.SIGCONT)

        wait_until(lambda: stored(installation) == ["a", "b", "c"], what="the alerts")
        assert not {status for status in statuses(server) if status.startswith("4")}

        whole = notification("d")
        with RawConnection(server.port) as connection:
            connection.send(whole[:-10])
        wait_until(lambda: "499" in statuses(server), what="the log of a body that was cut off")
        assert "400" not in statuses(server)
        assert stored(installation) == ["a", "b", "c"]


@pytest.mark.full
def test_alert_of_an_alertmanager_that_timed_out_is_stored_once(tmp_path: Path, installation: Installation) -> None:
    require_alerting()
    with installation.serve("--only", "incidents") as server:
        config = tmp_path / "alertmanager.yml"
        config.write_text(
            "route: {receiver: relab, group_by: [service], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n"
            f"receivers: [{{name: relab, webhook_configs: [{{url: '{server.url}/alerts/alertmanager'}}]}}]\n"
        )
        with alertmanager(tmp_path, config, free_port()) as notifier:
            server.send(signal.SIGSTOP)
            alert = {"labels": {"alertname": "A", "service": "shop"}, "annotations": {"summary": "It fails."}}
            httpx.post(f"{notifier.url}/api/v2/alerts", json=[alert], timeout=30, trust_env=False).raise_for_status()
            wait_until(lambda: "context deadline exceeded" in notifier.log.read_text(), what="the end of its patience")
            server.send(signal.SIGCONT)

            wait_until(lambda: len(statuses(server)) > 1, what="another attempt")
            wait_until(lambda: len(stored(installation)) == 1, what="the alert")
            assert not {status for status in statuses(server) if status.startswith("4")}
