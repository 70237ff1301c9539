"""A small shop with a responder; tests can make its parts unavailable or wrong, or kill them."""

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
    """The event loop of these tests."""
    return "asyncio"


@contextmanager
def flaky_database(folder: Path) -> Iterator[FlakyDatabase]:
    """Yield a migrated database that can be made unavailable."""
    found = FlakyDatabase.open(f"sqlite:///{folder / 'relab.db'}")
    assert isinstance(found, FlakyDatabase)
    migrate(found)
    yield found
    found.close()


@pytest.fixture(scope="module")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlakyDatabase]:
    """A database that can be made unavailable, for all tests of a file."""
    with flaky_database(tmp_path_factory.mktemp("flaky")) as found:
        yield found


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[FlakyDatabase]:
    """An empty database that can be made unavailable, for one test."""
    with flaky_database(tmp_path) as found:
        yield found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop without a fault."""
    with a_shop(tmp_path / "shop") as found:
        yield found


@pytest.fixture
def way(shop: Shop) -> Way:
    """The transport to the shop's action server."""
    return Way(shop.app)


@pytest.fixture
def means(shop: Shop, flaky: FlakyDatabase, tmp_path: Path, way: Way) -> Means:
    """The environment of a responder that acts without approval."""
    flaky.is_away = False
    return Means(shop, flaky, FlakySaver(flaky), write_books(tmp_path / "books"), hasty(ACTS), way=way)


@pytest.fixture
def fresh(means: Means, empty: FlakyDatabase) -> Means:
    """The same environment with an empty database."""
    return replace(means, database=empty, saver=FlakySaver(empty))
