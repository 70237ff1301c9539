"""Failed runs that arrive in any way are analysed automatically, and lists show their causes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.waiting import wait_until
from support.lab.installation import BACK_ENDS, Lab, running_lab
from support.lab.process import run_lab
from support.otlp.traces import TOOL, Trace, assert_taken, encode, post
from support.telemetry.runs import RunBody, failed_run, minimal_run, tool_call

SOON = {
    "RELAB_JOBS__SWEEP_INTERVAL_S": "0.2",
    "RELAB_RCA__ON_ARRIVAL_AFTER_S": "0.2",
    "RELAB_TELEMETRY__INCOMPLETE_AFTER_S": "1",
}
TIMEOUT_S = 60.0


@pytest.fixture(scope="module", params=BACK_ENDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An installation with short delays between the arrival of a run and its analysis."""
    with running_lab(request, tmp_path_factory.mktemp("lab"), **SOON) as lab:
        yield lab


def timed_out(run_id: str) -> RunBody:
    return failed_run(run_id, tool_calls=[tool_call("c", status="failure", error_message="timed out after 5 s")])


def with_cause(lab: Lab, run_id: str) -> dict[str, Any]:
    """Wait until the list shows the cause of a run, and return the run."""

    def shown() -> dict[str, Any] | None:
        items = lab.get("/agent-runs", limit=500)["items"]
        return next((dict(run) for run in items if run["run_id"] == run_id and run["category"] is not None), None)

    found = wait_until(shown, within_s=TIMEOUT_S, what=f"the cause of {run_id} in the list")
    assert found is not None
    return found


def test_posted_run_is_analysed_automatically(lab: Lab) -> None:
    lab.post_run(timed_out("posted"))

    run = with_cause(lab, "posted")

    assert run["category"] == "timeout"
    assert run["category_confidence"] in {"high", "medium"}
    listed = run_lab("agent-runs", "list", home=lab.installation.home, settings=lab.installation.settings)
    assert f"timeout ({run['category_confidence']})" in " ".join(listed.stdout.split())


def test_run_from_a_file_is_analysed_automatically(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(timed_out("from-file")))
    done = run_lab(
        "agent-runs", "ingest", str(tmp_path), home=lab.installation.home, settings=lab.installation.settings
    )
    assert done.returncode == 0, done.stderr

    assert with_cause(lab, "from-file")["category"] == "timeout"


def test_trace_without_a_root_ends_and_is_analysed_automatically(lab: Lab) -> None:
    trace = Trace("without a root")
    spans = [
        trace.span("first", "root", TOOL, start_ms=1, end_ms=2),
        trace.span("second", "root", TOOL, start_ms=3, end_ms=4, status=2, message="timed out after 5 s"),
    ]
    # In one request, so that the run cannot count as ended before its second span arrives.
    assert_taken(post(lab.http, encode(spans)))

    run = with_cause(lab, trace.id)

    assert run["status"] == "incomplete"
    assert run["outcome"] == "failed"
    assert run["category"] == "timeout"


def test_runs_that_succeed_are_not_analysed(lab: Lab) -> None:
    lab.post_run(minimal_run("good"))
    trace = Trace("good trace")
    assert_taken(post(lab.http, encode(trace.good())))
    lab.post_run(timed_out("after-good"))
    with_cause(lab, "after-good")

    assert lab.installation.query("SELECT run_id FROM rca_runs WHERE run_id IN ('good', :trace)", trace=trace.id) == []
