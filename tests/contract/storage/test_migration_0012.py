"""Revision 0012 on a database with runs: it enqueues a job that counts the tokens of stored runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relab.core.clock import parse_time
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade
from relab.telemetry.handlers import TelemetryHandlers
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.service import REMAP_JOB, TelemetryService
from support.clocks import MovableClock
from support.storage.migrated import migrate
from support.telemetry.runs import minimal_run, time_text

BODIES = [
    minimal_run("priced", model="gpt-4o-mini", cost={"tokens_prompt": 1_000_000, "tokens_completion": 1_000_000}),
    minimal_run("paid", model="gpt-4o-mini", cost={"tokens_prompt": 10, "total_cost_usd": 0.5}),
    minimal_run("silent"),
]


def fill(database: Database) -> None:
    """Store runs with the current schema, and migrate down."""
    migrate(database)
    for body in BODIES:
        telemetry(database).ingest(check_agent_run(body))
    downgrade(database, "0011")


@pytest.fixture
def used(copy_of: Callable[[Callable[[Database], None]], Database]) -> Database:
    """A database at revision 0011 that holds runs."""
    return copy_of(fill)


def queue(database: Database) -> JobQueue:
    return JobQueue(database, MovableClock(parse_time(time_text(8_000))), EmbeddedBackend())


def telemetry(database: Database) -> TelemetryService:
    return TelemetryService(database, MovableClock(parse_time(time_text(8_000))), queue(database))


def test_tokens_of_stored_runs_are_counted_by_the_job(used: Database) -> None:
    upgrade(used)
    before = telemetry(used).overview(48)
    assert before.total_cost_usd == 0.5
    assert before.estimated_cost_usd is None
    assert before.runs_without_estimate == 2
    [job] = queue(used).list()
    assert (job.name, job.status) == (REMAP_JOB, "pending")

    TelemetryHandlers(telemetry(used)).remap(job.args)

    after = telemetry(used).overview(48)
    assert after.total_cost_usd == 0.5
    assert after.estimated_cost_usd == 0.75
    assert after.runs_without_estimate == 1
    assert after.tokens.prompt == 1_000_010
    assert telemetry(used).count_outdated() == 0


def test_tokens_of_deleted_runs_are_subtracted(used: Database) -> None:
    upgrade(used)
    list(telemetry(used).remap())
    for body in BODIES:
        telemetry(used).delete(body["run_id"])

    overview = telemetry(used).overview(48)
    assert overview.tokens.prompt is None
    assert overview.estimated_cost_usd is None
