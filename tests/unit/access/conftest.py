"""Fixtures of the access tests: a clock that the test moves, and access services that share one database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relab.access.service import AccessService
from relab.storage import Database
from support.clocks import MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def make(database: Database, clock: MovableClock) -> Callable[..., AccessService]:
    """Return a function that makes a service of the same database; a second one stands for another process."""

    def build(**options: Any) -> AccessService:
        return AccessService(database, clock, **options)

    return build
