"""Records of builds: records of dead processes become interrupted, and unusable folders do not break reads."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import NoReturn

import pytest

from relab.bootstrap import Services
from relab.builds.errors import BuildFolderError
from relab.builds.models import Build, BuildResult, BuildStatus, BuildTest
from relab.builds.monitor import abandoned, recording, workspace
from relab.builds.monitor.build_file import BuildProject
from relab.builds.service import BuildService
from relab.builds.store import BuildStore
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from rig.waiting import wait_until
from support.builds.projects import write_project

WAITS = "while [ ! -e {} ]; do sleep 0.05; done\n"


@pytest.fixture
def builds(make_services: Callable[..., Services]) -> BuildService:
    return make_services().builds


def builds_below(services: Services, home: Path) -> BuildService:
    """Return a build service that uses the database of `services` and stores its files below `home`."""
    return BuildService(
        services.database,
        services.clock,
        services.telemetry,
        home=home,
        environment={},
        models=home / "models",
        taught=home / "taught",
        max_kept_bytes=1 << 30,
    )


def run(builds: BuildService, project: BuildProject) -> Build:
    return builds.run(project, project.file.defaults, stop=Event()).builds[-1]


def running(builds: BuildService) -> Sequence[Build]:
    return builds.list_builds(status=BuildStatus.RUNNING).items


@contextmanager
def waiting_build(builds: BuildService, folder: Path) -> Iterator[Build]:
    """Run a build of the checkout in `folder` that waits until the block ends; yield its record."""
    go = folder.parent / "go"
    thread = threading.Thread(
        target=run, args=(builds, write_project(folder, WAITS.format(shlex.quote(str(go))), sandbox="local"))
    )
    thread.start()
    try:
        wait_until(lambda: len(running(builds)) == 1, what="the running build")
        yield running(builds)[0]
    finally:
        go.touch()
        thread.join()


def test_build_of_another_checkout_of_the_project_keeps_running(builds: BuildService, tmp_path: Path) -> None:
    with waiting_build(builds, tmp_path / "one" / "project") as first:
        run(builds, write_project(tmp_path / "two" / "project", "exit 0\n", sandbox="local"))

        assert builds.get(first.build_id).result.status is BuildStatus.RUNNING

    assert builds.get(first.build_id).result.status is BuildStatus.SUCCESS


def test_build_of_the_same_checkout_below_another_home_keeps_running(
    make_services: Callable[..., Services], builds: BuildService, tmp_path: Path
) -> None:
    elsewhere = builds_below(make_services(), tmp_path / "elsewhere")
    with waiting_build(builds, tmp_path / "one" / "project") as first:
        run(elsewhere, write_project(tmp_path / "one" / "project", "exit 0\n", sandbox="local"))

        assert builds.get(first.build_id).result.status is BuildStatus.RUNNING


@pytest.mark.parametrize("builds_again", [False, True], ids=["read", "built again"])
def test_record_that_a_dead_process_left_in_the_same_folder_is_interrupted(
    make_services: Callable[..., Services], builds: BuildService, tmp_path: Path, builds_again: bool
) -> None:
    store = BuildStore(make_services().database)
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    with waiting_build(builds, tmp_path / "project") as build:
        pass
    # Restore the running record, as if the process had died before the end of the build.
    store.finish(build.model_copy(update={"result": BuildResult(status=BuildStatus.RUNNING)}), None)

    if builds_again:
        run(builds, project)
    else:
        assert running(builds) == []

    result = store.get(build.build_id).result
    assert result.status is BuildStatus.INTERRUPTED
    assert result.error == "The process of this build ended before the build did."


@pytest.mark.parametrize("builds_again", [False, True], ids=["read", "built again"])
def test_record_that_a_dead_process_left_is_interrupted_although_the_host_has_another_name(
    builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds_again: bool
) -> None:
    monkeypatch.setattr(workspace.socket, "gethostname", lambda: "container-1")
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    with monkeypatch.context() as patched:
        patched.setattr(BuildStore, "finish", lambda *_: None)
        build = run(builds, project)
    monkeypatch.setattr(workspace.socket, "gethostname", lambda: "container-2")

    if builds_again:
        run(builds, project)

    assert builds.get(build.build_id).result.status is BuildStatus.INTERRUPTED


def test_read_of_builds_touches_no_folder_without_a_running_record(
    builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(builds, write_project(tmp_path / "idle" / "project", "exit 0\n", sandbox="local"))
    locked: list[Path] = []
    with waiting_build(builds, tmp_path / "one" / "project"):
        monkeypatch.setattr(abandoned, "end_stale_processes", locked.append)
        found = running(builds)

    assert len(found) == 1
    assert locked == []


def test_builds_are_read_while_the_database_cannot_be_written(
    make_services: Callable[..., Services], builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BuildStore(make_services().database)
    with waiting_build(builds, tmp_path / "project") as build:
        pass
    store.finish(build.model_copy(update={"result": BuildResult(status=BuildStatus.RUNNING)}), None)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise DatabaseUnavailableError("The database cannot be written.")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", refuse)
        assert [each.build_id for each in running(builds)] == [build.build_id]
    assert running(builds) == []


def test_result_of_a_build_that_ends_while_the_database_is_unavailable_is_stored_later(
    builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def refuse(*_: object, **__: object) -> NoReturn:
        refused.append(1)
        raise DatabaseUnavailableError("The database restarts.")

    monkeypatch.setattr(recording, "_RETRY_S", 0.01)
    with waiting_build(builds, tmp_path / "project") as build, monkeypatch.context() as patched:
        patched.setattr(Database, "write", refuse)
        (tmp_path / "go").touch()
        wait_until(lambda: len(refused) > 2, what="the attempts to store the result")

    assert builds.get(build.build_id).result.status is BuildStatus.SUCCESS
    assert builds.log(build.build_id) == ""


def test_result_is_stored_once_if_the_connection_is_lost_after_the_commit(
    builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = BuildStore.finish

    def lose_connection(self: BuildStore, build: Build, log: str | None, tests: Sequence[BuildTest] = ()) -> None:
        finish(self, build, log, tests)
        monkeypatch.setattr(BuildStore, "finish", finish)
        raise DatabaseUnavailableError("The connection was lost.")

    monkeypatch.setattr(recording, "_RETRY_S", 0.01)
    monkeypatch.setattr(BuildStore, "finish", lose_connection)
    ended = run(builds, write_project(tmp_path / "project", "echo done\n", sandbox="local"))

    assert builds.get(ended.build_id) == ended
    assert builds.log(ended.build_id) == "done\n"
    (counted,) = (series for series in builds.totals() if series.metric.name == "relab_builds")
    assert counted.totals == {("tiny", "success", ""): 1.0}


def test_builds_are_read_although_their_home_cannot_be_listed(
    make_services: Callable[..., Services], builds: BuildService, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    elsewhere = builds_below(make_services(), tmp_path / "file")

    with waiting_build(builds, tmp_path / "one" / "project") as first:
        assert [each.build_id for each in running(elsewhere)] == [first.build_id]


def test_record_of_a_build_that_ended_is_never_interrupted(
    make_services: Callable[..., Services], builds: BuildService, tmp_path: Path
) -> None:
    store = BuildStore(make_services().database)
    project = write_project(tmp_path / "project", "exit 3\n", sandbox="local")
    ended = run(builds, project)

    store.interrupt_running("another folder", BuildResult(status=BuildStatus.INTERRUPTED))
    run(builds, project)

    assert builds.get(ended.build_id) == ended


def test_build_whose_folder_cannot_be_used_does_not_stay_running(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    run(builds, project)
    (folder,) = (path.parent for path in tmp_path.glob("home/builds/*/lock"))
    # A folder in place of the log file makes the log unwritable.
    (folder / "build.log").unlink()
    (folder / "build.log").mkdir()

    with pytest.raises(BuildFolderError):
        run(builds, project)

    last = builds.list_builds().items[0]
    assert last.result.status is BuildStatus.INTERRUPTED
    assert last.result.error is not None
    assert "cannot use its folder" in last.result.error


def test_project_that_cannot_be_copied_is_an_error_of_builds(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    # The file has more holes than a copy may have, which is an error even for root.
    with (project.root / "disk.img").open("wb") as file:
        file.truncate(5 * 1_073_741_824)

    with pytest.raises(BuildFolderError, match=r"disk\.img") as caught:
        run(builds, project)

    assert caught.value.remedy is not None
    assert "`ignore` in build.yaml" in caught.value.remedy
    assert builds.list_builds().items == []
