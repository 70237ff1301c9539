"""Several processes on one database: concurrent updates, migrations and first starts."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from sqlalchemy import text

from relab.storage import Database
from relab.storage.schema import SchemaState, schema_state
from rig.children import read_line, send_line
from support.lab.forked import forked

INCREMENTS = 200


def race(*arguments: str, processes: int) -> None:
    """Start this many child processes at the same time, and check that each succeeds."""
    with ExitStack() as stack:
        children = [stack.enter_context(forked("support.storage.child", *arguments)) for _ in range(processes)]
        assert [read_line(process) for process in children] == ["ready"] * processes
        for process in children:
            send_line(process)
        assert [read_line(process) for process in children] == ["done"] * processes
        assert [process.wait() for process in children] == [0] * processes


@pytest.mark.full
def test_updates_of_three_processes_on_one_sqlite_file_lose_nothing(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/counter.db"
    database = Database.open(url)
    with database.write() as unit:
        unit.session.execute(text("CREATE TABLE counter (number INTEGER NOT NULL)"))
        unit.session.execute(text("INSERT INTO counter VALUES (0)"))
    race("increment", url, str(INCREMENTS), processes=3)
    with database.read() as session:
        assert session.execute(text("SELECT number FROM counter")).scalar_one() == 3 * INCREMENTS
    database.close()


def test_two_processes_that_migrate_at_once_both_succeed(database_url: str) -> None:
    race("upgrade", database_url, processes=2)
    database = Database.open(database_url)
    assert schema_state(database)[0] is SchemaState.CURRENT
    database.close()


@pytest.mark.full
def test_processes_that_open_a_new_sqlite_file_at_once_all_start(tmp_path: object) -> None:
    database_url = f"sqlite:///{tmp_path}/new.db"
    race("prepare", database_url, processes=3)
    database = Database.open(database_url)
    assert schema_state(database)[0] is SchemaState.CURRENT
    database.close()
