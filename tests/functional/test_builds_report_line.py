"""The lines of a workflow file in `docs/builds.md`, executed as a CI executes them, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import relab
from support.lab.process import LabProcess, run_lab

GUIDE = Path(relab.__file__).parents[2] / "docs" / "builds.md"
ENVIRONMENTS = {
    "GitHub Actions": {
        "GITHUB_REPOSITORY": "octo/github", "GITHUB_RUN_ID": "1734", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_JOB": "test",
        "GITHUB_SHA": "9f3c2a1", "GITHUB_REF_NAME": 'a"$(touch pwned)`b', "GITHUB_SERVER_URL": "https://ci.example",
        "STATUS": "failure", "MATRIX": "null", "LEG": "0",
    },
    "GitLab CI": {
        "CI_PROJECT_PATH": "octo/gitlab", "CI_JOB_ID": "1734", "CI_JOB_NAME": "test", "CI_COMMIT_SHA": "9f3c2a1",
        "CI_COMMIT_REF_NAME": 'a"$(touch pwned)`b', "CI_JOB_URL": "https://ci.example/1734", "CI_JOB_STATUS": "failed",
    },
}  # fmt: skip


def line_of(ci: str) -> str:
    """Return the shell command that the guide gives for this CI, as the CI's YAML parser reads it."""
    (block,) = re.findall(rf"```yaml\n# {ci}:.*?\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    workflow = yaml.safe_load(block)
    (line,) = workflow["after_script"] if ci == "GitLab CI" else [workflow[0]["run"].strip()]
    assert "\n" not in line
    return str(line)


def new_token(home: Path, scope: str) -> str:
    return run_lab("auth", "create-token", "--name", scope, "--scope", scope, home=home).stdout.strip()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def token(home: Path) -> str:
    return new_token(home, "ingest")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[LabProcess]:
    with LabProcess.serve(home, "--only", "builds") as process:
        yield process


@pytest.mark.parametrize(("ci", "project"), [("GitHub Actions", "octo/github"), ("GitLab CI", "octo/gitlab")])
def test_line_of_the_guide_reports_a_failed_build(
    ci: str, project: str, server: LabProcess, home: Path, token: str, tmp_path: Path
) -> None:
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("needs jq and curl")
    (tmp_path / "build.log").write_bytes(
        b"\x1b[31mmain.c:3:5: error: 'x' undeclared\x1b[0m\x00\xff\nmake: *** [all] Error 1\n"
    )
    environment = {"PATH": os.environ["PATH"], "BUILDS_URL": server.url, "BUILDS_TOKEN": token, **ENVIRONMENTS[ci]}

    codes = [
        subprocess.run(
            ["bash", "-e", "-c", line_of(ci)], env=environment, cwd=tmp_path, timeout=60, check=False
        ).returncode
        for _ in range(2)
    ]
    with server.client() as client:
        client.headers["Authorization"] = f"Bearer {new_token(home, 'read')}"
        (build,) = client.get("/builds", params={"project": project}).json()["items"]

    assert codes == [0, 0]
    assert build["result"]["status"] == "failed"
    assert "undeclared" in build["result"]["error"]
    assert build["origin"]["commit"] == "9f3c2a1"
    assert build["origin"]["branch"] == 'a"$(touch pwned)`b'
    assert build["origin"]["job"] == "test"
    assert build["origin"]["url"].startswith("https://ci.example")
    assert not (tmp_path / "pwned").exists()


def test_jobs_of_a_matrix_are_recorded_as_different_builds(
    server: LabProcess, home: Path, token: str, tmp_path: Path
) -> None:
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("needs jq and curl")
    (tmp_path / "build.log").write_text("make: *** [all] Error 1\n")
    environment = {"PATH": os.environ["PATH"], "BUILDS_URL": server.url, "BUILDS_TOKEN": token}
    environment |= {**ENVIRONMENTS["GitHub Actions"], "GITHUB_REPOSITORY": "octo/matrix"}
    legs = [("0", '{"os": "ubuntu", "python": 3.12}', "success"), ("1", '{"os": "macos", "python": 3.11}', "failure")]

    for leg, matrix, status in legs:
        variables = {**environment, "LEG": leg, "MATRIX": matrix, "STATUS": status}
        subprocess.run(
            ["bash", "-e", "-c", line_of("GitHub Actions")], env=variables, cwd=tmp_path, timeout=60, check=True
        )
    with server.client() as client:
        client.headers["Authorization"] = f"Bearer {new_token(home, 'read')}"
        items = client.get("/builds", params={"project": "octo/matrix"}).json()["items"]

    assert [(item["origin"]["job"], item["result"]["status"]) for item in items] == [
        ("test macos 3.11", "failed"),
        ("test ubuntu 3.12", "success"),
    ]


def test_line_of_the_guide_does_not_fail_the_job_where_no_server_answers(tmp_path: Path) -> None:
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("needs jq and curl")
    environment = {"PATH": os.environ["PATH"], "BUILDS_URL": "http://127.0.0.1:9", **ENVIRONMENTS["GitHub Actions"]}

    done = subprocess.run(
        ["bash", "-e", "-c", line_of("GitHub Actions")], env=environment, cwd=tmp_path, timeout=60, check=False
    )

    assert done.returncode == 0
