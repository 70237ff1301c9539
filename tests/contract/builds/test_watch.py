"""Watches of builds: one pass per interval, a shared budget of retries, and passes that end with an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from relab.bootstrap import Services
from relab.builds.controller import BuildPass
from relab.builds.errors import BuildFileInvalidError
from relab.builds.models import Build, BuildStatus
from relab.builds.service import BuildService, WatchPlan
from relab.core.errors import RelabError, UnavailableError
from support.builds.projects import write_project


@pytest.fixture
def builds(make_services: Callable[..., Services]) -> BuildService:
    return make_services().builds


def watch(builds: BuildService, folder: Path, plan: WatchPlan, *, retries: int = 0) -> list[BuildPass]:
    """Run a watch to its end, and return its passes."""
    passes: list[BuildPass] = []
    builds.watch(
        folder, {"retries": str(retries)}, plan, stop=Event(), policy_of=lambda _name: "fixed", on_pass=passes.append
    )
    return passes


def test_each_pass_builds_the_files_that_the_project_has_then(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 1\n", sandbox="local")
    passes: list[BuildPass] = []

    def mend(done: BuildPass) -> None:
        passes.append(done)
        (project.root / "build.sh").write_text("exit 0\n")

    builds.watch(project.root, {}, WatchPlan(0, 0, passes=2), stop=Event(), on_pass=mend)

    assert [done.builds[0].result.status for done in passes] == [BuildStatus.FAILED, BuildStatus.SUCCESS]
    assert passes[0].builds[0].input_digest != passes[1].builds[0].input_digest


def test_each_pass_uses_the_policy_that_is_promoted_then(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 1\n", sandbox="local")
    asked: list[str] = []
    passes: list[BuildPass] = []

    def policy_of(name: str) -> str:
        asked.append(name)
        return ["fixed:7", "fixed:1"][len(asked) - 1]

    plan = WatchPlan(0, 9, passes=2)
    builds.watch(project.root, {"retries": "1"}, plan, stop=Event(), policy_of=policy_of, on_pass=passes.append)

    assert asked == [project.file.name] * 2
    assert [[decision.policy for decision in done.decisions] for done in passes] == [["fixed:7"], ["fixed:1"]]


def test_budget_of_retries_is_for_all_passes_together(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 1\n", sandbox="local")

    passes = watch(builds, project.root, WatchPlan(0, 3, passes=3), retries=2)

    assert [len(done.builds) for done in passes] == [3, 2, 1]


def test_success_restores_the_budget_of_retries(builds: BuildService, tmp_path: Path) -> None:
    # The counter is outside of the copied project; it makes two builds fail, one succeed and two fail.
    count = tmp_path / "count"
    script = f"echo x >> {count}; [ $(wc -l < {count}) = 3 ]\n"
    project = write_project(tmp_path / "project", script, sandbox="local")

    passes = watch(builds, project.root, WatchPlan(0, 1, passes=3), retries=1)

    assert [[build.result.status.value for build in done.builds] for done in passes] == [
        ["failed", "failed"],
        ["success"],
        ["failed", "failed"],
    ]


def test_working_directory_that_is_removed_and_created_anew_does_not_end_the_watch(
    builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_project(tmp_path / "project", "exit 0\n", sandbox="local").root
    monkeypatch.chdir(root)
    errors: list[RelabError] = []
    passes: list[BuildPass] = []

    def create(error: RelabError) -> None:
        errors.append(error)
        write_project(root, "exit 0\n", sandbox="local")

    def remove(done: BuildPass) -> None:
        passes.append(done)
        shutil.rmtree(root)

    builds.watch(Path(), {}, WatchPlan(0, 0, passes=3), stop=Event(), on_pass=remove, on_error=create)

    assert [str(error).partition(".")[0] for error in errors] == [f"There is no file {root / 'build'}"]
    assert [done.builds[0].result.status for done in passes] == [BuildStatus.SUCCESS] * 2


def test_pass_that_an_error_ends_does_not_end_the_watch(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    file = project.root / "build.yaml"
    text = file.read_text()
    passes: list[BuildPass] = []
    errors: list[RelabError] = []

    def damage(done: BuildPass) -> None:
        passes.append(done)
        file.write_text("name: tiny\n")

    def repair(error: RelabError) -> None:
        errors.append(error)
        file.write_text(text)

    builds.watch(project.root, {}, WatchPlan(0, 0, passes=3), stop=Event(), on_pass=damage, on_error=repair)

    assert [type(error) for error in errors] == [BuildFileInvalidError]
    assert [done.builds[0].result.status for done in passes] == [BuildStatus.SUCCESS] * 2


def test_error_of_the_step_after_a_pass_does_not_end_the_watch(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    passes: list[BuildPass] = []
    errors: list[RelabError] = []

    def fail_once(done: BuildPass) -> None:
        passes.append(done)
        if len(passes) == 1:
            raise UnavailableError("The database is busy.")

    builds.watch(project.root, {}, WatchPlan(0, 0, passes=2), stop=Event(), on_pass=fail_once, on_error=errors.append)

    assert [str(error) for error in errors] == ["The database is busy."]
    assert len(passes) == 2


def test_retries_of_a_pass_that_an_error_ends_use_up_the_budget(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 1\n", sandbox="local")
    attempts: list[str | None] = []
    passes: list[BuildPass] = []
    errors: list[RelabError] = []

    def fail_after_the_first_retry(build: Build) -> None:
        attempts.append(build.retry_of)
        if len(attempts) == 2:
            raise UnavailableError("The database is busy.")

    builds.watch(
        project.root,
        {"retries": "2"},
        WatchPlan(0, 2, passes=2),
        stop=Event(),
        policy_of=lambda _name: "fixed",
        on_build=fail_after_the_first_retry,
        on_pass=passes.append,
        on_error=errors.append,
    )

    assert len(errors) == 1
    assert [len(done.builds) for done in passes] == [2]


def test_stop_ends_the_watch_in_its_interval(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    stop = Event()
    passes: list[BuildPass] = []

    def end(done: BuildPass) -> None:
        passes.append(done)
        stop.set()

    builds.watch(project.root, {}, WatchPlan(86_400, 0), stop=stop, on_pass=end)

    assert len(passes) == 1
