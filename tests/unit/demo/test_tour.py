"""The tour, against a small fake lab that analyses in the same process."""

from __future__ import annotations

import json
from io import StringIO

import httpx
import pytest
from rich.console import Console

from demo.lab_client import LabClient
from demo.scenarios import SCENARIOS
from demo.tour import Tour
from relab.core.json import parse_json
from relab.rca.analyzer import analyze
from relab.telemetry.models import AgentRun
from relab.telemetry.outcome import activities_of, outcome_of

STAGES = (("running", "Starting RCA", 5), ("running", "Collecting evidence", 30), ("done", "RCA complete", 100))


class SmallLab:
    """A fake lab that answers the requests of the tour and records them."""

    def __init__(self):
        self.runs = {}
        self.requests = []

    def answer(self, request):
        method, path = request.method, request.url.path
        self.requests.append((method, path))
        if path == "/agent-runs":
            run = AgentRun.model_validate(parse_json(request.content))
            self.runs[run.run_id] = run
            return httpx.Response(201, json={"run_id": run.run_id})
        if path.endswith("/rca-runs"):
            return httpx.Response(202, json={"rca_run_id": f"rca-of-{path.split('/')[2]}"})
        if path.endswith("/stream"):
            events = [{"status": status, "step": step, "pct": pct, "message": step} for status, step, pct in STAGES]
            return httpx.Response(200, text="".join(f"data: {json.dumps(event)}\n\n" for event in events))
        if path.rpartition("/")[2] in self.runs:
            run = self.runs[path.rpartition("/")[2]]
            return httpx.Response(200, json={"outcome": outcome_of(run, activities_of(run)).value})
        run = self.runs[path.rpartition("rca-of-")[2]]
        return httpx.Response(200, json={"status": "done", "report": analyze(run).model_dump(mode="json")})


def play(stage, scenarios):
    lab, out = SmallLab(), StringIO()
    with LabClient("http://lab", transport=httpx.MockTransport(lab.answer)) as client:
        outcomes = Tour(Console(file=out, width=100), client, stage.server).play_all(scenarios)
    return lab, outcomes, out.getvalue()


@pytest.mark.parametrize("scenario", [scenario for scenario in SCENARIOS if scenario.key in {"invoice", "prompt"}])
def test_all_runs_are_posted_before_the_last_one_is_analysed(stage, scenario):
    lab, (outcome,), printed = play(stage, [scenario])
    run_id = outcome.run["run_id"]
    assert list(lab.runs)[-1] == run_id
    posts = [("POST", "/agent-runs")] * len(scenario.trials)
    reads = [("GET", f"/agent-runs/{posted}") for posted in lab.runs]
    analysis = [
        ("POST", f"/agent-runs/{run_id}/rca-runs"),
        ("GET", f"/rca-runs/rca-of-{run_id}/stream"),
        ("GET", f"/agent-runs/rca-runs/rca-of-{run_id}"),
    ]
    assert lab.requests == posts + reads + analysis
    assert outcome.report == analyze(lab.runs[run_id])
    assert outcome.answered == stage.server.journal.outline(run_id)
    assert outcome.request_to_report_ms > 0
    assert outcome.tally == (
        "version 1.0.0: 12 of 12 succeeded, version 1.1.0: 3 of 12 succeeded" if scenario.key == "prompt" else None
    )
    assert f"1 of 1  {scenario.title}" in printed
    assert "5 → 30 → 100 %" in printed
    assert run_id in printed
