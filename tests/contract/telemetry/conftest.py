"""A second, empty installation beside that of a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relab.bootstrap import Services


@pytest.fixture
def elsewhere(make_services: Callable[..., Services], tmp_path: Path) -> Services:
    """An empty installation on SQLite, whichever back end the first installation has."""
    return make_services(database_url=f"sqlite:///{tmp_path / 'elsewhere.db'}")
