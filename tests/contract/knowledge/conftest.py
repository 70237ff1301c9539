"""Fixtures of the knowledge tests: all tests of a file share one service per back end and use unique ids."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from relab.knowledge.service import KnowledgeService
from relab.storage import Database
from rig.servers import PostgresServer
from support.storage.migrated import create_migrated, migrate

_numbers = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def knowledge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeService]:
    """The service on a migrated database, with only the shipped runbooks."""
    home = tmp_path_factory.mktemp("knowledge")
    url = f"sqlite:///{home / 'knowledge.db'}"
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = create_migrated(postgres, f"knowledge_{os.getpid()}_{next(_numbers)}")
    database = Database.open(url)
    migrate(database)
    yield KnowledgeService(database, folder=None, home_folder=home / "knowledge")
    database.close()
