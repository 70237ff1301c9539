"""Files that builds keep for later builds: the limit of their total size, and the files that are removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from relab.bootstrap import Services
from relab.builds.models import BuildStatus
from relab.builds.monitor.build_file import BuildProject
from relab.builds.monitor.kept import KeptFolders
from relab.builds.monitor.workspace import locked_folder
from support.builds.projects import write_project
from support.lab.process import run_lab

MB = 1_048_576
FILL = "head -c 2097152 /dev/urandom > $CACHE/object\n"
"""The script of a build that writes 2 MB into its cache."""
FROM_CACHE = "[ -e $CACHE/object ]\n"


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    # The limit has room for two of the projects of these tests.
    return make_services(builds={"max_kept_gb": 5 / 1_024})


def build(services: Services, project: BuildProject) -> BuildStatus:
    configuration = project.file.defaults.model_copy(update={"cache": True})
    done = services.builds.run(project, configuration, stop=Event(), policy="fixed")
    return done.builds[-1].result.status


def project_of(folder: Path, script: str = FILL) -> BuildProject:
    return write_project(folder, script, sandbox="local")


def has_cache(services: Services, project: BuildProject) -> bool:
    """Return whether the project's cache has the file of an earlier build."""
    with locked_folder(services.settings.home / "builds", project) as folder:
        return (folder.root / "cache" / "object").exists()


def test_least_recently_built_project_loses_its_cache(services: Services, tmp_path: Path) -> None:
    first, second, third = (project_of(tmp_path / name) for name in ("first", "second", "third"))
    for project in (first, second, first, third):
        assert build(services, project) is BuildStatus.SUCCESS

    assert [has_cache(services, project) for project in (first, second, third)] == [True, False, True]
    kept = services.builds.kept.total()
    assert kept.folders == 2
    assert 4 * MB <= kept.size_bytes <= 5 * MB
    # A build after the removal starts with an empty cache.
    assert build(services, project_of(tmp_path / "second", FROM_CACHE)) is BuildStatus.FAILED


def test_next_oldest_project_makes_room_where_the_oldest_is_being_built(services: Services, tmp_path: Path) -> None:
    home = services.settings.home / "builds"
    oldest, older, young = (project_of(tmp_path / name) for name in ("oldest", "older", "young"))
    for project in (oldest, older):
        build(services, project)
    with locked_folder(home, oldest):
        build(services, young)
        KeptFolders(home, 5 * MB).enforce()

    assert [has_cache(services, project) for project in (oldest, older, young)] == [True, False, True]


def test_files_of_a_project_that_is_being_built_stay(services: Services, tmp_path: Path) -> None:
    old, young = project_of(tmp_path / "old"), project_of(tmp_path / "young")
    build(services, old)
    build(services, young)
    strict = KeptFolders(services.settings.home / "builds", 0)

    with locked_folder(services.settings.home / "builds", old):
        done = strict.enforce()

    assert (done.folders, done.removed_folders) == (1, 1)
    assert [has_cache(services, project) for project in (old, young)] == [True, False]


def test_project_that_is_too_large_alone_keeps_nothing(services: Services, tmp_path: Path) -> None:
    project = project_of(tmp_path / "large", FILL.replace("2097152", "7340032"))

    assert build(services, project) is BuildStatus.SUCCESS

    assert not has_cache(services, project)
    assert services.builds.kept.total().size_bytes == 0


def test_folder_of_an_earlier_version_is_measured(services: Services, tmp_path: Path) -> None:
    build(services, project_of(tmp_path / "first"))
    (use,) = (services.settings.home / "builds").glob("*/kept.json")
    use.unlink()

    assert services.builds.kept.total().size_bytes >= 2 * MB


def test_remains_of_a_killed_removal_are_deleted(services: Services, tmp_path: Path) -> None:
    build(services, project_of(tmp_path / "first"))
    left = services.settings.home / "builds" / ".removed-1" / "cache"
    left.mkdir(parents=True)

    services.builds.kept.enforce()

    assert not left.parent.exists()
    assert services.builds.kept.total().folders == 1


def test_prune_removes_files_of_projects_that_are_no_longer_built(services: Services, tmp_path: Path) -> None:
    old, young = project_of(tmp_path / "old"), project_of(tmp_path / "young")
    build(services, old)
    build(services, young)
    home = services.settings.home
    for use in (home / "builds").glob("*/kept.json"):
        if use.parent.samefile(_root(services, old)):
            use.write_text(json.dumps(json.loads(use.read_text()) | {"used_us": 1}))
    options = ("--older-than", "1d", "--json")

    planned = json.loads(run_lab("builds", "prune", *options, "--dry-run", home=home).stdout)
    assert has_cache(services, old)
    done = json.loads(run_lab("builds", "prune", *options, "--yes", home=home).stdout)
    shown = run_lab("builds", "prune", "--older-than", "1d", "--yes", home=home).stdout

    assert planned["kept"]["removed_folders"] == done["kept"]["removed_folders"] == 1
    assert done["kept"]["removed_bytes"] >= 2 * MB
    assert [has_cache(services, project) for project in (old, young)] == [False, True]
    assert "1 project(s) keep 2." in shown


def _root(services: Services, project: BuildProject) -> Path:
    with locked_folder(services.settings.home / "builds", project) as folder:
        return folder.root
