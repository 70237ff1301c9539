"""Transactions during and after an outage of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relab.core.clock import SystemClock
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import JobStatus
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.storage.migrate import upgrade
from rig.servers import PostgresServer


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that these tests may stop."""
    server = PostgresServer.create()
    yield server
    server.destroy()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_requests_fail_while_the_server_is_down_and_succeed_afterwards(own_postgres: PostgresServer, mode: str) -> None:
    database = Database.open(own_postgres.create_database(f"outage_{mode}"))
    upgrade(database)
    queue = JobQueue(database, SystemClock(), EmbeddedBackend())
    with database.write() as unit:
        before = queue.enqueue(unit, "before", {})
    own_postgres.stop(mode)
    try:
        with pytest.raises(DatabaseUnavailableError, match=r"DATABASE_URL"):
            database.ping()
        with pytest.raises(DatabaseUnavailableError), database.write() as unit:
            queue.enqueue(unit, "during", {})
    finally:
        own_postgres.start()
    # The connections in the pool are dead, and the pool must not hand them out.
    for number in range(20):
        with database.write() as unit:
            queue.enqueue(unit, f"after-{number}", {})
    names = [job.name for job in queue.list(status=JobStatus.PENDING)]
    assert queue.get(before).status is JobStatus.PENDING
    assert sorted(names) == sorted(["before", *(f"after-{number}" for number in range(20))])
    database.close()


def test_connection_lost_within_a_transaction_raises_unavailable_and_stores_nothing(
    own_postgres: PostgresServer,
) -> None:
    database = Database.open(own_postgres.create_database("lost"))
    upgrade(database)
    queue = JobQueue(database, SystemClock(), EmbeddedBackend())
    announced: list[str] = []

    def crash_halfway() -> None:
        with database.write() as unit:
            queue.enqueue(unit, "half", {})
            unit.on_commit(lambda: announced.append("half"))
            own_postgres.stop("immediate")
            own_postgres.start()

    with pytest.raises(DatabaseUnavailableError):
        crash_halfway()
    assert announced == []
    assert queue.list() == []
    database.close()
