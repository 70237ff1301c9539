"""Build passes as agent runs in telemetry: their steps, status and log lines, also without telemetry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer

import pytest

from relab.bootstrap import Services
from relab.builds.controller import BuildPass
from relab.builds.models import BuildStatus
from relab.builds.monitor.build_file import override
from relab.builds.service import BuildService, agent_run_id
from relab.storage import Database
from relab.telemetry.models import RunStatus, StepStatus
from relab.telemetry.service import TelemetryService
from support.builds.projects import write_project


def run(builds: BuildService, folder: Path, script: str, policy: str = "fixed", **knobs: str) -> BuildPass:
    project = write_project(folder / "project", script, sandbox="local")
    return builds.run(project, override(project.file.defaults, knobs), stop=Event(), policy=policy)


def test_failed_pass_is_an_agent_run_with_the_lines_that_explain_it(services: Services, tmp_path: Path) -> None:
    script = "echo compiling; echo 'main.c:3:10: fatal error: zlib.h: No such file or directory'; exit 2\n"

    done = run(services.builds, tmp_path, script, retries="1")

    stored, _ = services.telemetry.load(agent_run_id(done.builds[0].build_id))
    assert stored.status is RunStatus.FAILURE
    assert stored.task_id == "tiny"
    assert stored.error_type == "build_exit_code"
    assert stored.correlation_ids == [build.build_id for build in done.builds]
    assert [step.status for step in stored.steps] == [StepStatus.FAILURE] * 2
    assert stored.steps[1].input_summary == "After a failure, the policy fixed chose: keep the configuration"
    assert stored.tool_calls[0].args_json["memory_mb"] == "128"
    assert stored.tool_calls[0].result_summary is not None
    assert "zlib.h: No such file or directory" in stored.tool_calls[0].result_summary


def test_pass_whose_retry_succeeds_is_a_success(services: Services, tmp_path: Path) -> None:
    script = 'if [ -n "$CACHE" ]; then exit 0; fi; echo "error: it needs the cache"; exit 1\n'

    done = run(services.builds, tmp_path, script, policy="fixed:1", retries="1")

    stored, _ = services.telemetry.load(agent_run_id(done.builds[0].build_id))
    assert stored.status is RunStatus.SUCCESS
    assert [call.status for call in stored.tool_calls] == [StepStatus.FAILURE, StepStatus.SUCCESS]


def test_stopped_pass_is_cancelled(services: Services, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "while :; do sleep 1; done\n", sandbox="local")
    stop = Event()
    timer = Timer(0.5, stop.set)
    timer.start()

    done = services.builds.run(project, project.file.defaults, stop=stop)

    timer.join()
    assert services.telemetry.get(agent_run_id(done.builds[0].build_id)).status is RunStatus.CANCELLED


def test_pass_that_is_stopped_between_builds_is_cancelled(services: Services, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 2\n", sandbox="local")
    stop = Event()
    configuration = override(project.file.defaults, {"retries": "1"})

    done = services.builds.run(project, configuration, stop=stop, on_build=lambda _build: stop.set())

    stored, _ = services.telemetry.load(agent_run_id(done.builds[0].build_id))
    assert stored.status is RunStatus.CANCELLED
    assert stored.error_type is None
    assert [step.status for step in stored.steps] == [StepStatus.FAILURE]


def test_build_succeeds_although_telemetry_is_unavailable(
    make_services: Callable[..., Services], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = make_services()
    # No server listens on port 1.
    missing = Database.open("postgresql+psycopg://nobody@127.0.0.1:1/missing")
    telemetry = TelemetryService(missing, services.clock, services.queue)
    builds = BuildService(
        services.database,
        services.clock,
        telemetry,
        home=tmp_path / "builds",
        environment={},
        models=tmp_path / "models",
        taught=tmp_path / "taught",
        max_kept_bytes=1 << 30,
    )

    done = run(builds, tmp_path, "exit 0\n")

    missing.close()
    assert builds.get(done.builds[0].build_id).result.status is BuildStatus.SUCCESS
    assert "build_not_in_telemetry" in capsys.readouterr().out
