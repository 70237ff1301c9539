"""Revision 0021 on a database with builds: it adds test results and failure groups; the downgrade loses no build."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from relab.storage import Database
from relab.storage.errors import ConstraintError
from relab.storage.migrate import downgrade, upgrade

BUILD = "INSERT INTO builds (build_id, project, status, started_at, document) VALUES ('b', 'p', 'failed', 0, '{}')"
RESULT = "INSERT INTO build_tests (build_id, test_key, project, outcome, name) VALUES ('{}', 1, 'p', 'failed', 'n')"


def execute(database: Database, statement: str) -> None:
    with database.write() as unit:
        unit.session.execute(text(statement))


def test_results_belong_to_a_build_and_builds_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0020")
    execute(database, BUILD)
    for _ in range(2):
        upgrade(database, "0021")
        execute(database, RESULT.format("b"))
        execute(database, "UPDATE builds SET failure_group = 'g' WHERE failure_group IS NULL")
        with pytest.raises(ConstraintError):
            execute(database, RESULT.format("unknown"))
        downgrade(database, "0020")
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM builds")).scalar_one() == 1
