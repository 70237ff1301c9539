"""`lab incidents eval` without testbeds: its reports, and the invalid requests that it rejects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.lab.cli import Lab
from support.lab.in_process import InProcessLab

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return InProcessLab(tmp_path_factory.mktemp("home"), {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--continue",), "no evaluation to continue"),
        (("--report",), "no evaluation to continue"),
        (("--episodes", "0", "--unknown", "0"), "no episodes"),
        (("--fault", "no_such_fault"), "no_such_fault"),
        (("--responder", "nameless"), "NAME=COMMAND"),
    ],
)
def test_impossible_evaluation_is_rejected_and_leaves_nothing(
    lab: Lab, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = lab.run("incidents", "eval", str(tmp_path / "e"), *arguments, code=EXIT_USAGE)
    assert said in done.err
    assert not (tmp_path / "e").exists()


def test_responder_with_a_model_requires_a_configured_model(lab: Lab, tmp_path: Path) -> None:
    done = lab.run("incidents", "eval", str(tmp_path / "e"), "--with-model", code=EXIT_UNAVAILABLE)
    assert "No language model is configured" in done.err
    assert "OPENAI_API_KEY" in done.err
    assert not (tmp_path / "e").exists()


def test_key_of_the_model_is_passed_by_name_and_written_to_no_file(tmp_path: Path) -> None:
    # The path is too long for the sockets of testbeds, so the plan is written but no episode starts.
    home = tmp_path / ("long" * 40)
    home.mkdir()
    (home / ".env").write_text(
        "OPENAI_API_KEY=a-very-secret-key\nRELAB_LLM__API_KEY=a-very-secret-key\n"
        "RELAB_INCIDENTS__ASK_MODEL=always\nRELAB_INCIDENTS__MAX_MODEL_CALLS_PER_INCIDENT=2\n"
    )
    settings = {
        "LLM_MODEL": "some-model",
        "RELAB_LLM__BASE_URL": "http://127.0.0.1:9/v1",
        "HTTPS_PROXY": "http://a:b@p",
    }
    folder = tmp_path / "e"

    lab = InProcessLab(home, settings)
    done = lab.run(
        "incidents", "eval", str(folder), "--episodes", "2", "--with-model", "--unknown", "0", code=EXIT_USAGE
    )
    assert "path" in done.err

    config = yaml.safe_load((folder / "compared" / ".lab" / "experiment.yaml").read_text())
    harness = config["runtime"]["harness"]
    assert harness["secrets"] == ["RELAB_LLM__API_KEY", "RELAB_OPENAI_API_KEY"]
    passed = [name for name in harness["environment"]["pass"] if not name.startswith("SSL_")]
    assert passed == ["HTTPS_PROXY", "RELAB_LLM__BASE_URL"]
    (modelled,) = [each for each in config["variant_plan"] if each["variant_id"] == "relab-with-model"]
    told = modelled["bindings"]["responder_environment"]
    assert told["RELAB_INCIDENTS__ASK_MODEL"] == "always"
    assert told["RELAB_LLM_MODEL"] == "some-model"
    assert told["RELAB_INCIDENTS__MAX_MODEL_CALLS_PER_INCIDENT"] == "2"
    assert "RELAB_LLM__API_KEY" not in told
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"a-very-secret-key" not in written
    assert b"a:b@p" not in written
    assert "a-very-secret-key" not in done.out + done.err

    # Continuing the evaluation needs the key too.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert (
        "No language model is configured"
        in InProcessLab(elsewhere, {}).run("incidents", "eval", str(folder), "--continue", code=EXIT_UNAVAILABLE).err
    )


def an_evaluation(folder: Path) -> None:
    """Write an evaluation: two episodes of two responders (one failed without metrics), one noisy, one of unknown cause."""
    parts = [
        {"name": "compared", "responders": ["mine", "other"], "episodes": 2},
        {"name": "healthy", "responders": ["mine"], "episodes": 1},
        {"name": "unknown-1", "responders": ["mine"], "episodes": 1},
    ]
    folder.mkdir()
    plan = {"seed": 1, "timeout_s": 5.0, "concurrency": 1, "home": "/beds", "port_base": 23_000, "parts": parts}
    (folder / "evaluation.json").write_text(json.dumps(plan))
    metrics = {
        "kind": "fault", "subject": "hang", "detected": True, "diagnosis_at_1": True, "mitigated": True, "false_alarms": 0,
        "healthy_polls": 20, "harm_user_error_s": 4.0, "actions": 1, "harmful_actions": 0, "time_to_detect_s": 2.0,
    }  # fmt: skip
    noisy = {"kind": "noisy", "subject": "noisy", "false_alarms": 0, "healthy_polls": 480, "harm_user_error_s": 0.0}
    rows: list[tuple[str, str, str, dict[str, Any]]] = [
        ("compared", "mine", "1", {"outcome": "success", "metrics": metrics}),
        ("compared", "other", "1", {"outcome": "failure", "metrics": {**metrics, "mitigated": False}}),
        ("compared", "mine", "2", {"outcome": "error", "error": {"error_type": "no_bed", "message": "taken"}}),
        ("unknown-1", "mine", "3", {"outcome": "failure", "metrics": {**metrics, "escalated_harmless": True}}),
        ("healthy", "mine", "1", {"outcome": "success", "metrics": noisy}),
    ]
    for part, responder, task, document in rows:
        trial = folder / part / ".lab" / "runs" / "run_1" / "trials" / f"{responder}-{task}"
        trial.mkdir(parents=True)
        ids = {"variant_id": responder, "task_id": task}
        (trial / "trial_output.json").write_text(json.dumps({"ids": ids, **document}))


def test_existing_evaluation_is_rejected_with_a_hint_to_continue(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    an_evaluation(folder)
    plan = (folder / "evaluation.json").read_text()

    refused = lab.run("incidents", "eval", str(folder), code=EXIT_USAGE).err

    assert "already has an evaluation" in refused
    assert "--continue" in refused
    assert (folder / "evaluation.json").read_text() == plan


def test_report_separates_known_and_unknown_causes(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    an_evaluation(folder)

    found = lab.json("incidents", "eval", str(folder), "--report")
    shown = lab.run("incidents", "eval", str(folder), "--report").out

    assert found["responders"]["mine"]["episodes"] == 3
    assert found["responders"]["mine"]["without_figures"] == 1
    assert found["responders"]["mine"]["rates"]["mitigated"]["of"] == 1
    assert found["unknown"]["rates"]["escalated_harmless"]["hits"] == 1
    assert found["compared"]["other"]["mitigated"]["difference"] == 1.0
    assert found["planned"] == 6
    alarms = found["responders"]["mine"]["false_alarms"]
    assert alarms["all"]["polls"] == 500
    assert alarms["noisy_episodes"]["polls"] == 480
    assert "mine, without a runbook for the cause" in shown
    assert "mine compared with other" in shown
    (noisy,) = [line.split() for line in shown.splitlines() if "in these episodes, with noise" in line]
    assert "0.00 (0 in 480; 0.00-7.38)" in " ".join(noisy)
    # Unknown causes have both lines: escalated, and mitigated or escalated.
    (asked,) = [line for line in shown.splitlines() if line.strip().startswith("escalated without harm")]
    assert "1/1" in asked
    # One pair gives no interval.
    lines = shown.splitlines()
    harm = next(line.split() for line in lines if "user-error-seconds" in line and "unknown" in line)
    assert harm[-5:] == ["4", "4", "0", "unknown", "1"]
    assert "harm of mine per unit of other: 1 (0 to unbounded)" in shown
    assert "(1/1; " in shown


def test_rejected_evaluation_leaves_the_files_of_the_existing_one(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    an_evaluation(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "has an evaluation" in lab.run("incidents", "eval", str(folder), code=EXIT_USAGE).err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
