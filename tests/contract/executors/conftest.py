"""Executors of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.experiments.executors.registry import EXECUTORS
from support.experiments.benches import Benches


@pytest.fixture(params=list(EXECUTORS))
def benches(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Benches]:
    """Executors of each kind that is registered."""
    made = Benches(request.param, tmp_path)
    yield made
    made.close()
