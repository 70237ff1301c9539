"""Fixtures of the flag tests: all tests of a file share one flag service per back end and use unique keys."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from relab.flags.service import FlagService
from relab.storage import Database
from rig.servers import PostgresServer
from support.clocks import MovableClock
from support.storage.migrated import create_migrated, migrate

_numbers = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def flag_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a migrated database."""
    url = f"sqlite:///{tmp_path_factory.mktemp('flags') / 'flags.db'}"
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = create_migrated(postgres, f"flags_{os.getpid()}_{next(_numbers)}")
    database = Database.open(url)
    migrate(database)
    database.close()
    return url


@pytest.fixture(scope="module")
def flag_database(flag_database_url: str) -> Iterator[Database]:
    """The opened database."""
    database = Database.open(flag_database_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def flags(flag_database: Database) -> FlagService:
    """The flag service with a stopped clock."""
    return FlagService(flag_database, MovableClock())


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"flag-{next(_numbers)}"
