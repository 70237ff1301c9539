"""Mask credentials in Parquet files and in DuckDB databases.

These files store values compressed, so a search for credentials in their bytes is not enough: DuckDB reads the values.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

from relab.experiments.proof.redacted_file import PARQUET, Mask, RedactedFile

_SCALARS: Final = frozenset(
    ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
     "FLOAT", "DOUBLE", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE",
     "INTERVAL", "UUID")
)  # fmt: skip
"""Types of columns that cannot hold text."""


def redact_tables(raw: bytes, mask: Mask) -> RedactedFile:
    """Mask credentials in a Parquet file, or in each table of a DuckDB database; return Parquet files.

    A Parquet file without credentials is returned unchanged. If DuckDB cannot read the file, the result has no files,
    and `left_out` is `unreadable_table`.

    Args:
        raw: the bytes of the file.
        mask: masks credentials in bytes and counts them by kind.
    """
    is_parquet = raw.startswith(PARQUET)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.write_bytes(raw)
        try:
            with duckdb.connect(
                config={"threads": 1, "autoinstall_known_extensions": False, "enable_external_access": True}
            ) as connection:
                tables = _Tables(connection, Path(folder), mask)
                if is_parquet:
                    content = tables.masked("read_parquet(" + _quoted(str(source), "'") + ")")
                    if not tables.counts and not mask(raw)[1]:
                        return RedactedFile({"": raw})
                    return RedactedFile({"": content}, tables.counts)
                connection.execute(f"ATTACH {_quoted(str(source), chr(39))} AS source (READ_ONLY)")
                files: dict[str, bytes] = {}
                for name, table in _tables(connection, mask):
                    suffix, number = f".{name}.parquet", 1
                    # The names of several tables may differ only in what is masked or replaced.
                    while suffix in files:
                        number += 1
                        suffix = f".{name}~{number}.parquet"
                    files[suffix] = tables.masked(table)
                return RedactedFile(files, tables.counts)
        except duckdb.Error:
            return RedactedFile(left_out="unreadable_table")


class _Tables:
    """Copies tables into Parquet files without credentials; `counts` has the number of masked values by kind."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, mask: Mask) -> None:
        self.counts: Counter[str] = Counter()
        self._connection = connection
        self._target = folder / "target"
        self._mask = mask
        connection.create_function("masked", self._text, ["VARCHAR"], "VARCHAR", side_effects=True)

    def masked(self, table: str) -> bytes:
        """Write a table as a Parquet file with masked values, and return the bytes.

        `table` is an SQL expression for FROM.
        """
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()  # noqa: S608 quoted
        columns = ", ".join(
            f"{self._column(name, kind)} AS {_quoted(self._text(name) or '', chr(34))}" for name, kind, *_ in described
        )
        target = _quoted(str(self._target), "'")
        self._connection.execute(f"COPY (SELECT {columns} FROM {table}) TO {target} (FORMAT parquet)")  # noqa: S608 quoted
        return self._target.read_bytes()

    def _column(self, name: str, kind: str) -> str:
        column = _quoted(name, '"')
        if kind in _SCALARS or kind.startswith("DECIMAL"):
            return column
        return f"masked({column}::VARCHAR)"

    def _text(self, text: str | None) -> str | None:
        if text is None:
            return None
        data, counts = self._mask(text.encode("utf-8", "surrogateescape"))
        self.counts += counts
        return data.decode("utf-8", "replace")


def _tables(connection: duckdb.DuckDBPyConnection, mask: Mask) -> Iterator[tuple[str, str]]:
    """Yield `(file name, SQL name)` for each table of the database that is attached as `source`.

    The file name is `<schema>.<table>`, in which `mask` replaces credentials. The SQL name is for a FROM clause.
    """
    rows = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'source' ORDER BY ALL"
    ).fetchall()
    for schema, table in rows:
        name = mask(f"{schema}.{table}".encode())[0].decode("utf-8", "replace").replace("/", "_")
        yield name, f"source.{_quoted(schema, chr(34))}.{_quoted(table, chr(34))}"


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark
