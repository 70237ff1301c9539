"""The egress self-test of sandboxes: if it reaches the network, the build is not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

from relab.builds.models import BuildFailure, BuildStatus
from relab.builds.monitor.runner import run_build, take_project
from relab.builds.monitor.workspace import locked_folder
from relab.experiments.sandbox.local import LocalSandbox
from relab.experiments.sandbox.protocol import Launch, RunningAttempt, SandboxLimits
from support.builds.projects import write_project


class OpenSandbox(LocalSandbox):
    """A sandbox whose egress self-test reaches the network."""

    def start(self, launch: Launch) -> RunningAttempt:
        running = super().start(launch)
        running.posture = replace(running.posture, egress_self_test={"performed": True, "passed": False})  # type: ignore[misc]
        return running


def test_build_is_not_run_where_the_egress_self_test_fails(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "sleep 1000\n", sandbox="local")
    sandbox = OpenSandbox(SandboxLimits(), "test-egress")
    sandbox.prepare()
    with locked_folder(tmp_path / "home", project) as folder:
        snapshot = take_project(project, folder)
        done = run_build(project, project.file.defaults, snapshot, folder, sandbox, stop=Event())
    sandbox.close()

    assert done.result.status is BuildStatus.FAILED
    assert done.result.failure is BuildFailure.NOT_STARTED
    assert done.result.error is not None
    assert "egress self-test" in done.result.error
