"""The session of one transaction: it sends statements to the database."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, overload

from sqlalchemy import Connection, CursorResult, Engine, Executable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.sql.selectable import TypedReturnsRows
    from typing_extensions import TypeVarTuple

    Columns = TypeVarTuple("Columns")
    Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class DatabaseSession:
    """One transaction, as a context manager; without a `commit`, the end of the block rolls it back.

    The first statement takes a connection of the pool and begins the transaction. Unlike a session of SQLAlchemy's ORM,
    it keeps no objects; a command starts faster without the import of the ORM.

    Args:
        engine: the engine of the database, with the execution options of the transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def get_bind(self) -> Engine:
        """Return the engine of the database, without connecting to it."""
        return self._engine

    def connection(self) -> Connection:
        """Return the connection of the transaction, which has begun."""
        if self._connection is None:
            self._connection = self._engine.connect()
        if not self._connection.in_transaction():
            self._connection.begin()
        return self._connection

    @overload
    def execute(
        self, statement: TypedReturnsRows[*Columns], parameters: Parameters = None
    ) -> CursorResult[*Columns]: ...
    @overload
    def execute(self, statement: Executable, parameters: Parameters = None) -> CursorResult[*tuple[Any, ...]]: ...
    def execute(self, statement: Executable, parameters: Parameters = None) -> CursorResult[*tuple[Any, ...]]:
        """Execute a statement in the transaction and return its result.

        Args:
            statement: the statement.
            parameters: its parameters; a list of parameters executes it once for each.
        """
        return self.connection().execute(statement, parameters)

    def commit(self) -> None:
        """Commit the transaction, if a statement has begun it."""
        if self._connection is None:
            return
        try:
            self._connection.commit()
        except BaseException:
            # SQLite keeps the transaction open after some failures, and SQLAlchemy returns the connection to the pool
            # without rolling it back. Closing the connection ends the transaction.
            self._connection.invalidate()
            raise
