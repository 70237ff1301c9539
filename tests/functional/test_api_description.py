"""The API's own description, checked from outside by schemathesis with all of its checks, against the real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import relab
from support.lab.process import LabProcess, run_lab

PROJECT = Path(relab.__file__).parent.parent.parent


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_the_whole_api_is_as_it_is_described(tmp_path: Path, closed: bool) -> None:
    options: list[str] = []
    if closed:
        made = run_lab("auth", "create-token", "--name", "a", "--scope", "admin", home=tmp_path / "home")
        options = ["--header", f"Authorization: Bearer {made.stdout.strip()}"]
    with LabProcess.serve(tmp_path / "home") as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(PROJECT / "schemathesis.toml"),
                "run", f"{server.url}/openapi.json", "--checks", "all", "--continue-on-failure", "--seed", "18",
                # Its bodies would start trainings of up to a million builds; tests/contract/api has its cases.
                "--exclude-path", "/build-trainings", "--max-examples", "10", "--generation-deterministic", "--no-color", *options,
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=540, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert "Tested: 61" in done.stdout
