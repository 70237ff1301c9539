"""A small shop with a responder, of which everything can be away, lie, or be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from support.shops.books import write_books
from support.shops.small import Means, Shop, a_shop, hasty
from support.shops.ways import Way
from support.storage.flaky_databases import FlakyDatabase, FlakySaver
from support.storage.migrated import migrate

ACTS = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)


@pytest.fixture
def anyio_backend() -> str:
    """The loop that everything here is written for."""
    return "asyncio"


@contextmanager
def flaky_database(folder: Path) -> Iterator[FlakyDatabase]:
    """Make a migrated database that can be away."""
    found = FlakyDatabase.open(f"sqlite:///{folder / 'relab.db'}")
    assert isinstance(found, FlakyDatabase)
    migrate(found)
    yield found
    found.close()


@pytest.fixture(scope="module")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlakyDatabase]:
    """A database of all tests of a file."""
    with flaky_database(tmp_path_factory.mktemp("flaky")) as found:
        yield found


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[FlakyDatabase]:
    """A database of one test, for those to whom it matters what happened before."""
    with flaky_database(tmp_path) as found:
        yield found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with which all is well."""
    with a_shop(tmp_path / "shop") as found:
        yield found


@pytest.fixture
def way(shop: Shop) -> Way:
    """The way to its action server."""
    return Way(shop.app)


@pytest.fixture
def means(shop: Shop, flaky: FlakyDatabase, tmp_path: Path, way: Way) -> Means:
    """What a responder of it works with, by itself."""
    flaky.is_away = False
    return Means(shop, flaky, FlakySaver(flaky), write_books(tmp_path / "books"), hasty(ACTS), way=way)


@pytest.fixture
def fresh(means: Means, empty: FlakyDatabase) -> Means:
    """The same with a database in which nothing has happened yet."""
    return replace(means, database=empty, saver=FlakySaver(empty))
