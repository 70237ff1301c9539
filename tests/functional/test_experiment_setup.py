"""`run-dev --setup`: a command that runs once before the trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.sandbox.rooms import IMAGE, INSTALL, require_docker
from support.components.required import require_program
from support.experiments.projects import Project

SECRET = 'sk-setup-7f3a9c"e1/+ü'


def test_output_of_a_failed_setup_command_is_shown_without_secrets(tmp_path: Path) -> None:
    require_docker()
    project = Project.make(tmp_path)
    sandbox = {"mode": "container", "image": IMAGE}
    runtime = {"harness": {"secrets": ["API_KEY"]}, "sandbox": sandbox, "network": {"mode": "full"}}
    project.configure(runtime=runtime)

    answer = project.json("run-dev", "--setup", 'echo "the key is $API_KEY"; exit 3', code=64, API_KEY=SECRET)

    message = answer["error"]["message"]
    assert "the key is [secret API_KEY]" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("command", "message"),
    [("kill -9 $$", "was ended by signal 9, and printed nothing."), ("echo no; exit 3", "ended with exit code 3: no")],
)
def test_end_of_a_failed_setup_command_is_named(tmp_path: Path, command: str, message: str) -> None:
    require_program("bwrap", INSTALL)
    project = Project.make(tmp_path)
    project.configure(runtime={"sandbox": {"mode": "bwrap"}})

    answer = project.json("run-dev", "--setup", command, code=64)

    assert answer["error"]["message"] == f"The setup command {message}"
