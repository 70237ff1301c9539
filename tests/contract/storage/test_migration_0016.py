"""Revision 0016 on a database with flags: it adds tables for builds, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

TABLES = {"builds", "build_logs"}


def tables(database: Database) -> set[str]:
    with database.read() as session:
        return set(inspect(session.connection()).get_table_names())


def test_build_tables_are_added_and_flags_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0015")
    with database.write() as unit:
        unit.session.execute(text("INSERT INTO flags (key, version, created_at) VALUES ('f', 1, 0)"))
    for _ in range(2):
        upgrade(database, "0016")
        assert tables(database) >= TABLES
        downgrade(database, "0015")
        assert not tables(database) & TABLES
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM flags")).scalar_one() == 1
