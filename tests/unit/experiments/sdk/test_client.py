"""The command lines that the Python client of `lab` makes from its arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.sdk.client import LabClient


@pytest.fixture
def echo(tmp_path: Path) -> LabClient:
    """Return a client of a program that answers with its arguments."""
    program = tmp_path / "lab"
    program.write_text(
        "#!/usr/bin/env python3\nimport json, sys\nprint(json.dumps({'ok': True, 'arguments': sys.argv[1:]}))\n"
    )
    program.chmod(0o755)
    return LabClient(runner_bin=str(program))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"timeout_s": 0}, ["--timeout", "0"]),
        ({"timeout_s": 0.0}, ["--timeout", "0.0"]),
        ({"timeout_s": None}, []),
        ({"label": ""}, ["--label", ""]),
    ],
)
def test_zero_and_empty_values_reach_the_command(echo: LabClient, options: Any, expected: list[str]) -> None:
    answer = echo.pause("run_1", **options)

    assert answer["arguments"] == ["pause", "--run-dir", "run_1", *expected, "--json"]
    assert json.dumps(answer)
