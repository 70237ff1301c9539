"""Databases and checkpoints that can be made unavailable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from relab.storage import Database, UnitOfWork
from relab.storage.errors import DatabaseUnavailableError
from relab.storage.session import DatabaseSession


class FlakyDatabase(Database):
    """A database that a test can make unavailable.

    Attributes:
        writes: the number of durable transactions that have ended; renewals of leases, at each poll, are not durable.
    """

    is_away = False
    writes = 0

    @contextmanager
    def read(self) -> Iterator[DatabaseSession]:
        """Open a transaction; raise if the database is unavailable."""
        self._look()
        with super().read() as session:
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[UnitOfWork]:
        """Open a transaction; raise if the database is unavailable at its start or end."""
        self._look()
        try:
            with super().write(durable=durable) as unit:
                yield unit
                self._look()
        finally:
            self.writes += durable

    def _look(self) -> None:
        if self.is_away:
            raise DatabaseUnavailableError("The database is away.")


class FlakySaver(InMemorySaver):
    """Checkpoints in memory, which are unavailable while a database is."""

    def __init__(self, database: FlakyDatabase) -> None:
        super().__init__()
        self._database = database

    async def aput(self, *args: Any, **more: Any) -> Any:
        """Store a checkpoint."""
        self._database._look()
        return await super().aput(*args, **more)

    async def aput_writes(self, *args: Any, **more: Any) -> None:
        """Store the writes of a node."""
        self._database._look()
        await super().aput_writes(*args, **more)

    async def aget_tuple(self, *args: Any, **more: Any) -> Any:
        """Return a checkpoint."""
        self._database._look()
        return await super().aget_tuple(*args, **more)
