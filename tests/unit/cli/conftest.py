"""Homes with and without stored runs, for tests of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.lab.cli import Lab
from support.lab.in_process import InProcessLab
from support.telemetry.runs import failed_run, minimal_run


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A home in which the runs `r1` (failed) and `r2` are stored."""
    lab = InProcessLab(tmp_path_factory.mktemp("home"), {})
    runs = [failed_run("r1"), minimal_run("r2", agent_name="other")]
    lab.run("agent-runs", "ingest", "-", stdin=json.dumps(runs))
    return lab


@pytest.fixture
def empty(tmp_path: Path) -> Lab:
    """An empty home."""
    (tmp_path / "empty").mkdir()
    return InProcessLab(tmp_path / "empty", {}, prepared=False)
