"""The unit of work on SQLite and on PostgreSQL: commit, rollback, actions after the commit, snapshots and errors."""

from __future__ import annotations

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import QueuePool

from relab.core.ids import new_id
from relab.storage import Database, UnitOfWork
from relab.storage.errors import ConstraintError
from support.storage.transactions import roll_back

LEASE = text("INSERT INTO leases (name, owner, until) VALUES (:name, :owner, 0)")


def add(database: Database, name: str, owner: str = "me") -> None:
    """Store a lease with this name."""
    with database.write() as unit:
        unit.session.execute(LEASE, {"name": name, "owner": owner})


def names(database: Database) -> set[str]:
    """Return the names that are stored."""
    with database.read() as session:
        return set(session.execute(text("SELECT name FROM leases")).scalars())


def test_block_without_an_error_is_committed(database: Database) -> None:
    add(database, "a")
    assert names(database) == {"a"}


def test_block_that_raises_is_rolled_back_and_the_error_passed_on(database: Database) -> None:
    roll_back(database, lambda unit: unit.session.execute(LEASE, {"name": "a", "owner": "me"}))
    assert names(database) == set()
    add(database, "b")
    assert names(database) == {"b"}


def test_actions_run_in_order_once_the_commit_is_visible_to_others(database: Database) -> None:
    seen: list[tuple[str, set[str]]] = []
    with database.write() as unit:
        unit.on_commit(lambda: seen.append(("first", names(database))))
        unit.on_commit(lambda: seen.append(("second", names(database))))
        unit.session.execute(LEASE, {"name": "a", "owner": "me"})
        assert seen == []
    assert seen == [("first", {"a"}), ("second", {"a"})]


def test_an_action_may_write_because_the_transaction_is_over(database: Database) -> None:
    with database.write() as unit:
        unit.on_commit(lambda: add(database, "b"))
        unit.session.execute(LEASE, {"name": "a", "owner": "me"})
    assert names(database) == {"a", "b"}


def test_no_action_runs_without_a_commit(database: Database) -> None:
    add(database, "a")
    ran: list[str] = []

    def break_constraint(unit: UnitOfWork) -> None:
        unit.on_commit(lambda: ran.append("after a broken constraint"))
        unit.session.execute(LEASE, {"name": "a", "owner": "me"})

    roll_back(database, lambda unit: unit.on_commit(lambda: ran.append("after an error")))
    with pytest.raises(ConstraintError):
        roll_back(database, break_constraint)
    assert ran == []


def test_broken_constraint_is_a_conflict_without_values(database: Database) -> None:
    add(database, "a")
    # Assembled here, because the traceback also quotes the source line.
    secret = f"hunter{2}-secret"

    def break_constraint(unit: UnitOfWork) -> None:
        unit.session.execute(LEASE, {"name": "b", "owner": "me"})
        unit.session.execute(LEASE, {"name": "a", "owner": secret})

    with pytest.raises(ConstraintError) as refusal:
        roll_back(database, break_constraint)
    assert refusal.value.code == "constraint"
    assert isinstance(refusal.value.__cause__, IntegrityError)
    assert secret not in "".join(traceback.format_exception(refusal.value))
    assert names(database) == {"a"}


def test_transaction_whose_commit_fails_has_ended(database: Database) -> None:
    with database.write() as unit:
        unit.session.execute(text("CREATE TABLE teams (team INTEGER PRIMARY KEY)"))
        reference = "REFERENCES teams (team) DEFERRABLE INITIALLY DEFERRED"
        unit.session.execute(text(f"CREATE TABLE members (team INTEGER {reference})"))
    with pytest.raises(ConstraintError), database.write() as unit:
        # The database checks this reference only at the commit.
        unit.session.execute(text("INSERT INTO members (team) VALUES (1)"))

    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM members")).scalar_one() == 0
    add(database, "a")
    assert names(database) == {"a"}
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0


def test_invalid_statement_is_not_reported_as_unavailable_database(database: Database) -> None:
    with pytest.raises(DBAPIError), database.read() as session:
        session.execute(text("SELECT * FROM no_such_table"))


def test_reader_sees_one_snapshot_from_its_first_query(database: Database) -> None:
    add(database, "a")
    with database.read() as session:
        count = text("SELECT count(*) FROM leases")
        assert session.execute(count).scalar_one() == 1
        add(database, "b")
        assert session.execute(count).scalar_one() == 1
    assert names(database) == {"a", "b"}


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    add(database, "a")
    with database.write() as unit:
        unit.session.execute(LEASE, {"name": "b", "owner": "me"})
        assert names(database) == {"a"}


def test_writers_of_one_process_wait_for_each_other(database: Database) -> None:
    add(database, "counter", "0")
    start = threading.Barrier(8)

    def count_up() -> None:
        start.wait()
        for _ in range(10):
            with database.write() as unit:
                row = unit.session.execute(text("SELECT owner FROM leases WHERE name = 'counter'" + for_update))
                number = int(row.scalar_one()) + 1
                unit.session.execute(text("UPDATE leases SET owner = :number"), {"number": str(number)})

    for_update = "" if database.is_sqlite else " FOR UPDATE"
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(count_up) for _ in range(8)]:
            done.result()
    with database.read() as session:
        assert session.execute(text("SELECT owner FROM leases")).scalar_one() == "80"


def test_any_text_is_read_back_unchanged(database: Database) -> None:
    odd = "ü😀 \u2028 '; DROP TABLE leases; -- %s :name \\ \" \x7f"
    add(database, new_id(), odd)
    with database.read() as session:
        assert session.execute(text("SELECT owner FROM leases")).scalar_one() == odd


def test_connections_are_returned_to_the_pool(database: Database) -> None:
    for _ in range(50):
        names(database)
        add(database, new_id())
        roll_back(database, lambda unit: unit.session.connection())
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
