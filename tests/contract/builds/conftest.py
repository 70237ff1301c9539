"""Fixtures of the build tests: projects whose builds run in each kind of sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relab.builds.monitor.build_file import BuildProject
from support.builds.projects import write_project
from support.components.required import require_program


@pytest.fixture(params=["local", "bwrap"])
def make_project(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], BuildProject]:
    """Return a function that writes a project whose build runs a shell script."""
    if request.param == "bwrap":
        require_program("bwrap", ".ci/system-packages")
    return lambda script: write_project(tmp_path / "project", script, sandbox=request.param)
