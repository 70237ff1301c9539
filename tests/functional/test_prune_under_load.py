"""`lab agent-runs prune` and `lab incidents prune` while a server ingests at full load."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from relab.api.incidents import ALERTS_EXAMPLE
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome
from relab.storage import Database
from rig.servers import free_port
from rig.waiting import wait_until
from support.incidents.logs import opened
from support.lab.cli import Lab
from support.lab.installation import BACK_ENDS, Installation
from support.lab.process import LabProcess
from support.shops.well_targets import a_well_target
from support.telemetry.runs import minimal_run, step, time_text

pytestmark = pytest.mark.full

OLD_RUNS, OLD_INCIDENTS = 200, 60
STEPS = [step("s1"), step("s2")]
STARTED = datetime.now(UTC).isoformat()


@contextmanager
def load(server: LabProcess, *senders: Callable[[httpx.Client, int], httpx.Response]) -> Iterator[list[int]]:
    """Send requests without pause from one thread per sender while the block runs; yield their statuses so far."""
    over, statuses = threading.Event(), list[int]()

    def send(sender: Callable[[httpx.Client, int], httpx.Response]) -> None:
        with server.client() as client:
            number = 0
            while not over.is_set():
                statuses.append(sender(client, number).status_code)
                number += 1

    threads = [threading.Thread(target=send, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(statuses) > 20, what="the load")
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def old_run(number: int) -> dict[str, Any]:
    return minimal_run(f"old-{number}", started_at=time_text(number), steps=STEPS)


def post_young(client: httpx.Client, number: int) -> httpx.Response:
    return client.post("/agent-runs", json=minimal_run(f"young-{number}", started_at=STARTED, steps=STEPS))


def post_old_again(client: httpx.Client, number: int) -> httpx.Response:
    """Post a run again that the prune is deleting or has deleted."""
    return client.post("/agent-runs", json=old_run(number % OLD_RUNS))


def notify(client: httpx.Client, number: int) -> httpx.Response:
    alert = {**ALERTS_EXAMPLE["alerts"][0], "labels": {"alertname": f"a{number}"}, "fingerprint": f"f{number}"}
    return client.post("/alerts/alertmanager", json={**ALERTS_EXAMPLE, "alerts": [alert]})


@pytest.fixture(params=BACK_ENDS)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    """An installation on each database."""
    if request.param == "sqlite+embedded":
        return Installation.on_sqlite(tmp_path)
    return Installation.on_postgres(tmp_path, request.getfixturevalue("postgres"), None)


def test_runs_are_pruned_whole_while_runs_come_in(installation: Installation) -> None:
    lab = Lab(installation.home, installation.settings)
    lab.run("agent-runs", "ingest", "-", stdin=json.dumps([old_run(number) for number in range(OLD_RUNS)]))
    prune = ("agent-runs", "prune", "--older-than", "30d", "--yes", "--batch", "5")
    with installation.serve() as server:
        with load(server, post_young, post_young, post_old_again) as statuses:
            assert lab.json(*prune)["runs"] >= OLD_RUNS
        assert set(statuses) <= {200, 201}
        assert "request_failed" not in server.log()
        assert "request_crashed" not in server.log()

        # A run that was posted again after its deletion is stored again, whole.
        lab.json(*prune)
        steps = installation.query(
            "SELECT r.run_id, (SELECT count(*) FROM timeline_items i WHERE i.run_id = r.run_id) FROM agent_runs r"
        )
        assert {count for _, count in steps} == {len(STEPS)}
        assert all(run_id.startswith("young-") for run_id, _ in steps)
        # No step of a deleted run remains, and the metrics cover exactly the remaining runs.
        orphans = "SELECT count(*) FROM timeline_items WHERE run_id NOT IN (SELECT run_id FROM agent_runs)"
        assert installation.query(orphans) == [(0,)]
        with server.client() as client:
            assert client.get("/metrics/overview", params={"hours": 1_000_000}).json()["total_runs"] == len(steps)


def test_incidents_are_pruned_while_alerts_come_in(installation: Installation) -> None:
    database = Database.open(installation.database_url)
    with a_well_target() as url:
        watching = Installation(
            installation.home,
            installation.database_url,
            {
                **installation.settings,
                "TARGET_API_BASE_URL": url,
                "ACTION_SERVER_URL": f"http://127.0.0.1:{free_port()}",
                "ACTION_SERVER_TOKEN": "t",
                "POLL_INTERVAL_SECONDS": "300",
            },
        )
        with watching.serve("--only", "incidents") as server:
            log = IncidentLog(database)
            old = [opened(log, f"shop-{number}", at_us=number).incident_id for number in range(OLD_INCIDENTS)]
            for number, incident_id in enumerate(old):
                log.close(incident_id, at_us=number + 1, outcome=IncidentOutcome.PASSED)
            prune = ("incidents", "prune", "--older-than", "30d", "--yes", "--batch", "2")
            with load(server, notify) as statuses:
                assert Lab(watching.home, watching.settings).json(*prune)["incidents"] == OLD_INCIDENTS
            assert set(statuses) == {200}
        left = {item.incident_id for item in log.list_incidents().items}
        assert len(left) == 1
        assert not left & set(old)
        assert watching.query("SELECT count(*) FROM incident_alerts") == [(len(statuses),)]
        assert watching.query("SELECT DISTINCT incident_id FROM incident_alerts") == [tuple(left)]
    database.close()
