"""A real Prometheus and Alertmanager, configured as in the guide, send the alerts of a shop to `lab serve`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rig.servers import free_port
from rig.waiting import wait_until
from support.components.alerting import (
    Program,
    ScrapedShop,
    a_scraped_shop,
    alertmanager,
    prometheus,
    require_alerting,
    run_program,
    snippets,
    write_config,
)
from support.lab.installation import Installation
from support.lab.process import LabProcess, run_lab
from support.shops.well_targets import a_well_target

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

READ, INGEST = "relab-read.token", "relab-ingest.token"


@pytest.fixture(autouse=True)
def programs() -> None:
    """Skip the tests if Prometheus or Alertmanager is missing."""
    require_alerting()


@pytest.fixture
def target() -> Iterator[str]:
    """The address of a target without a fault."""
    with a_well_target() as url:
        yield url


@pytest.fixture
def installation(tmp_path: Path, target: str) -> Installation:
    """A responder whose polls are so rare that all its events come from alerts."""
    made = Installation.on_sqlite(
        tmp_path / "home",
        TARGET_API_BASE_URL=target,
        ACTION_SERVER_URL=f"http://127.0.0.1:{free_port()}",
        ACTION_SERVER_TOKEN="t",
        POLL_INTERVAL_SECONDS="300",
    )
    for name, scope in ((READ, "read"), (INGEST, "ingest")):
        (tmp_path / name).write_text(_token(made, scope))
    return made


def _token(installation: Installation, scope: str) -> str:
    done = run_lab("auth", "create-token", "--name", scope, "--scope", scope, home=installation.home)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(installation: Installation) -> list[str]:
    """Return the messages about alerts in the timelines of all incidents."""
    rows = installation.query("SELECT message FROM incident_events WHERE kind = 'alert' ORDER BY incident_id, seq")
    return [message for (message,) in rows]


def answered(relab: LabProcess, folder: Path, status: int) -> float:
    """Return the number of notifications that relab has answered with a status."""
    labels = {"route": "/alerts/alertmanager", "status": str(status)}
    token = (folder / READ).read_text().strip()
    response = httpx.get(
        f"{relab.url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    )
    wanted = ",".join(f'{name}="{value}"' for name, value in labels.items())
    lines = [
        line for line in response.text.splitlines() if line.startswith("relab_http_requests_total{") and wanted in line
    ]
    return float(lines[0].split()[-1]) if lines else 0.0


def write_alertmanager(folder: Path, relab: LabProcess, **changed: str) -> Path:
    """Write the guide's configuration of Alertmanager for a relab server, with short times."""
    shorter = {"group_wait: 10s": "group_wait: 0s", "group_interval: 1m": "group_interval: 1s"}
    given = {**shorter, "repeat_interval: 1h": "repeat_interval: 1s", "http://127.0.0.1:9001": relab.url, **changed}
    return write_config(folder, "alertmanager.yml", given)


def write_prometheus(folder: Path, shop: str, relab: LabProcess, notified: int) -> Path:
    """Write the guide's configuration of Prometheus for a shop, with short times."""
    write_config(folder, "relab.rules.yml", {"[1m]": "[5s]", "for: 30s": "for: 0s"})
    addresses = {
        "127.0.0.1:8011": shop,
        "127.0.0.1:9001": relab.url.removeprefix("http://"),
        "127.0.0.1:9093": f"127.0.0.1:{notified}",
    }
    return write_config(folder, "prometheus.yml", {**addresses, "15s": "1s"})


def test_configuration_of_the_guide_is_valid(tmp_path: Path) -> None:
    for name in snippets():
        write_config(tmp_path, name, {})
    for name in (READ, INGEST):
        (tmp_path / name).touch()

    run_program("promtool", "check", "config", "prometheus.yml", cwd=tmp_path)
    run_program("amtool", "check-config", "alertmanager.yml", cwd=tmp_path)
    for labels, receivers in (("service=shop", "relab,people"), ("service=relab", "people")):
        command = ("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", labels)
        assert run_program(*command, cwd=tmp_path).splitlines()[0] == receivers


def test_alerts_during_downtime_reach_the_responder_once(tmp_path: Path, installation: Installation) -> None:
    relab, port = installation.serve("--only", "incidents"), free_port()
    token = (tmp_path / INGEST).read_text()
    (tmp_path / INGEST).write_text("relab_0_wrong")
    with (
        a_scraped_shop("/cart", "/checkout") as (shop, address),
        alertmanager(tmp_path, write_alertmanager(tmp_path, relab), port) as notifier,
        prometheus(tmp_path, write_prometheus(tmp_path, address, relab, port)) as observer,
    ):
        _wait_for_failures(notifier)
        with relab:
            wait_until(lambda: answered(relab, tmp_path, 401) > 0, what="a notification that is not let in")
            assert told(installation) == []
            (tmp_path / INGEST).write_text(token)
            wait_until(lambda: len(told(installation)) == 2, what="both alerts")
            _repeat(notifier, relab, tmp_path)
            _look_at_the_incident(installation, relab, tmp_path)
            _come_and_go(installation, shop)
            _look_at_what_prometheus_has_seen(observer, relab, tmp_path)


def _wait_for_failures(notifier: Program) -> None:
    wait_until(lambda: len(notifier.get("/api/v2/alerts")) == 2, what="two alerts at Alertmanager")
    failed = "alertmanager_notification_requests_failed_total"
    wait_until(lambda: notifier.total(failed, integration="webhook") > 0, what="a notification that nobody took")


