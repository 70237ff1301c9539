"""Revision 0008 on a database with jobs: requested analyses become interactive, all others background work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from relab.core.clock import SystemClock
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade


@pytest.mark.parametrize(
    ("name", "lane"), [("rca.analyze", Lane.INTERACTIVE), ("telemetry.run_deleted", Lane.BACKGROUND)]
)
def test_waiting_job_gets_its_lane_and_survives_the_downgrade(
    database_at: Callable[[str], Database], name: str, lane: Lane
) -> None:
    database = database_at("0007")
    with database.write() as unit:
        unit.session.execute(
            text(
                "INSERT INTO jobs (job_id, name, args, status, attempts, max_attempts, run_after, created_at) "
                "VALUES ('j', :name, '{}', 'pending', 0, 3, 1, 1)"
            ),
            {"name": name},
        )
    queue = JobQueue(database, SystemClock(), EmbeddedBackend())
    for _ in range(2):
        upgrade(database, "0008")
        assert queue.get("j").lane is lane
        assert queue.counts().pending == 1
        downgrade(database, "0007")
