"""`lab clean`: asks before it deletes runs and starter files, and deletes no other files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rig.trial_rows import trial_row, write_run
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab

RUNS = ("run_20250101_000000_aaaaaa", "run_20250301_000000_bbbbbb", "run_20250701_000000_cccccc")


class Project(Lab):
    """A project with three runs, one damaged run, and the files that `lab init` writes."""

    @property
    def folder(self) -> Path:
        return self.home / ".lab" / "runs"

    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path, {})
    project.run("init")
    for name, month in zip(RUNS, ("01", "03", "07"), strict=True):
        made = write_run(tmp_path / "made" / name, [trial_row("base", 0, 0)])
        manifest = made / "manifest.json"
        document = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**document, "created_at": f"2025-{month}-01T00:00:00Z"}))
        project.folder.mkdir(parents=True, exist_ok=True)
        made.rename(project.folder / name)
    (project.folder / "run_damaged").mkdir()
    (tmp_path / ".lab" / "cache").mkdir()
    return project


def test_named_runs_are_deleted_after_a_question_and_no_others(project: Project) -> None:
    everything = {*RUNS, "run_damaged"}

    unanswered = project.run("clean", "--runs", code=64)
    declined = project.run("clean", RUNS[0], stdin="n\n", code=130)
    assert "Delete 4 run(s) and 1 other file(s) or folder(s)" in unanswered.err
    assert "nothing was changed. Repeat it with --yes." in unanswered.err
    assert "Delete 1 run(s)" in declined.err
    assert project.left() == everything

    project.run("clean", RUNS[0], stdin="y\n")
    assert project.left() == everything - {RUNS[0]}
    project.run("clean", f".lab/runs/{RUNS[1]}", "run_damaged", "--yes")
    assert project.left() == {RUNS[2]}
    assert (project.home / ".lab" / "cache").exists()
    project.run("clean", "--runs", "--yes")
    assert project.left() == set()
    assert not (project.home / ".lab" / "cache").exists()
    assert (project.home / ".lab" / "experiment.yaml").exists()
    project.run("clean", "--init", "--yes")
    assert not (project.home / ".lab" / "experiment.yaml").exists()
    assert "nothing to delete" in project.run("clean", "--runs", "--init").out


def test_runs_are_deleted_by_age_and_one_of_unknown_age_stays(project: Project) -> None:
    # The first age exceeds that of every run, and the second is below it.
    assert project.run("clean", "--older-than", "9999w", "--dry-run").out == "There is nothing to delete.\n"
    dry = project.run("clean", "--older-than", "1h", "--dry-run")
    assert [line.rpartition("/")[2] for line in dry.out.splitlines()] == list(RUNS)
    assert all(line.startswith("would be removed: ") for line in dry.out.splitlines())
    assert "run_damaged cannot be read" in dry.err
    assert project.left() == {*RUNS, "run_damaged"}

    project.run("clean", "--older-than", "1h", "--yes")
    assert project.left() == {"run_damaged"}


def test_nothing_but_a_run_of_this_project_is_deleted(project: Project) -> None:
    other = project.home / "other"
    other.mkdir()
    (project.folder / "link").symlink_to(other)

    for named in ("..", ".", "other", str(other), ".lab", ".lab/runs", ".lab/runs/..", "/", "", "nope"):
        refused = project.run("clean", named, "--yes", code=1)
        assert "This project has no run" in refused.err, named
    for wrong in ((), ("--runs", "--older-than", "1d"), (RUNS[0], "--runs"), ("--older-than", "6m")):
        project.run("clean", *wrong, "--yes", code=64)
    assert project.left() == {*RUNS, "run_damaged", "link"}

    project.run("clean", "link", "--yes")
    assert other.is_dir()
    assert "link" not in project.left()


def test_an_error_says_each_problem_once(project: Project) -> None:
    errors = [
        project.run("describe", code=64).err,
        project.run("auth", "create-token", "--name", "", "--scope", "read", code=64).err,
    ]

    for text in errors:
        said = [line.strip().removeprefix("lab: ").partition(" (and ")[0].rstrip(".") for line in text.splitlines()]
        assert len(said) > 1
        assert len(set(said)) == len(said), text


def test_unknown_command_gets_a_suggestion_only_if_a_similar_one_exists(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        return InProcessLab(tmp_path, {}).run(*words, code=64).err.strip()

    assert said("sparkle") == "No such command 'sparkle'."
    assert said("serv") == "No such command 'serv'. Did you mean 'serve'?"
    assert said("rac") == "No such command 'rac'. Did you mean 'rca'?"
    assert said("auth", "crate-token") == "No such command 'crate-token'. Did you mean 'create-token'?"
    assert said("auth", "fork") == "No such command 'fork'."