def _repeat(notifier: Program, relab: LabProcess, folder: Path) -> None:
    """Wait until Alertmanager has sent the same notification twice more."""
    before = answered(relab, folder, 200)
    wait_until(lambda: answered(relab, folder, 200) >= before + 2, what="the same notification again, twice")
    assert notifier.total("alertmanager_notifications_total", integration="webhook") >= before + 2


def _look_at_the_incident(installation: Installation, relab: LabProcess, folder: Path) -> None:
    ((incident_id, title, severity),) = installation.query("SELECT incident_id, title, severity FROM incidents")
    assert title == "60% of the requests to /cart fail. (and 1 more)"
    assert severity == "critical"
    assert sorted(told(installation)) == [
        f"An alert fires: 60% of the requests to {route} fail." for route in ("/cart", "/checkout")
    ]
    headers = {"Authorization": f"Bearer {(folder / READ).read_text().strip()}"}
    found: dict[str, Any] = httpx.get(
        f"{relab.url}/agent/incidents/{incident_id}", headers=headers, timeout=30, trust_env=False
    ).json()
    assert [(item["signal"], item["count"]) for item in found["findings"]] == [("alert.RouteFails", 2)]


def _come_and_go(installation: Installation, shop: ScrapedShop) -> None:
    shop.failing |= {"/search"}
    wait_until(lambda: "to /search fail" in told(installation)[-1], what="the third alert")
    shop.failing.clear()
    wait_until(lambda: len(told(installation)) == 6, what="the end of all alerts")
    assert sorted(message.split(":")[0] for message in told(installation)[3:]) == ["An alert has ended"] * 3
    shop.failing |= {"/cart"}
    wait_until(lambda: len(told(installation)) == 7, what="an alert that is there again")
    assert installation.query("SELECT count(*) FROM incidents") == [(1,)]


def _look_at_what_prometheus_has_seen(observer: Program, relab: LabProcess, folder: Path) -> None:
    def is_one(query: str) -> bool:
        found = observer.get("/api/v1/query", query=query)["data"]["result"]
        return [item["value"][1] for item in found] == ["1"]

    # A scrape that timed out leaves no value until the next one.
    wait_until(lambda: is_one("sum(relab_incidents)"), what="one incident")
    wait_until(lambda: is_one("relab_responder_leading"), what="a leading responder")
    headers = {"Authorization": f"Bearer {(folder / READ).read_text().strip()}"}
    text = httpx.get(f"{relab.url}/metrics", headers=headers, timeout=30, trust_env=False).text
    run_program("promtool", "check", "metrics", cwd=folder, stdin=text)


def test_alert_storm_is_accepted_up_to_the_limit(tmp_path: Path, installation: Installation) -> None:
    relab, port = installation.serve("--only", "incidents"), free_port()
    # Without a wait, the first notification, which names the incident, would hold only the alerts read so far.
    changed = {"max_alerts: 500": "max_alerts: 1500", "group_wait: 10s": "group_wait: 5s"}
    config = write_alertmanager(tmp_path, relab, **changed)
    storm = [
        {
            "labels": {"alertname": "RouteFails", "service": "shop", "severity": "page", "pod": f"pod-{number}"},
            "annotations": {"summary": f"pod-{number} fails. " + "x" * 1_000},
        }
        for number in range(1_600)
    ]
    with relab, alertmanager(tmp_path, config, port) as notifier:
        response = httpx.post(f"{notifier.url}/api/v2/alerts", json=storm, timeout=30, trust_env=False)
        assert response.status_code == httpx.codes.OK, response.text
        wait_until(lambda: answered(relab, tmp_path, 200) >= 2, what="two notifications")
        assert [answered(relab, tmp_path, status) for status in (413, 422)] == [0, 0]
        ((title, severity),) = installation.query("SELECT title, severity FROM incidents")
        ((taken,),) = installation.query("SELECT count(*) FROM incident_alerts")

    assert severity == "critical"
    assert "more)" in title
    assert taken >= 1_000, "all that one notification may hold; another one may hold others"


def test_alert_from_two_observers_is_one_alert(tmp_path: Path, installation: Installation) -> None:
    relab, port = installation.serve("--only", "incidents"), free_port()
    labels = {"alertname": "RouteFails", "service": "shop"}

    def tell(notifier: Program, **times: str) -> None:
        alert = {"labels": labels, "annotations": {"summary": "It fails."}, **times}
        response = httpx.post(f"{notifier.url}/api/v2/alerts", json=[alert], timeout=30, trust_env=False)
        assert response.status_code == httpx.codes.OK, response.text

    with relab, alertmanager(tmp_path, write_alertmanager(tmp_path, relab), port) as notifier:
        tell(notifier, startsAt="2026-01-15T10:30:05Z")
        wait_until(lambda: told(installation) == ["An alert fires: It fails."], what="the alert")
        tell(notifier, startsAt="2026-01-15T10:30:00Z")
        begins = "SELECT count(*) FROM incident_alerts"
        wait_until(lambda: installation.query(begins) == [(2,)], what="the alert as the other one has seen it")
        tell(notifier, startsAt="2026-01-15T10:30:00Z", endsAt="2026-01-15T10:31:00Z")
        wait_until(lambda: len(told(installation)) > 1, what="the end of the alert")

    assert told(installation) == ["An alert fires: It fails.", "An alert has ended: It fails."]
