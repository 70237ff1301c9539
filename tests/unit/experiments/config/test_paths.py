"""Paths of an experiment: each case of the seed's section "Pathing"."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from relab.experiments.config.paths import Script, dataset_path, find_script, project_root, runs_folder


@pytest.mark.parametrize(
    ("experiment", "root"),
    [
        ("/p/.lab/experiment.yaml", "/p"),
        ("/p/.lab/more/other.yaml", "/p"),
        ("/p/experiment.yaml", "/p"),
        ("/p/sub/experiment.yaml", "/p/sub"),
        ("/p/.lab/../.lab/experiment.yaml", "/p"),
        ("/p/.lab/../other/experiment.yaml", "/p/other"),
        ("/p/.lab/runs/r/workspace/.lab/experiment.yaml", "/p/.lab/runs/r/workspace"),
        ("/p/x.lab/experiment.yaml", "/p/x.lab"),
    ],
)
def test_the_root_is_the_parent_of_lab(experiment: str, root: str) -> None:
    assert project_root(Path(experiment)) == Path(root)


def test_a_relative_path_is_read_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lab").mkdir()
    monkeypatch.chdir(tmp_path)
    assert project_root(Path(".lab/experiment.yaml")) == tmp_path
    monkeypatch.chdir(tmp_path / ".lab")
    assert project_root(Path("experiment.yaml")) == tmp_path
    assert dataset_path(Path("experiment.yaml"), "../data/tasks.jsonl") == tmp_path / "data" / "tasks.jsonl"


@pytest.mark.parametrize(
    ("experiment", "path", "expected"),
    [
        ("/p/.lab/experiment.yaml", "../data/tasks.jsonl", "/p/data/tasks.jsonl"),
        ("/p/.lab/experiment.yaml", "tasks.jsonl", "/p/.lab/tasks.jsonl"),
        ("/p/.lab/experiment.yaml", "./x/../tasks.jsonl", "/p/.lab/tasks.jsonl"),
        ("/p/experiment.yaml", "data/tasks.jsonl", "/p/data/tasks.jsonl"),
        ("/p/.lab/experiment.yaml", "/elsewhere/tasks.jsonl", "/elsewhere/tasks.jsonl"),
    ],
)
def test_the_data_set_is_relative_to_the_experiments_folder(experiment: str, path: str, expected: str) -> None:
    assert dataset_path(Path(experiment), path) == Path(expected)


def test_runs_are_stored_below_lab() -> None:
    assert runs_folder(Path("/p")) == Path("/p/.lab/runs")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("src/harness/run-trial.js", "scripts/evaluate.sh", "my_agent/harness.py", "agent/__main__.py", "x.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    program = tmp_path / "bin" / "evaluate"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (["node", "./src/harness/run-trial.js"], "src/harness/run-trial.js"),
        (["node", "src/harness/run-trial.js"], "src/harness/run-trial.js"),
        (["python", "-m", "my_agent.harness"], "my_agent/harness.py"),
        (["python", "-m", "agent"], "agent/__main__.py"),
        (["python", "x.py", "--mode", "a/b"], "x.py"),
        (["python", "-X", "dev", "-u", "x.py"], "x.py"),
        (["python", "agent/"], "agent"),
        (["bash", "./scripts/evaluate.sh"], "scripts/evaluate.sh"),
        (["bash", "-e", "./scripts/evaluate.sh"], "scripts/evaluate.sh"),
        (["env", "DATA=a/b.py", "python", "x.py"], "x.py"),
        (["./bin/evaluate"], "bin/evaluate"),
        (["bin/evaluate", "./none.py"], "bin/evaluate"),
        (["uv", "run", "x.py"], "x.py"),
        (["runner", "org/image:1", "./x.py"], "x.py"),
    ],
)
def test_script_is_found_in_each_command_of_the_seeds_table(root: Path, command: list[str], script: str) -> None:
    assert find_script(command, root) == Script(root / script, exists=True)


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (["node", "./src/harness/run-trail.js"], "src/harness/run-trail.js"),
        (["node", "harness.mjs"], "harness.mjs"),
        (["python", "-m", "my_agent.harnes"], "my_agent/harnes.py"),
        (["python", "/none/x.py"], "/none/x.py"),
        (["bash", "../up.sh"], "../up.sh"),
    ],
)
def test_missing_script_is_reported_with_its_path(root: Path, command: list[str], script: str) -> None:
    expected = Path(os.path.normpath(root / script))

    assert find_script(command, root) == Script(expected, exists=False)


def test_missing_or_non_executable_program_is_reported(root: Path) -> None:
    assert find_script(["./x.py"], root) == Script(root / "x.py", exists=True, executable=False)
    assert find_script(["./none"], root) == Script(root / "none", exists=False, executable=False)
    assert find_script(["./bin"], root).exists is False


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "cd /tmp && ./run.sh < a/b.py"],
        ["bash", "-lc", "./run.sh"],
        ["bash", "-euc", "./run.sh"],
        ["python3", "-c", "import a.b; print('x/y.py')"],
        ["python3.11", "-c", "open('/x/y')"],
        ["node", "-e", "require('./none.js')"],
        ["node", "--eval", "require('./none.js')"],
        ["perl", "-ne", "print './x.pl'"],
    ],
)
def test_program_text_is_not_a_path(root: Path, command: list[str]) -> None:
    found = shutil.which(command[0])

    assert find_script(command, root) == Script(Path(found) if found else None, found is not None)


def test_installed_module_is_assumed_to_exist(root: Path) -> None:
    assert find_script(["python", "-m", "pytest.none"], root) == Script(None, exists=True)


def test_program_is_searched_on_the_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root / "bin"))

    assert find_script(["evaluate", "--model", "org/model"], root) == Script(root / "bin" / "evaluate", exists=True)
    assert find_script(["nothing"], root) == Script(None, exists=False)
