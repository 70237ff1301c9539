"""Several experiments in one `lab run`: one table and exit code, continued as a whole, compared as a family."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from support.experiments.projects import WAITING, Project, Run

HARNESS = """\
if bindings.get("breaks"):
    sys.exit(3)
answer("success" if bindings.get("good") else "failure")
"""


def write_experiment(project: Project, name: str, **sections: Any) -> Path:
    """Write a further experiment file of the project, and return its path."""
    before = project.experiment.read_text()
    project.configure(experiment={"id": name, "name": name}, **sections)
    path = project.experiment.with_name(f"{name}.yaml")
    project.experiment.rename(path)
    project.experiment.write_text(before)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.make(tmp_path_factory.mktemp("sets"), HARNESS, tasks=8)
    good = [{"variant_id": "better", "bindings": {"good": True}}]
    write_experiment(made, "math", variant_plan=good)
    write_experiment(made, "code", variant_plan=good, dataset={"path": "../data/tasks.jsonl", "limit": 7})
    write_experiment(made, "broken", baseline={"variant_id": "control", "bindings": {"breaks": True}})
    return made


@pytest.fixture(scope="module")
def finished(project: Project) -> dict[str, Any]:
    return project.json("run", ".lab/math.yaml", ".lab/code.yaml", "--set", "nightly", "--no-telemetry")


def test_each_experiment_is_a_run_of_its_own(project: Project, finished: dict[str, Any]) -> None:
    assert [run["experiment"] for run in finished["runs"]] == ["math", "code"]
    assert [run["trials"]["done"] for run in finished["runs"]] == [16, 14]
    for run in finished["runs"]:
        project.lab("verify", run["run"]["run_id"])


def test_same_command_runs_nothing_again(project: Project, finished: dict[str, Any]) -> None:
    again = project.json("run", ".lab/math.yaml", ".lab/code.yaml", "--set", "nightly", "--no-telemetry")
    continued = project.json("run", "--continue", "nightly", "--no-telemetry")

    for other in (again, continued):
        assert [run["run"] for run in other["runs"]] == [run["run"] for run in finished["runs"]]
        assert [run["outcomes"] for run in other["runs"]] == [run["outcomes"] for run in finished["runs"]]


def test_comparison_of_a_set_is_the_worst_of_its_runs_at_a_joint_level(
    project: Project, finished: dict[str, Any]
) -> None:
    verdict = project.json("compare", "nightly")

    assert verdict["verdict"] == "PASS"
    assert verdict["level_of_each_run"] == pytest.approx(0.975)
    assert [run["family"]["level_together"] for run in verdict["runs"]] == [pytest.approx(0.975)] * 2
    text = project.lab("compare", "nightly").out
    assert "set nightly: PASS" in text


def test_set_file_lists_experiments_beside_it(project: Project, finished: dict[str, Any]) -> None:
    path = project.root / ".lab" / "all.yaml"
    path.write_text("id: nightly\nexperiments: [math.yaml, code.yaml]\n")

    again = project.json("run", ".lab/all.yaml", "--no-telemetry")

    assert [run["run"] for run in again["runs"]] == [run["run"] for run in finished["runs"]]


@pytest.mark.full
def test_experiment_without_results_fails_the_set_and_keeps_no_other_from_running(project: Project) -> None:
    done = project.lab("run", ".lab/broken.yaml", ".lab/math.yaml", "--set", "mixed", "--no-telemetry", code=1)

    assert "no trial of control has a result" in done.err
    assert "math" in done.out
    run = next(run for run in project.runs() if run_member(run) == ("mixed", 1))
    project.lab("clean", run.name, "--yes")
    assert project.json("compare", "mixed", code=2)["verdict"] == "INVALID"


def run_member(run: Path) -> tuple[str, int] | None:
    member = json.loads((run / "manifest.json").read_bytes())["ext"].get("set")
    return None if member is None else (member["set_id"], member["index"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((".lab/math.yaml", ".lab/none.yaml"), "none.yaml"),
        ((".lab/math.yaml", ".lab/math.yaml"), "listed twice"),
        ((".lab/math.yaml", "--set", "a/b"), "must not contain"),
        (("--continue", "nightly", "--set", "x"), "--continue uses"),
        ((".lab/empty.yaml",), "experiments"),
        ((".lab/odd.yaml",), "odd.yaml"),
        ((".lab/math.yaml", "elsewhere/other.yaml"), "several projects"),
    ],
)
def test_invalid_set_starts_no_run(project: Project, arguments: tuple[str, ...], said: str) -> None:
    (project.root / ".lab" / "empty.yaml").write_text("experiments: []\n")
    (project.root / ".lab" / "odd.yaml").write_text("experiments: [math.yaml]\nrepeat: 3\n")
    (project.root / "elsewhere" / "data").mkdir(parents=True, exist_ok=True)
    text = (project.root / ".lab" / "math.yaml").read_text().replace("../data/", "data/")
    (project.root / "elsewhere" / "other.yaml").write_text(text)
    (project.root / "elsewhere" / "data" / "tasks.jsonl").write_text('{"task_id": "a"}\n')
    (project.root / "elsewhere" / "harness").write_text("")
    before = project.runs()

    done = project.lab("run", *arguments, "--no-telemetry", code=64)

    assert said in done.err
    assert project.runs() == before


def test_set_reports_warnings_and_the_next_command_of_an_id_with_a_space(tmp_path: Path) -> None:
    project = Project.make(tmp_path, HARNESS, tasks=1)
    for name in ("first", "second"):
        write_experiment(project, name, analysis={"primary_metrics": [f"quux_{name}"]})

    done = project.lab("run", ".lab/first.yaml", ".lab/second.yaml", "--set", "two words", "--no-telemetry")

    for name in ("first", "second"):
        assert f"warning: it is unknown whether the primary metric 'quux_{name}'" in done.err
    assert done.out.splitlines()[-1] == "next: lab compare 'two words'"


def test_changed_experiment_is_refused_and_changes_nothing(project: Project, finished: dict[str, Any]) -> None:
    path = project.root / ".lab" / "code.yaml"
    text = path.read_text()
    path.write_text(text.replace('"limit": 7', '"limit": 6'))

    done = project.lab("run", ".lab/math.yaml", ".lab/code.yaml", "--set", "nightly", "--no-telemetry", code=1)
    others = project.lab("run", ".lab/math.yaml", "--set", "nightly", "--no-telemetry", code=1)

    path.write_text(text)
    assert "was changed since the set 'nightly' began" in done.err
    assert "exists with other experiments" in others.err


def test_damaged_record_is_named(project: Project) -> None:
    folder = project.root / ".lab" / "sets" / "torn"
    folder.mkdir(parents=True)
    (folder / "set.json").write_text('{"set_id"')

    assert project.json("run", "--continue", "torn", code=1)["error"]["code"] == "run_damaged"


def test_killed_set_is_continued(tmp_path: Path) -> None:
    rows = [{"task_id": "quick"}, {"task_id": "slow", "waits": True}]
    project = Project.make(tmp_path, WAITING, tasks=rows)
    meet = tmp_path / "meet"
    meet.mkdir()
    binding = {"variant_id": "control", "bindings": {"meet": str(meet)}}
    for name in ("first", "second"):
        write_experiment(project, name, baseline=binding)
    files = (".lab/first.yaml", ".lab/second.yaml", "--set", "both", "--no-telemetry")

    with project.start(*files) as runner:
        runner.wait_done(1)
        runner.kill()
        [begun] = project.runs()
        (meet / "go").touch()
    done = project.json("run", "--continue", "both", "--no-telemetry")

    assert [run["finished"] for run in done["runs"]] == [True, True]
    assert done["runs"][0]["run"]["run_dir"] == str(begun)
    assert len(project.runs()) == 2
    assert len(Run(begun).rows) == 2


@pytest.mark.full
def test_interrupted_set_says_how_to_continue(tmp_path: Path) -> None:
    project = Project.make(tmp_path, WAITING, tasks=[{"task_id": "slow", "waits": True}])
    meet = tmp_path / "meet"
    meet.mkdir()
    for name in ("first", "second"):
        write_experiment(project, name, baseline={"variant_id": "control", "bindings": {"meet": str(meet)}})

    with project.start(".lab/first.yaml", ".lab/second.yaml", "--set", "both", "--no-telemetry") as runner:
        runner.wait_for(meet / "started-trial_1")
        runner.press(signal.SIGINT)
        runner.says("finishing the running trials")
        (meet / "go").touch()
        done = runner.end(130)

    first, second = done.json["runs"]
    assert (first["finished"], second["finished"]) == (True, False)
    assert len(project.runs()) == 1
