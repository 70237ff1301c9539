"""The query plan of a claim: on each database it reads the index in order up to the first job."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from relab.jobs import repository
from relab.jobs.models import JobStatus, Lane
from relab.jobs.tables import JobRow
from relab.storage import Database
from relab.storage.base import table_of

NOW = 2_000_000_000_000_000
WAITING = 5_000
FINISHED = 5_000


@pytest.fixture(autouse=True)
def jobs(database: Database) -> None:
    """Store many pending jobs in one lane and many finished jobs, with statistics for the query planner."""
    common = {
        "name": "test.job",
        "args": {},
        "lane": Lane.BACKGROUND,
        "attempts": 0,
        "max_attempts": 3,
        "created_at": NOW,
    }
    rows = [
        {
            **common,
            "job_id": f"job-{number:05}",
            "status": JobStatus.PENDING if number < WAITING else JobStatus.DONE,
            "run_after": NOW - 1_000_000 + number,
        }
        for number in range(WAITING + FINISHED)
    ]
    with database.write() as unit:
        unit.session.execute(insert(table_of(JobRow)), rows)
        unit.session.execute(text("ANALYZE jobs"))


def plans_of_queries(database: Database, connection: Connection, statements: list[tuple[str, Any]]) -> list[str]:
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    return [
        " ".join(str(column) for row in connection.exec_driver_sql(f"{explain} {sql}", values) for column in row)
        for sql, values in statements
    ]


def test_claim_walks_the_index(database: Database) -> None:
    queries: list[tuple[str, Any]] = []

    def record(*arguments: Any) -> None:
        statement, values = arguments[2:4]
        if statement.startswith("SELECT"):
            queries.append((statement, values))

    with database.write() as unit:
        event.listen(database.engine, "before_cursor_execute", record)
        job = repository.claim(unit.session, job_id=None, owner="worker", now=NOW, lease_until=NOW + 1)
        event.remove(database.engine, "before_cursor_execute", record)
        plans = plans_of_queries(database, unit.session.connection(), queries)

    assert job is not None
    assert job.job_id == "job-00000"
    assert len(plans) == 4  # two queries for each of the first two lanes
    for plan in plans:
        assert "ix_jobs_status_lane_run_after_job_id" in plan
        assert "SCAN jobs" not in plan
        assert "Seq Scan" not in plan
        assert "TEMP B-TREE" not in plan
        assert "Sort" not in plan
