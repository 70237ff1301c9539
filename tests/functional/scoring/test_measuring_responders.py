"""Responders measured by `lab run` in short episodes on testbeds with users: their scores, and what they can see."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import relab
from relab.testbed import service
from relab.testbed.layout import Layout
from relab.testbed.scoring.episodes import Episode, EpisodeKind, Event
from relab.testbed.scoring.experiment import BASELINES, experiment_document, write_experiment
from relab.testbed.scoring.harness import run_trial
from relab.testbed.scoring.responder import Bindings
from relab.testbed.scoring.testbeds import keep_testbeds_running, slot_name
from rig.waiting import wait_until
from support.experiments.projects import read_lines
from support.lab.process import lab_environment
from support.testbed.beds import bed_home, free_base, living, processes_of

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
TIMEOUT_S = 800
EXAMPLE = Path(relab.__file__).parent.parent.parent / "examples" / "responder.py"


def about(fault: str | None, timeout_s: float, **given: Any) -> Episode:
    """Return a short episode with this fault, or without one."""
    healthy_s = 5.0
    faults = (Event(name=fault, parameters=given, at_s=healthy_s),) if fault else ()
    return Episode(
        task_id=f"about-{fault or 'nothing'}",
        kind=EpisodeKind.FAULT if fault else EpisodeKind.QUIET,
        subject=fault or "quiet",
        seed=3,
        faults=faults,
        healthy_s=healthy_s,
        timeout_s=timeout_s,
    )


SNOOP = """
import http.server, json, os, pathlib, urllib.error, urllib.request
def asked(url, body=None):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).status
    except urllib.error.HTTPError as refused:
        return refused.code
target = os.environ["TARGET_API_BASE_URL"]
host, _, port = target.rpartition(":")
folders = {name: sorted(os.listdir(name)) for name in json.loads(os.environ["FOLDERS"])}
found = {
    "chaos": asked(f"{host}:{int(port) + 1}/api/v1/break"),
    "flags": asked(f"{target}/ops/flags", b"{}"),
    "folders": folders,
}
pathlib.Path("found.json").write_text(json.dumps(found))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
"""A responder that looks for the faults in the chaos server, the flags and the folders of the evaluation."""


def responder_of(harness: int) -> psutil.Process | None:
    for child in psutil.Process(harness).children():
        # The harness has other children for a moment, while a testbed starts.
        with suppress(psutil.NoSuchProcess):
            if any("do_nothing" in word for word in child.cmdline()):
                return child
    return None


def figures(rows: list[dict[str, Any]]) -> Mapping[tuple[str, str], dict[str, Any]]:
    return {(row["variant_id"], row["task_id"]): row for row in rows}


