"""Migrations: they make the same schema on SQLite and PostgreSQL, and reject foreign and newer databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text

import relab
from relab.core.errors import InvalidInputError
from relab.storage import Database
from relab.storage.base import Base
from relab.storage.errors import (
    DatabaseUnavailableError,
    ForeignDatabaseError,
    NewerSchemaError,
    OutdatedSchemaError,
    SchemaError,
)
from relab.storage.migrate import downgrade, upgrade
from relab.storage.preparing import prepare
from relab.storage.schema import (
    VERSION_TABLE,
    SchemaState,
    head,
    require_current,
    revisions,
    schema_state,
)

Step = Callable[[Database], None]


def downgrade_to_base(database: Database) -> None:
    """Drop all tables."""
    downgrade(database, "base")


pytestmark = pytest.mark.usefixtures("every_table_is_known")
STEPS = [upgrade, downgrade_to_base, prepare, require_current]


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """An empty database on each back end."""
    database = Database.open(database_url)
    yield database
    database.close()


def execute(database: Database, *statements: str) -> None:
    """Run statements in one transaction."""
    with database.write() as unit:
        for statement in statements:
            unit.session.execute(text(statement))


def tables(database: Database) -> set[str]:
    """Return the names of all tables."""
    with database.read() as session:
        return set(inspect(session.connection()).get_table_names())


def differences(connection: Connection) -> list[object]:
    """Return the changes that Alembic's autogenerate would still make."""
    options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def test_an_empty_database_gets_exactly_the_tables_of_the_code(empty: Database) -> None:
    assert schema_state(empty) == (SchemaState.EMPTY, None)
    upgrade(empty)
    assert schema_state(empty) == (SchemaState.CURRENT, head())
    assert tables(empty) == {*Base.metadata.tables, VERSION_TABLE}
    with empty.read() as session:
        assert differences(session.connection()) == []


def test_migrating_down_empties_the_database_and_up_again_restores_it(empty: Database) -> None:
    upgrade(empty)
    downgrade(empty, "base")
    assert tables(empty) == {VERSION_TABLE}
    assert schema_state(empty) == (SchemaState.EMPTY, None)
    upgrade(empty)
    with empty.read() as session:
        assert differences(session.connection()) == []


def test_migrating_twice_changes_nothing_and_keeps_the_data(database: Database) -> None:
    execute(database, "INSERT INTO leases (name, owner, until) VALUES ('a', 'me', 1)")
    upgrade(database)
    prepare(database)
    with database.read() as session:
        assert session.execute(text("SELECT name FROM leases")).scalars().all() == ["a"]


@pytest.mark.parametrize("step", STEPS)
def test_database_of_a_newer_version_is_rejected_and_not_changed(database: Database, step: Step) -> None:
    execute(database, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    before = tables(database)
    with pytest.raises(NewerSchemaError, match="9999"):
        step(database)
    assert tables(database) == before
    assert schema_state(database) == (SchemaState.NEWER, "9999")


@pytest.mark.parametrize("step", STEPS)
def test_foreign_database_is_rejected_and_not_changed(empty: Database, step: Step) -> None:
    execute(empty, "CREATE TABLE customers (name TEXT)")
    with pytest.raises(ForeignDatabaseError):
        step(empty)
    assert tables(empty) == {"customers"}


def test_sqlite_is_migrated_at_start_and_postgresql_only_on_command(empty: Database) -> None:
    if empty.is_sqlite:
        prepare(empty)
    else:
        with pytest.raises(OutdatedSchemaError) as caught:
            prepare(empty)
        assert "none" in caught.value.message
        assert "`lab db upgrade`" in str(caught.value)
        assert tables(empty) == set()
        upgrade(empty)
        prepare(empty)
    assert schema_state(empty)[0] is SchemaState.CURRENT


def test_schema_error_has_a_remedy_and_no_password(postgres_url: str) -> None:
    database = Database.open(postgres_url.replace("postgres@", "postgres:hunter2-secret@"))
    with pytest.raises(SchemaError) as refusal:
        prepare(database)
    assert refusal.value.remedy
    assert "***" in str(refusal.value)
    assert "hunter2-secret" not in str(refusal.value)
    database.close()


def test_a_revision_that_does_not_exist_is_refused_by_name(database: Database) -> None:
    for step in (upgrade, downgrade):
        with pytest.raises(InvalidInputError, match=rf"'no-such'.*{head()}"):
            step(database, "no-such")
    assert schema_state(database)[0] is SchemaState.CURRENT


def test_failed_migration_is_rolled_back(empty: Database) -> None:
    def fail_late(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "CREATE TABLE timeline_items" in statement:
            raise RuntimeError("the disk broke")

    event.listen(empty.engine, "before_cursor_execute", fail_late)
    with pytest.raises(RuntimeError) as caught:
        upgrade(empty)
    assert caught.value.args == ("the disk broke",)
    event.remove(empty.engine, "before_cursor_execute", fail_late)
    assert tables(empty) == set()
    upgrade(empty)
    assert schema_state(empty)[0] is SchemaState.CURRENT


def test_unreachable_database_is_unavailable_to_migrations(tmp_path: Path) -> None:
    folder = tmp_path / "x.db"
    folder.mkdir()
    for database in (Database.open("postgresql://127.0.0.1:1/x"), Database.open(f"sqlite:///{folder}")):
        for step in (upgrade, prepare):
            with pytest.raises(DatabaseUnavailableError):
                step(database)


def test_foreign_keys_are_enforced_after_a_migration(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/x.db", pool_size=1)
    upgrade(database)
    for _ in range(2):
        with database.read() as session:
            assert session.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        upgrade(database)
    database.close()


def test_revisions_of_the_file_names_are_those_of_alembic() -> None:
    scripts = ScriptDirectory(Path(relab.__file__).parent / "storage" / "migrations")

    assert list(revisions()) == [script.revision for script in scripts.walk_revisions()]
