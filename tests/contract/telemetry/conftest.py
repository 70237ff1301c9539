"""Installations beside that of a test: one that is empty, and one whose clock the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relab.bootstrap import Services, build
from support.clocks import MovableClock
from support.otlp.traces import START_NS


@pytest.fixture
def elsewhere(make_services: Callable[..., Services], tmp_path: Path) -> Services:
    """An empty installation on SQLite, whichever back end the first installation has."""
    return make_services(database_url=f"sqlite:///{tmp_path / 'elsewhere.db'}")


@pytest.fixture
def clock() -> MovableClock:
    """A clock that shows the start of the sample traces until the test moves it."""
    return MovableClock(START_NS // 1_000)


@pytest.fixture
def here(services: Services, clock: MovableClock) -> Iterator[Services]:
    """The installation of the test, with a clock that the test moves."""
    made = build(services.settings, clock=clock)
    yield made
    made.close()
