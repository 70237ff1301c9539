"""The API's OpenAPI description, checked by schemathesis with all of its checks against the real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import relab
from support.lab.process import LabProcess, run_lab

UNTESTED = "/build-trainings"
PROJECT = Path(relab.__file__).parent.parent.parent


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_api_matches_its_description(tmp_path: Path, closed: bool) -> None:
    options: list[str] = []
    headers: dict[str, str] = {}
    if closed:
        made = run_lab("auth", "create-token", "--name", "a", "--scope", "admin", home=tmp_path / "home")
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        options = ["--header", f"Authorization: {headers['Authorization']}"]
    with LabProcess.serve(tmp_path / "home") as server:
        with server.client() as client:
            described = client.get("/openapi.json", headers=headers).json()["paths"]
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(PROJECT / "schemathesis.toml"),
                "run", f"{server.url}/openapi.json", "--checks", "all", "--continue-on-failure", "--seed", "18",
                # This path would start trainings with up to a million builds; tests/contract/api tests it.
                "--exclude-path", UNTESTED, "--max-examples", "10", "--generation-deterministic", "--no-color", *options,
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=540, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    operations = sum(len(methods) for path, methods in described.items() if path != UNTESTED)
    assert operations > 60
    assert f"Tested: {operations}" in done.stdout
