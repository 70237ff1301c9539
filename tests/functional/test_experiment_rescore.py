"""Trials are scored again by another scorer: from their files, without a harness, and without a change of the run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import pytest

from support.experiments.projects import Project, Run, Runner

HARNESS = """\
Path("answer.txt").write_text(bindings["text"])
answer("failure", answer=bindings["text"], metrics={"cost_usd": 1.0})
"""
SCORER = """\
import json, os, sys
from pathlib import Path
given = json.load(sys.stdin)
assert Path("answer.txt").read_text() == given["output"]["answer"]
assert [each["path"] for each in given["changes"]["added"]] == ["answer.txt"]
assert "SECRET" not in os.environ
Path("answer.txt").write_text("changed by the scorer")
solved = given["bindings"]["text"] == "right"
print(json.dumps({"outcome": "success" if solved else "failure", "metrics": {"score": len(given["output"]["answer"])}}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project.make(tmp_path, HARNESS, tasks=6)
    made.configure(
        baseline={"bindings": {"text": "wrong"}},
        variant_plan=[{"variant_id": "better", "bindings": {"text": "right"}}],
        design={"max_concurrency": 2},
    )
    (tmp_path / "score.py").write_text(SCORER)
    (tmp_path / "broken.py").write_text('print(\'{"outcome": "perhaps"}\')')
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    return made


def _files(run: Run) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.full
def test_new_scores_leave_the_run_unchanged_and_a_comparison_can_use_them(project: Project, tmp_path: Path) -> None:
    run = project.run()
    before = _files(run)
    # A file of the scorer's name in the workspace is not the scorer.
    command = (
        "rescore",
        run.path.name,
        "--scorer",
        f"{sys.executable} {tmp_path / 'score.py'}",
        "--name",
        "strict",
        "--jobs",
        "2",
    )
    answer = project.json(*command, SECRET="x")

    assert answer["outcomes"] == {"control": {"failure": 6}, "better": {"success": 6}}
    assert (answer["changed"], answer["failed"]) == (6, 0)
    assert project.json("compare", run.path.name, code=2)["verdict"] == "EDGE"
    compared = project.json("compare", run.path.name, "--scores", "strict", "--gate", "success>=0")
    assert compared["verdict"] == "PASS"
    assert compared["results"][0]["estimate"] == 1.0
    assert _files(run) == before
    assert project.json(*command, code=1)["error"]["code"] == "scores_exist"

    # A scorer that fails gives errors, and no outcome of its own.
    for name in ("broken", "slow"):
        scorer = (
            "--scorer",
            f"{sys.executable} {tmp_path / name}.py",
            "--name",
            name,
            "--timeout",
            "0.5",
            "--jobs",
            "12",
        )
        failed = project.json("rescore", run.path.name, *scorer, code=1)
        assert failed["outcomes"] == {"control": {"error": 6}, "better": {"error": 6}}
    record = Path(answer["folder"]) / "rescore.json"
    assert json.loads(record.read_bytes())["digests"].keys() >= {str(tmp_path / "score.py")}
    record.write_text(record.read_text().replace("strict", "strong"))
    assert project.json("compare", run.path.name, "--scores", "strict", code=2)["error"]["code"] == "run_damaged"


def test_figures_of_the_harness_are_not_mixed_with_those_of_a_scorer_that_fails_for_some_trials(
    project: Project, tmp_path: Path
) -> None:
    run = project.run()
    scorer = tmp_path / "some.py"
    scorer.write_text(
        "import json, os, sys\n"
        "given = json.load(sys.stdin)\n"
        "if given['bindings']['text'] == 'right': os.kill(os.getpid(), 9)\n"
        "print(json.dumps({'outcome': 'failure', 'metrics': {'cost_usd': 5.0}}))\n"
    )

    answer = project.json("rescore", run.path.name, "--scorer", f"{sys.executable} {scorer}", "--name", "some", code=1)

    assert answer["first_error"] == "the scorer was ended by signal 9"
    lines = (Path(answer["folder"]) / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["row"] for line in lines]
    found = {(row["variant_id"], row["outcome"], row["metrics"].get("cost_usd")) for row in rows}
    assert found == {("control", "failure", 5.0), ("better", "error", None)}


def test_figure_of_a_scorer_replaces_the_objective_that_the_harness_reported(tmp_path: Path) -> None:
    objective = {"name": "accuracy", "value": 0.9, "direction": "maximize"}
    project = Project.make(tmp_path, f"answer('failure', objective={objective})", tasks=2)
    run = project.run()
    scorer = tmp_path / "accuracy.py"
    scorer.write_text(
        "import json, sys\n"
        "first = json.load(sys.stdin)['task']['task_id'] == 'task_001'\n"
        "print(json.dumps({'outcome': 'failure', 'metrics': {'accuracy': 0.1} if first else {}}))\n"
    )

    answer = project.json("rescore", run.path.name, "--scorer", f"{sys.executable} {scorer}", "--name", "own")

    lines = (Path(answer["folder"]) / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["row"] for line in lines]
    assert {row["task_id"]: row["primary_metric_value"] for row in rows} == {"task_001": 0.1, "task_002": None}


def test_interrupted_scoring_ends_its_scorers_and_stores_nothing(project: Project, tmp_path: Path) -> None:
    run = project.run()
    scorer = tmp_path / "waiting.py"
    scorer.write_text(f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    options = ("--scorer", f"{sys.executable} {scorer}", "--name", "a", "--timeout", "600", "--json")
    with Runner(project, ("rescore", run.path.name, *options), {}) as scoring:
        scoring.wait_for(tmp_path / "pid")
        scoring.press()
        outcome = scoring.end(code=130)

    assert outcome.json["error"]["code"] == "interrupted"
    assert "no scores are stored" in outcome.err
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert list((project.root / ".lab").glob("rescored/*/*")) == []


def test_invalid_scorers_are_rejected_and_write_nothing(project: Project, tmp_path: Path) -> None:
    run = project.run()
    good = f"{sys.executable} {tmp_path / 'score.py'}"
    for scorer, name, option in (
        ("no-such-program", "a", ()),
        ("'", "a", ()),
        ("", "a", ()),
        (good, "../a", ()),
        (good, "a", ("--timeout", "0")),
        (good, "a", ("--jobs", "0")),
    ):
        project.json("rescore", run.path.name, "--scorer", scorer, "--name", name, *option, code=64)
    project.json("compare", run.path.name, "--scores", "none", code=64)
    output = next(run.path.glob("trials/*/trial_output.json"))
    output.write_text(output.read_text().replace("wrong", "right").replace("right", "wrong!"))
    answer = project.json("rescore", run.path.name, "--scorer", good, "--name", "a", code=1)

    assert answer["error"]["code"] == "run_damaged"
    assert list((project.root / ".lab").glob("rescored/*/*")) == []
