"""`run-dev --setup`: a command that runs once before the trials."""

from __future__ import annotations

from pathlib import Path

from contract.sandbox.rooms import IMAGE, require_docker
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
