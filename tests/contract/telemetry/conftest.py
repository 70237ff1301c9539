"""A second, empty installation beside the one of a test, and one for all examples of a property."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relab.bootstrap import Services


@pytest.fixture
def elsewhere(make_services: Callable[..., Services], tmp_path: Path) -> Services:
    """An empty installation on SQLite, whatever the first one is on."""
    return make_services(database_url=f"sqlite:///{tmp_path / 'elsewhere.db'}")
