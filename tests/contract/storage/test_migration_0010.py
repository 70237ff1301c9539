"""Revision 0010 on a database with runs: it adds tables for log records, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

TABLES = {"log_records", "log_origins"}


def tables(database: Database) -> set[str]:
    with database.read() as session:
        return set(inspect(session.connection()).get_table_names())


def test_log_tables_are_added_and_spans_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0009")
    with database.write() as unit:
        unit.session.execute(text("INSERT INTO span_origins (trace_id, origin, data) VALUES ('t', 1, '{}')"))
    for _ in range(2):
        upgrade(database, "0010")
        assert tables(database) >= TABLES
        downgrade(database, "0009")
        assert not tables(database) & TABLES
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM span_origins")).scalar_one() == 1
