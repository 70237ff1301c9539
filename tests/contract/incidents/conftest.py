"""Fixtures of the incident tests: all tests of a file share one incident log per back end and use unique targets."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from relab.incidents.storage.log import IncidentLog
from relab.storage import Database
from rig.servers import PostgresServer
from support.storage.migrated import create_migrated, migrate

_numbers = itertools.count()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def log_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a migrated database."""
    url = f"sqlite:///{tmp_path_factory.mktemp('incidents') / 'incidents.db'}"
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = create_migrated(postgres, f"incidents_{os.getpid()}_{next(_numbers)}", kept=True)
    database = Database.open(url)
    migrate(database)
    database.close()
    return url


@pytest.fixture(scope="session")
def log_database(log_url: str) -> Iterator[Database]:
    """The opened database."""
    database = Database.open(log_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def log(log_database: Database) -> IncidentLog:
    """The incident log on the shared database."""
    return IncidentLog(log_database)


@pytest.fixture
def target() -> str:
    """A target that no other test uses."""
    return f"target-{next(_numbers)}"
