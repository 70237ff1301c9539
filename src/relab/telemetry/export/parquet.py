"""Write rows to a Parquet file with DuckDB, in memory that does not grow with the number of rows.

DuckDB writes a Parquet file from the result of one query, so the rows are first inserted into a
DuckDB table on disk. The table is compressed and about as large as the Parquet file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from relab.core.errors import ConfigurationError
from relab.telemetry.export.export_rows import TIME

ROW_GROUP_ROWS: Final = 20_000
"""Rows per row group. DuckDB's default would keep 122,880 rows in memory, and a span may be several kilobytes."""

MEMORY_LIMIT: Final = "256MB"


class ParquetUnavailableError(ConfigurationError):
    """DuckDB is not installed: install it, or export JSON lines."""

    code = "parquet_unavailable"


def write_parquet(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a Parquet file, compressed with zstd.

    Args:
        path: the file to write. Intermediate files are written to the same folder, so use the folder for nothing else.
        columns: `{name: DuckDB type}`.
        rows: mappings with a value for every column; a time is int microseconds, UTC.

    Raises:
        ParquetUnavailableError: DuckDB is not installed.
        OSError: the file cannot be written, for example because the disk is full.
    """
    try:
        import duckdb  # noqa: PLC0415 takes long to import
    except ImportError as error:
        raise ParquetUnavailableError(
            "The package duckdb, which writes Parquet, is not installed.",
            remedy="Install it with: pip install duckdb, or use --format jsonl.",
        ) from error

    declared = ", ".join(f'"{name}" {"BIGINT" if kind == TIME else kind}' for name, kind in columns.items())
    selected = ", ".join(
        f'make_timestamp("{name}")::{TIME} AS "{name}"' if kind == TIME else f'"{name}"'
        for name, kind in columns.items()
    )
    # DuckDB must not download extensions: the package contains all that is needed.
    config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    try:
        with duckdb.connect(str(path.parent / "rows.duckdb"), config=config) as connection:
            connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            connection.execute("SET threads = 2")
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET temp_directory = {_quoted(path.parent / 'spilled')}")
            connection.execute(f"CREATE TABLE exported ({declared})")
            with connection.appender("exported") as appender:
                for row in rows:
                    appender.append_row(*[row[name] for name in columns])
            connection.execute(
                f"COPY (SELECT {selected} FROM exported) TO {_quoted(path)} "  # noqa: S608
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
            )
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise OSError(str(error)) from error


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
