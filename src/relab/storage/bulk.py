"""Insert many rows at once by the fastest method of each database driver.

SQLAlchemy's bulk insert doubles the time per row, because its own work takes as long as the insertion by the database.
The functions here pass rows to the driver unchanged, as tuples of the driver's own types (JSON columns as text).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import pydantic_core
from sqlalchemy import JSON, ColumnClause, ColumnElement, Connection, Table, select
from sqlalchemy.exc import DBAPIError

from relab.storage.session import DatabaseSession

Item = TypeVar("Item")

VALUES_PER_STATEMENT: Final = 500
"""Maximum number of ids or rows in one statement, because databases limit the number of a statement's parameters."""
_SQLITE_ROWS = (256, 64, 16, 4, 1)
"""Rows per statement: only a few sizes, so that each statement is compiled once. 256 rows of 25 columns are
6,400 parameters; SQLite accepts 32,766."""


def insert_rows(session: DatabaseSession, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert new rows into a table by the fastest method of the database.

    Args:
        session: the session of the transaction.
        table: the table; it must not contain any of the rows.
        rows: the values of each row, in the order of the table's columns; JSON values are text.

    Raises:
        sqlalchemy.exc.DBAPIError: the database rejected a row, for example because its key is already stored.
    """
    if not rows:
        return
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        _insert_into_sqlite(connection, table, rows)
        return
    driver: Any = connection.connection.driver_connection
    statement = _copy_statement(table)
    errors: Any = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(_copy_types(table))
            write = copy.write_row
            for row in rows:
                write(row)
    except errors as error:
        # Convert the driver error as SQLAlchemy does for its own statements.
        is_lost = connection.dialect.is_disconnect(error, driver, None)
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement,
            None,
            error,
            errors,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=connection.dialect,
        ) from error


def insert_or_lock(session: DatabaseSession, table: Table, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Insert the rows that do not exist yet, lock the existing ones, and return the keys of the existing rows.

    Args:
        session: the session of the transaction. The locks are released when the transaction ends.
        table: the table; the key is its first column, a text.
        rows: `{column: value}` of each row; JSON columns are text.
    """
    if not rows:
        return set()
    key = table.c[0].name
    # In the order of the keys, so that two calls at the same time cannot deadlock.
    ordered = sorted(rows, key=lambda row: str(row[key]))
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        # On SQLite, a write transaction locks the whole database, so no row locks are necessary.
        keys = pydantic_core.to_json([row[key] for row in ordered]).decode()
        found = connection.exec_driver_sql(
            f"SELECT {key} FROM {table.name} WHERE {key} IN (SELECT value FROM json_each(?))",  # noqa: S608
            (keys,),
        )
        known = set(found.scalars())
        names = [column.name for column in table.c]
        insert_rows(session, table, [tuple([row[name] for name in names]) for row in ordered if row[key] not in known])
        return known
    inserted = connection.exec_driver_sql(_postgresql_insert_or_lock(table), (pydantic_core.to_json(ordered).decode(),))
    return {str(row[key]) for row in ordered} - set(inserted.scalars())


def _insert_into_sqlite(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows into a SQLite table, with many rows per statement."""
    # The driver releases the GIL for each statement, and may then wait 5 ms for another thread to give it back.
    start = 0
    for size in _SQLITE_ROWS:
        while len(rows) - start >= size:
            values = tuple(itertools.chain.from_iterable(rows[start : start + size]))
            connection.exec_driver_sql(_sqlite_insert(table, size), values)
            start += size


@functools.cache
def _sqlite_insert(table: Table, rows: int) -> str:
    values = f"({', '.join('?' * len(table.c))})"
    return f"INSERT INTO {table.name} ({_columns(table)}) VALUES {', '.join([values] * rows)}"  # noqa: S608


def _copy_statement(table: Table) -> str:
    return f"COPY {table.name} ({_columns(table)}) FROM STDIN (FORMAT BINARY)"


def _columns(table: Table) -> str:
    # Name the columns, because migrations add columns at the end of a table.
    return ", ".join(column.name for column in table.c)


def _postgresql() -> Any:
    # On SQLite, the dialect is never imported.
    from sqlalchemy.dialects import postgresql

    return postgresql.dialect()  # type: ignore[no-untyped-call]


@functools.cache
def _copy_types(table: Table) -> Sequence[str]:
    dialect = _postgresql()
    return [_base_type(column.type.compile(dialect)) for column in table.c]


@functools.cache
def _postgresql_insert_or_lock(table: Table) -> str:
    dialect = _postgresql()
    key = table.c[0].name
    # In the JSON document of the rows, the values of JSON columns are text; the INSERT casts them to JSON.
    taken = ", ".join(f"{column.name}::json" if isinstance(column.type, JSON) else column.name for column in table.c)
    types = ", ".join(
        f"{column.name} {'text' if isinstance(column.type, JSON) else column.type.compile(dialect)}"
        for column in table.c
    )
    # `DO UPDATE ... WHERE false` changes nothing, but locks the row.
    return (
        f"INSERT INTO {table.name} ({_columns(table)}) "  # noqa: S608
        f'SELECT {taken} FROM json_to_recordset(%s::json) AS given({types}) ORDER BY {key} COLLATE "C" '
        f"ON CONFLICT ({key}) DO UPDATE SET {key} = excluded.{key} WHERE false RETURNING {key}"
    )


def _base_type(declared: str) -> str:
    """Return PostgreSQL's internal name of a column type, without its length, as a binary COPY requires.

    Examples are `varchar` for VARCHAR(32) and `int8` for BIGINT. JSON becomes `text`.
    """
    name = declared.partition("(")[0].strip().lower()
    return {
        "double precision": "float8",
        "float": "float8",
        "bigint": "int8",
        "integer": "int4",
        "smallint": "int2",
        "json": "text",
    }.get(name, name)


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items, in order, in lists of at most `VALUES_PER_STATEMENT`."""
    left = iter(items)
    while chunk := list(itertools.islice(left, VALUES_PER_STATEMENT)):
        yield chunk


def aggregates(
    session: DatabaseSession, key: ColumnClause[str], value: ColumnElement[int], keys: Iterable[str]
) -> dict[str, int]:
    """Return an aggregate, such as a count, of the rows of each key: `{key: aggregate}`.

    Keys without rows are left out.

    Args:
        session: the session of the transaction.
        key: the column of the keys.
        value: the aggregate function.
        keys: the keys to return.
    """
    found: dict[str, int] = {}
    for some in chunks(keys):
        rows = session.execute(select(key, value).where(key.in_(some)).group_by(key))
        found |= {row[0]: row[1] for row in rows}
    return found
