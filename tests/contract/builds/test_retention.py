"""Retention of builds: old records are deleted with their logs in batches; running builds and counters stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import pytest

from relab.bootstrap import Services
from relab.builds.errors import BuildNotFoundError
from relab.builds.models import Build, BuildConfiguration, BuildResult, BuildStatus, BuildTest, BuildTestOutcome
from relab.builds.retention import PrunedBuilds
from relab.builds.store import BuildStore
from relab.core.ids import new_id
from support.builds.projects import write_project


def stored(
    services: Services, started_at: int, status: BuildStatus = BuildStatus.FAILED, tests: Sequence[BuildTest] = ()
) -> Build:
    """Store a build with a log that started `started_at` microseconds after 1970, and return it."""
    build = Build(
        build_id=new_id(),
        project="engine",
        input_digest="sha256:0",
        configuration=BuildConfiguration(),
        sandbox="local",
        started_at=started_at,
        result=BuildResult(status=BuildStatus.RUNNING),
    )
    store = BuildStore(services.database)
    store.add(build)
    if status is not BuildStatus.RUNNING:
        store.finish(build.model_copy(update={"result": BuildResult(status=status)}), "its log\n", tests)
    return build


def test_old_builds_are_deleted_with_their_logs_in_batches(services: Services) -> None:
    old = [stored(services, started_at) for started_at in range(5)]
    young = stored(services, 1_000)
    retention = services.builds.retention

    assert retention.count(1_000) == PrunedBuilds(builds=5)
    assert [done.builds for done in retention.prune(1_000, batch=2)] == [2, 2, 1]

    assert [build.build_id for build in services.builds.list_builds().items] == [young.build_id]
    assert services.builds.log(young.build_id) == "its log\n"
    with pytest.raises(BuildNotFoundError):
        services.builds.log(old[0].build_id)


def test_builds_with_many_tests_are_deleted_in_smaller_batches(services: Services) -> None:
    tests = [BuildTest(name=f"t{number}", outcome=BuildTestOutcome.PASSED) for number in range(4_000)]
    for started_at in range(5):
        stored(services, started_at, tests=tests)

    assert [done.builds for done in services.builds.retention.prune(1_000)] == [2, 2, 1]


def test_old_build_that_runs_stays(services: Services) -> None:
    running = stored(services, 0, BuildStatus.RUNNING)

    assert list(services.builds.retention.prune(1_000)) == []

    assert services.builds.get(running.build_id).result.status is BuildStatus.RUNNING


def test_old_decisions_and_suggestions_are_deleted_and_the_counters_stay(
    make_services: Callable[..., Services], tmp_path: Path
) -> None:
    services = make_services()
    project = write_project(tmp_path / "project", "exit 1\n", sandbox="local")
    configuration = project.file.defaults.model_copy(update={"retries": 1})
    services.builds.run(project, configuration, stop=Event(), policy="fixed")
    counted = services.builds.totals()

    done = list(services.builds.retention.prune(services.clock.now_us() + 1))

    assert done == [PrunedBuilds(builds=2, decisions=1, suggestions=1)]
    assert services.builds.suggestions.list_suggestions().items == []
    assert services.builds.decisions.list_decisions().items == []
    assert services.builds.totals() == counted
