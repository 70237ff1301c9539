"""A rollout started over HTTP survives the death of its worker: the next worker restores the flags and continues."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from relab.flags.models import ServiceFlags
from rig.waiting import wait_until
from support.lab.installation import FAST_RECOVERY, Installation
from support.lab.process import run_lab
from support.rollouts.plans import CONC_CAP
from support.rollouts.small_service import small_service


def test_rollout_of_a_worker_is_stopped_by_a_command_and_its_flags_are_restored(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path)
    with small_service() as service, installation.serve() as server, server.client() as client:
        experiment = {
            "qps": 20, "window_sec": 1, "warmup_sec": 0, "rounds": 100, "flow_policy": "fixed", "conc_cap": CONC_CAP,
            "routing_mode": "keep",
        }  # fmt: skip
        posted = client.post("/rollouts", json={"base_url": service.url, "timeout": 5, "experiment": experiment})
        rollout_id = posted.json()["rollout_id"]
        wait_until(lambda: service.flags.control.max_concurrency == CONC_CAP, what="the flags of arm B", within_s=60)

        stopped = run_lab("rollout", "stop", rollout_id, "--note", "Too slow.", home=tmp_path, settings={})

        ended = client.get(f"/rollouts/{rollout_id}").json()
        assert "The flags are as before." in stopped.stdout
        assert ended["status"] == "interrupted"
        assert ended["flags_restored"] is True
        assert ended["audit"][-1]["action"] == "stopped"
        assert ended["audit"][-1]["note"] == "Too slow."
        assert service.flags == ServiceFlags()


def test_rollout_continues_after_its_worker_was_killed(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path, **FAST_RECOVERY)
    with small_service() as service, installation.serve() as server, server.client() as client:
        experiment = {
            "qps": 20, "window_sec": 0.5, "warmup_sec": 0, "rounds": 4, "flow_policy": "fixed", "conc_cap": CONC_CAP,
            "routing_mode": "keep",
        }  # fmt: skip
        posted = client.post("/rollouts", json={"base_url": service.url, "timeout": 5, "experiment": experiment})
        assert posted.status_code == 202, posted.text
        path = posted.headers["Location"]

        def is_in_second_round() -> bool:
            windows = client.get(path).json()["windows"]
            return len(windows) >= 2 and service.flags.control.max_concurrency == CONC_CAP

        wait_until(is_in_second_round, what="arm B of the second round", within_s=60)
        kept = client.get(path).json()["windows"][:2]
        (worker,) = server.children()
        os.kill(worker.pid, signal.SIGKILL)
        assert client.get(path).json()["status"] == "running"

        wait_until(lambda: client.get(path).json()["status"] == "done", what="the end of the rollout", within_s=90)

        ended = client.get(path).json()
        assert [window["index"] for window in ended["windows"]] == list(range(8))
        assert ended["windows"][:2] == kept
        assert service.flags == ServiceFlags()
        rows = installation.query("SELECT attempts FROM jobs WHERE job_id = :id", id=ended["rollout_id"])
        assert rows == [(2,)]


def test_rollout_of_a_stopped_server_restores_its_flags_and_continues_later(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path)
    with small_service() as service:
        # It lasts longer than a server waits for its worker.
        experiment = {
            "qps": 20, "window_sec": 1, "warmup_sec": 0, "rounds": 60, "flow_policy": "fixed", "conc_cap": CONC_CAP,
            "routing_mode": "keep",
        }  # fmt: skip
        with installation.serve() as server, server.client() as client:
            posted = client.post("/rollouts", json={"base_url": service.url, "timeout": 5, "experiment": experiment})
            path = posted.headers["Location"]
            wait_until(lambda: len(client.get(path).json()["windows"]) >= 2, what="the first round", within_s=60)
            wait_until(lambda: service.flags.control.max_concurrency == CONC_CAP, what="arm B", within_s=60)
            kept = client.get(path).json()["windows"][:2]

            assert server.stop(signal.SIGTERM) == 0

            assert service.flags == ServiceFlags()
        assert installation.job_status(posted.json()["rollout_id"]) == "pending"
        with installation.serve() as server, server.client() as client:
            wait_until(lambda: len(client.get(path).json()["windows"]) >= 6, what="further rounds", within_s=60)

            assert client.get(path).json()["windows"][:2] == kept
            client.post(f"{path}/stop")
            wait_until(lambda: client.get(path).json()["status"] == "interrupted", what="the end", within_s=60)
            assert service.flags == ServiceFlags()
