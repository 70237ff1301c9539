"""Fixtures of the notice tests: one database of each kind, which is emptied after each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from relab.incidents.storage.log import IncidentLog
from relab.storage import Database
from rig.servers import PostgresServer
from support.storage.migrated import create_migrated, migrate

_numbers = itertools.count()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a migrated database."""
    url = f"sqlite:///{tmp_path_factory.mktemp('notices') / 'notices.db'}"
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = create_migrated(postgres, f"notices_{os.getpid()}_{next(_numbers)}", kept=True)
    database = Database.open(url)
    migrate(database)
    database.close()
    return url


@pytest.fixture
def notices_database(shared_url: str) -> Iterator[Database]:
    """The shared database without incidents and receivers."""
    database = Database.open(shared_url)
    yield database
    with database.write() as unit:
        for table in ("incidents", "notice_posts", "notice_receivers", "slack_requests", "responder_leases"):
            unit.session.execute(text(f"DELETE FROM {table}"))
    database.close()


@pytest.fixture
def log(notices_database: Database) -> IncidentLog:
    """The incident log on the shared database."""
    return IncidentLog(notices_database)
