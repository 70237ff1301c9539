"""`lab incidents eval`, as far as it goes without testbeds: what it shows and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import Lab

EXIT_USAGE = 64


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("home"), {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--continue",), "no evaluation to go on with"),
        (("--report",), "no evaluation to go on with"),
        (("--episodes", "0", "--unknown", "0"), "nothing to measure"),
        (("--fault", "no_such_fault"), "no_such_fault"),
        (("--responder", "nameless"), "NAME=COMMAND"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(
    lab: Lab, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = lab.run("incidents", "eval", str(tmp_path / "e"), *arguments, code=EXIT_USAGE)
    assert said in done.err
    assert not (tmp_path / "e").exists()


def an_evaluation(folder: Path) -> None:
    """A folder with two episodes of two responders, one of them without figures, and one of an unknown cause."""
    parts = [
        {"name": "compared", "responders": ["mine", "other"], "episodes": 2},
        {"name": "unknown-1", "responders": ["mine"], "episodes": 1},
    ]
    folder.mkdir()
    plan = {"seed": 1, "timeout_s": 5.0, "concurrency": 1, "home": "/beds", "port_base": 23_000, "parts": parts}
    (folder / "evaluation.json").write_text(json.dumps(plan))
    metrics = {
        "kind": "fault", "subject": "hang", "detected": True, "diagnosis_at_1": True, "mitigated": True, "false_alarms": 0,
        "healthy_polls": 20, "harm_user_error_s": 4.0, "actions": 1, "harmful_actions": 0, "time_to_detect_s": 2.0,
    }  # fmt: skip
    rows: list[tuple[str, str, str, dict[str, Any]]] = [
        ("compared", "mine", "1", {"outcome": "success", "metrics": metrics}),
        ("compared", "other", "1", {"outcome": "failure", "metrics": {**metrics, "mitigated": False}}),
        ("compared", "mine", "2", {"outcome": "error", "error": {"error_type": "no_bed", "message": "taken"}}),
        ("unknown-1", "mine", "3", {"outcome": "failure", "metrics": {**metrics, "escalated_harmless": True}}),
    ]
    for part, responder, task, document in rows:
        trial = folder / part / ".lab" / "runs" / "run_1" / "trials" / f"{responder}-{task}"
        trial.mkdir(parents=True)
        ids = {"variant_id": responder, "task_id": task}
        (trial / "trial_output.json").write_text(json.dumps({"ids": ids, **document}))


def test_a_report_tells_known_and_unknown_causes_apart(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    an_evaluation(folder)

    found = lab.json("incidents", "eval", str(folder), "--report")
    shown = lab.run("incidents", "eval", str(folder), "--report").out

    assert found["responders"]["mine"]["episodes"] == 2
    assert found["responders"]["mine"]["without_figures"] == 1
    assert found["responders"]["mine"]["rates"]["mitigated"]["of"] == 1
    assert found["unknown"]["rates"]["escalated_harmless"]["hits"] == 1
    assert found["compared"]["other"]["mitigated"]["difference"] == 1.0
    assert found["planned"] == 5
    assert "mine, cause unknown to it" in shown
    assert "mine beside other" in shown
    # One pair tells nothing of how much harm others would do.
    lines = shown.splitlines()
    harm = next(line.split() for line in lines if "user-error-seconds" in line and "cannot be told" in line)
    assert harm[-7:] == ["4", "4", "0", "cannot", "be", "told", "1"]
    assert "harm of mine for each of other: 1 (0 to unbounded)" in shown
    assert "(1/1; " in shown


def test_an_evaluation_is_not_begun_over_another_one(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    an_evaluation(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "has an evaluation" in lab.run("incidents", "eval", str(folder), code=EXIT_USAGE).err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
