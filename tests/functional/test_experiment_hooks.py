"""`lab hooks-validate` on the events of real trials, and on events that break each rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.sdk import LabClient, LabRunnerError
from support.experiments.projects import Project, read_lines
from support.experiments.reference import reference, run_at_step

MANIFEST = {
    "schema_version": "harness_manifest_v1",
    "created_at": "2026-11-24T12:00:00Z",
    "integration_level": "sdk_full",
    "step": {"semantics": "one search"},
    "hooks": {"schema_version": "hook_events_v1", "events_path": "/out/harness_events.jsonl"},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path, list[dict[str, Any]]]:
    """A project, its manifest, and the events of a trial of the reference harness."""
    project = reference(tmp_path_factory.mktemp("hooks"), steps=3)
    run = project.run()
    manifest = project.root / "manifest.json"
    manifest.write_text(json.dumps(MANIFEST))
    return project, manifest, read_lines(run.trial("trial_1") / "out" / "harness_events.jsonl")


Break = Callable[[list[dict[str, Any]]], None]


def stop_early(events: list[dict[str, Any]]) -> None:
    events[2]["action_observed"] = "stop"


BREAKS: dict[str, tuple[Break, str]] = {
    "seq": (lambda events: events[3].update(seq=2), "seq 2 does not come after 3"),
    "ids": (lambda events: events[3]["ids"].update(trial_id="trial_7"), "ids belong to another trial"),
    "field": (lambda events: events[0].pop("ts"), "'ts' is a required property"),
    "acknowledgement": (lambda events: events.pop(2), "no control_ack follows the agent_step_end of line 2"),
    "start after a stop": (stop_early, "a step starts after a stop was acknowledged"),
}


def test_events_of_the_reference_harness_are_valid(
    written: tuple[Project, Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    project, manifest, events = written
    path = tmp_path / "events"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))

    found = project.json("hooks-validate", "--manifest", str(manifest), "--events", str(path))

    assert found["valid"] is True
    assert found["events"] == len(events)
    assert found["counts"] == {"agent_step_start": 3, "agent_step_end": 3, "control_ack": 3}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_rule_is_named_with_its_line(
    written: tuple[Project, Path, list[dict[str, Any]]], tmp_path: Path, name: str
) -> None:
    project, manifest, events = written
    change, said = BREAKS[name]
    changed = json.loads(json.dumps(events))
    change(changed)
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in changed))
    client = LabClient(runner_bin=str(Path(sys.executable).with_name("lab")), cwd=project.root)

    with pytest.raises(LabRunnerError) as raised:
        client.validate_hooks(manifest=str(manifest), events=str(path))

    assert raised.value.code == "experiment_invalid"
    assert said in raised.value.message
    assert "events.jsonl:" in raised.value.message


def test_manifest_selects_the_checked_rules(
    written: tuple[Project, Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    project, _, events = written
    path, manifest = tmp_path / "events.jsonl", tmp_path / "manifest.json"
    path.write_text("".join(json.dumps(event) + "\n" for event in events if event["event_type"] != "control_ack"))

    def said(**changes: Any) -> str:
        manifest.write_text(json.dumps({**MANIFEST, **changes}))
        done = project.lab("hooks-validate", "--manifest", str(manifest), "--events", str(path), code=None)
        return done.out + done.err

    assert "6 valid events" in said(integration_level="cli_events")
    assert "no control_ack follows" in said(integration_level="sdk_control")
    assert "write no events" in said(integration_level="cli_basic")
    assert "hooks_schema_version" in said(
        integration_level="cli_events", hooks={**MANIFEST["hooks"], "header_event_emitted": True}
    )
    assert "integration_level" in said(integration_level="best")


@pytest.mark.full
def test_steps_after_a_recorded_pause_are_valid(
    written: tuple[Project, Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    _, manifest, _ = written
    project = reference(tmp_path)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        project.json("pause", "--run-dir", str(run.path))
        runner.end(130)
    project.json("resume", "--run-dir", str(run.path), "--no-telemetry")
    events = run.trial("trial_1") / "out" / "harness_events.jsonl"

    assert project.json("hooks-validate", "--manifest", str(manifest), "--events", str(events))["valid"] is True
