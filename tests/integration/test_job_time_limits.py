"""The time limit of a job that waits for PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from relab.core.clock import SystemClock
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import JobStatus, Lane, Subscription
from relab.jobs.queue import JobQueue
from relab.jobs.runner import JobRunner
from relab.storage import Database


@pytest.mark.parametrize("is_write", [False, True], ids=["read", "write"])
def test_job_whose_query_takes_too_long_counts_as_timed_out(
    migrated_postgres_url: str, is_write: bool, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database.open(migrated_postgres_url)

    def handler(_args: Mapping[str, Any]) -> None:
        if is_write:
            with database.write() as unit:
                unit.session.execute(text("SELECT pg_sleep(20)"))
        else:
            with database.read() as session:
                session.execute(text("SELECT pg_sleep(20)"))

    queue = JobQueue(database, SystemClock(), EmbeddedBackend())
    with database.write() as unit:
        job_id = queue.enqueue(unit, "query", {}, max_attempts=1)
    limits = dict.fromkeys(Lane, 0.3)
    runner = JobRunner(database, SystemClock(), [Subscription("query", handler)], lease_s=30, time_limits=limits)

    assert runner.run_next()
    job = queue.get(job_id)
    with database.read() as session:
        running = session.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
                " AND query = 'SELECT pg_sleep(20)'"
            )
        ).scalar()
    database.close()

    assert job.status is JobStatus.PARKED
    assert job.error is not None
    assert job.error.startswith("JobTimeoutError: ")
    assert running == 0
    assert [record.message for record in caplog.records if record.name.startswith("sqlalchemy")] == []
