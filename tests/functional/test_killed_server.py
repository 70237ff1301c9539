"""`lab serve` is killed with -9: acknowledged runs are kept, and requested analyses are completed after the restart."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rig.waiting import wait_until
from support.lab.installation import FAST_RECOVERY, Installation, Lab
from support.telemetry.long_runs import rate_limited_run
from support.telemetry.posters import Posters, assert_stored_once_and_whole

pytestmark = pytest.mark.full
LONG_RUN_STEPS = 4_000
SHORT_RUNS = 20


@pytest.mark.parametrize("with_worker", [True, False], ids=["server_and_worker", "server_alone"])
def test_every_requested_analysis_is_done(tmp_path: Path, with_worker: bool) -> None:
    installation = Installation.on_sqlite(tmp_path, **FAST_RECOVERY)
    with installation.serve() as server:
        with Lab(installation, server) as lab:
            rca_run_ids = _request_analyses(lab)
            first = rca_run_ids["long"]
            wait_until(lambda: installation.job_status(first) == "running", what="an analysis being at work")
            (worker,) = server.children()
            if with_worker:
                # Both processes die at once, as in a power failure.
                os.kill(worker.pid, signal.SIGKILL)
            server.kill()
        server.wait_alone()
        # The kill came early enough that some analyses are not done.
        left = {status: count for status, count in installation.jobs_by_status().items() if status != "done"}
        assert sum(left.values()) > 0
        assert not with_worker or installation.job_status(first) == "running"

        server.start()

        with Lab(installation, server) as lab:
            for agent_run_id, rca_run_id in rca_run_ids.items():
                assert lab.finished(rca_run_id)["report"]["category"] == "rate_limited"
                listed = lab.http.get(f"/agent-runs/{agent_run_id}/rca-runs").json()
                assert [item["rca_run_id"] for item in listed] == [rca_run_id]
                # An analysis may start several times, but ends once.
                lines = lab.stream_lines(rca_run_id)
                assert sum('"pct":100' in line for line in lines) == 1
    assert installation.query("SELECT count(*) FROM rca_runs WHERE report IS NOT NULL") == [(len(rca_run_ids),)]


def _request_analyses(lab: Lab) -> dict[str, str]:
    """Post a long run and short ones, and have them analysed in this order."""
    lab.post_run(rate_limited_run("long", steps=LONG_RUN_STEPS))
    for index in range(SHORT_RUNS):
        lab.post_run(rate_limited_run(f"short-{index}"))
    return {
        agent_run_id: lab.request_analysis(agent_run_id)
        for agent_run_id in ("long", *(f"short-{index}" for index in range(SHORT_RUNS)))
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [10])
def test_acknowledged_runs_are_stored_once_and_complete(tmp_path: Path, kills: int) -> None:
    installation = Installation.on_sqlite(tmp_path)
    with installation.serve("--workers", "0") as server:
        with Posters(server.url) as posters:
            for _ in range(kills):
                posters.wait_for_acknowledgements()
                server.kill()
                server.start()
            posters.wait_for_acknowledgements()
        with Lab(installation, server) as lab:
            assert_stored_once_and_whole(lab, posters.acknowledged)
    assert posters.unanswered >= kills
    assert posters.refused == []
