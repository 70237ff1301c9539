"""A worker is killed with SIGKILL in the middle of a job, and another worker finishes the job."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.lab.installation import FAST_RECOVERY, Installation, Lab
from support.lab.process import LabProcess
from support.telemetry.long_runs import rate_limited_run

pytestmark = pytest.mark.full

STEPS = 4_000
"""So many that the analysis takes many times as long as a query of its job's status."""


def test_server_replaces_a_killed_embedded_worker_which_finishes_the_job(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path, **FAST_RECOVERY)
    with installation.serve() as server, Lab(installation, server) as lab:
        first = _only_child(server)
        rca_run_id = _start_analysis(lab)

        os.kill(first, signal.SIGKILL)

        assert installation.job_status(rca_run_id) != "done", "the kill came before the end of the job"
        assert lab.finished(rca_run_id)["status"] == "done"
        assert _only_child(server) != first
        _assert_done_in_two_attempts(lab, rca_run_id)


def test_another_rq_worker_finishes_the_job_of_a_killed_one(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    installation = Installation.on_postgres(tmp_path, postgres, redis_server, **FAST_RECOVERY)
    with ExitStack() as stack:
        server = stack.enter_context(installation.serve())
        lab = stack.enter_context(Lab(installation, server))
        first = stack.enter_context(installation.worker())
        rca_run_id = _start_analysis(lab)

        first.kill()

        assert installation.job_status(rca_run_id) != "done", "the kill came before the end of the job"
        stack.enter_context(installation.worker())
        assert lab.finished(rca_run_id)["status"] == "done"
        _assert_done_in_two_attempts(lab, rca_run_id)


def _only_child(server: LabProcess) -> int:
    (child,) = wait_until(server.children, what="a worker beside the server")
    return child.pid


def _start_analysis(lab: Lab) -> str:
    lab.post_run(rate_limited_run("long", steps=STEPS))
    rca_run_id = lab.request_analysis("long")
    wait_until(lambda: lab.installation.job_status(rca_run_id) == "running", what="the job being run")
    return rca_run_id


def _assert_done_in_two_attempts(lab: Lab, rca_run_id: str) -> None:
    # The status of the job becomes done shortly after that of the analysis.
    wait_until(lambda: lab.installation.job_status(rca_run_id) == "done", what="the job being done")
    rows = lab.installation.query("SELECT status, attempts FROM jobs WHERE job_id = :id", id=rca_run_id)
    assert rows == [("done", 2)]
    listed = lab.http.get("/agent-runs/long/rca-runs").json()
    assert [(item["rca_run_id"], item["status"]) for item in listed] == [(rca_run_id, "done")]
    assert wait_until(lambda: lab.get("/agent-runs/long")["category"], what="the run's label") == "rate_limited"
