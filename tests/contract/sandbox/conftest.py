"""Sandboxes of each kind, for the tests of the sandbox protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.sandbox.rooms import Rooms, make_rooms
from relab.experiments.sandbox.kinds import SandboxMode


@pytest.fixture(params=[mode.value for mode in SandboxMode])
def rooms(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rooms]:
    """Sandboxes of each kind."""
    made = make_rooms(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=[mode.value for mode in SandboxMode if mode.kind.isolates])
def closed_rooms(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rooms]:
    """Sandboxes of each kind that isolates its trials."""
    made = make_rooms(request.param, tmp_path)
    yield made
    made.close()
