"""SQL statements that are compiled once for all databases of a test process.

SQLAlchemy caches compiled statements in each engine. Almost every test opens a database of its own, and would compile its
statements again.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.util import LRUCache

from relab.storage import engine as storage_engine

_MAX_STATEMENTS = 2_000


@contextmanager
def shared_compilation() -> Iterator[None]:
    """Return a context manager within which new engines of relab share their compiled statements, by database system."""
    stores: dict[str, MutableMapping[Any, Any]] = {}

    def create(url: URL, **options: Any) -> Engine:
        engine = create_engine(url, **options)
        engine._compiled_cache = _SharedCache(stores.setdefault(engine.dialect.name, LRUCache(_MAX_STATEMENTS)))
        return engine

    with mock.patch.object(storage_engine, "create_engine", create):
        yield


class _SharedCache(MutableMapping[Any, Any]):
    """The cache of one engine, which stores its entries in `store`.

    The first part of a key is the engine's dialect, an object that each engine creates anew with the same options. It is
    left out of the keys of the store.
    """

    def __init__(self, store: MutableMapping[Any, Any]) -> None:
        self._store = store

    def __getitem__(self, key: Any) -> Any:
        return self._store[key[1:]]

    def __setitem__(self, key: Any, compiled: Any) -> None:
        self._store[key[1:]] = compiled

    def __delitem__(self, key: Any) -> None:
        del self._store[key[1:]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._store)

    def __len__(self) -> int:
        return len(self._store)
