"""Databases at earlier revisions, each migrated once and copied for the tests, because migrations are slow."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import pkgutil
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import relab
from relab.storage import Database
from relab.storage.migrate import upgrade
from rig.servers import PostgresServer
from support.storage.migrated import create_empty

Fill = Callable[[Database], None]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def every_table_is_known() -> None:
    """Import all classes of tables, so that the metadata has every table."""
    for module in pkgutil.walk_packages(relab.__path__, "relab."):
        if module.name.endswith(("tables", ".storage.counters")):
            importlib.import_module(module.name)


class Templates:
    """Databases of one back end that tests copy; no connection to them is open.

    Args:
        server: the PostgreSQL server; None for SQLite.
        folder: the folder for SQLite's files.
    """

    def __init__(self, server: PostgresServer | None, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._revisions: dict[str, str] = {}
        self._filled: dict[Fill, str] = {}

    def at(self, revision: str) -> str:
        """Return the name of the template at this revision, made from the newest template of an earlier revision."""
        if revision not in self._revisions:
            earlier = max((known for known in self._revisions if known < revision), default=None)
            name = self._create(earlier and self._revisions[earlier])
            self._change(name, functools.partial(upgrade, revision=revision))
            self._revisions[revision] = name
        return self._revisions[revision]

    def filled(self, fill: Fill) -> str:
        """Return the name of the template that `fill` made from an empty database."""
        if fill not in self._filled:
            name = self._create(None)
            self._change(name, fill)
            self._filled[fill] = name
        return self._filled[fill]

    def copy(self, template: str) -> Database:
        """Open a copy of a template, for the tests of one file."""
        name = self._next()
        if self._server is not None:
            return Database.open(create_empty(self._server, name, template=template))
        shutil.copyfile(self._folder / template, self._folder / name)
        return self._open(name)

    def _create(self, template: str | None) -> str:
        name = self._next()
        if self._server is not None:
            self._server.create_database(name, template=template or "template1")
        elif template is not None:
            shutil.copyfile(self._folder / template, self._folder / name)
        return name

    def _change(self, name: str, fill: Fill) -> None:
        database = self._open(name)
        fill(database)
        # Closing the last connection moves SQLite's write-ahead log into the file, and lets PostgreSQL copy the database.
        database.close()

    def _open(self, name: str) -> Database:
        return Database.open(f"sqlite:///{self._folder / name}" if self._server is None else self._server.url(name))

    def _next(self) -> str:
        return f"revisions_{os.getpid()}_{next(_numbers)}"


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """The templates of SQLite."""
    return Templates(None, tmp_path_factory.mktemp("revisions"))


@pytest.fixture(scope="session")
def postgres_templates(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """The templates of PostgreSQL."""
    return Templates(postgres, tmp_path_factory.mktemp("revisions"))


@pytest.fixture(params=["sqlite", "postgres"])
def templates(request: pytest.FixtureRequest) -> Templates:
    """The templates of each back end."""
    found: Templates = request.getfixturevalue(f"{request.param}_templates")
    return found


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes the databases of a test after it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def database_at(templates: Templates, opened: ExitStack) -> Callable[[str], Database]:
    """Return a function that opens a new database at a revision, on each back end."""

    def copy(revision: str) -> Database:
        database = templates.copy(templates.at(revision))
        opened.callback(database.close)
        return database

    return copy


@pytest.fixture
def copy_of(templates: Templates, opened: ExitStack) -> Callable[[Fill], Database]:
    """Return a function that opens a copy of the database that `fill` made, on each back end.

    `fill` is called once for all tests.
    """

    def copy(fill: Fill) -> Database:
        database = templates.copy(templates.filled(fill))
        opened.callback(database.close)
        return database

    return copy