def test_do_nothing_and_restart_only_get_different_scores(tmp_path: Path) -> None:
    episodes = [about("hang", 45.0, intensity=1.0), about("crash_loop", 25.0), about(None, 10.0)]
    with bed_home() as home:
        base = free_base()
        document = experiment_document(BASELINES, episodes, home=home, port_base=base)
        write_experiment(tmp_path, document, episodes)
        with keep_testbeds_running(home, 1, base):
            done = subprocess.run(
                [sys.executable, "-m", "relab", "run", "--json", "--no-telemetry"],
                cwd=tmp_path,
                env=lab_environment(home / "lab", {}),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            assert service.is_running(Layout.of(home, slot_name(0)))
        assert not service.is_running(Layout.of(home, slot_name(0)))
    assert done.returncode == 0, done.stderr + done.stdout
    run_dir = Path(json.loads(done.stdout)["run"]["run_dir"])
    tables = run_dir / "analysis" / "tables"
    rows = figures(read_lines(tables / "trials.jsonl"))
    assert {name: row["outcome"] for name, row in rows.items()} == {
        ("do-nothing", "about-hang"): "failure",
        ("restart-only", "about-hang"): "success",
        ("do-nothing", "about-crash_loop"): "failure",
        ("restart-only", "about-crash_loop"): "failure",
        ("do-nothing", "about-nothing"): "success",
        ("restart-only", "about-nothing"): "success",
    }

    told: dict[tuple[str, str], dict[str, Any]] = {}
    for output in sorted(run_dir.glob("trials/*/out/trial_output.json")):
        document = json.loads(output.read_bytes())
        told[document["ids"]["variant_id"], document["ids"]["task_id"]] = document["metrics"]
    idle, restarts = told["do-nothing", "about-hang"], told["restart-only", "about-hang"]
    assert idle["detected"] is False
    assert idle["mitigated"] is False
    assert idle["actions"] == 0
    assert restarts["detected"] is True
    assert restarts["mitigated"] is True
    assert restarts["harmful_actions"] == 0
    assert 0 < restarts["time_to_detect_s"] <= restarts["time_to_mitigate_s"]
    assert restarts["harm_user_error_s"] < idle["harm_user_error_s"]
    assert told["restart-only", "about-crash_loop"]["harmful_actions"] >= 1
    for name in ("do-nothing", "restart-only"):
        quiet = told[name, "about-nothing"]
        assert quiet["false_alarms"] == 0
        assert quiet["actions"] == 0
        assert quiet["healthy_polls"] >= 5


def test_example_responder_diagnoses_and_repairs_known_causes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = Bindings(responder_command=["{python}", str(EXAMPLE)])
    with bed_home() as home:
        monkeypatch.setenv("RELAB_HOME", str(home))
        trial = {
            "ids": {"run_id": "r", "trial_id": "t", "variant_id": "mine", "task_id": "e", "repl_idx": 0},
            "task": about("hang", 60.0, intensity=0.5).to_row(),
            "bindings": {**bindings.model_dump(mode="json"), "port_base": free_base()},
        }
        output = run_trial(trial, stop=threading.Event(), out=tmp_path)
        assert not service.is_running(Layout.of(home, slot_name(0)))
        assert json.loads((tmp_path / "timeline.json").read_bytes())["seconds"]
    assert (tmp_path / "responder" / "responder.log").is_file()
    metrics = output["metrics"]
    assert output["outcome"] == "success"
    assert output["answer"]["actions"] == ["resume-process"]
    assert output["answer"]["diagnosis"][0] == "process_stopped"
    assert metrics["diagnosis_at_1"] is True
    assert metrics["mitigated"] is True
    assert metrics["harmful_actions"] == 0


def test_measured_responder_finds_no_trace_of_the_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, run_dir = tmp_path / "evaluation", tmp_path / "x" / ".lab"
    out = run_dir / "runs" / "r" / "trials" / "t" / "out"
    for folder in (evaluation, out):
        folder.mkdir(parents=True)
    (evaluation / "episodes.jsonl").write_text("all of it")
    with bed_home() as home:
        monkeypatch.setenv("RELAB_HOME", str(home))
        folders = [str(folder) for folder in (evaluation, run_dir, home / "testbeds")]
        bindings = Bindings(
            responder_command=["{python}", "-S", "-c", SNOOP],
            responder_environment={"FOLDERS": json.dumps(folders)},
        )
        trial = {
            "ids": {"run_id": "r", "trial_id": "t", "variant_id": "mine", "task_id": "e", "repl_idx": 0},
            "task": about(None, 5.0).to_row(),
            "bindings": {
                **bindings.model_dump(mode="json"),
                "port_base": free_base(),
                "hides": [str(evaluation)],
            },
        }
        output = run_trial(trial, stop=threading.Event(), out=out)
    found = json.loads((out / "responder" / "found.json").read_bytes())
    assert output["metrics"]["blinded"] is True
    assert found == {"chaos": 403, "flags": 401, "folders": {name: [] for name in folders}}


def test_stopped_episode_leaves_no_process(tmp_path: Path) -> None:
    given, made = tmp_path / "trial_input.json", tmp_path / "trial_output.json"
    with bed_home() as home:
        layout = Layout.of(home, slot_name(0))
        trial = {
            "ids": {"run_id": "r", "trial_id": "t", "variant_id": "v", "task_id": "e", "repl_idx": 0},
            "task": about("hang", 600.0).to_row(),
            "bindings": {**BASELINES["do-nothing"].model_dump(mode="json"), "port_base": free_base()},
        }
        given.write_text(json.dumps(trial))
        command = [sys.executable, "-m", "relab.testbed.scoring", "--input", str(given), "--output", str(made)]
        with subprocess.Popen(command, env=lab_environment(home, {})) as harness:
            try:
                responder = wait_until(lambda: responder_of(harness.pid), within_s=120, what="a responder")
                bed = processes_of(layout)
                harness.terminate()
                assert harness.wait(60) == 0
            finally:
                harness.kill()
        assert living([responder, *bed]) == []
        assert not service.is_running(layout)
    output = json.loads(made.read_bytes())
    assert output["outcome"] == "error"
    assert output["error"]["error_type"] == "stopped"
