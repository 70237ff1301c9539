"""Revision 0013 on a database with runs: it enqueues a job that decides the outcomes of agents."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import update

from relab.core.clock import parse_time
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.outcome_models import OUTCOME_VERSION
from relab.telemetry.service import REMAP_JOB, TelemetryService
from relab.telemetry.tables import AgentRunRow
from support.clocks import MovableClock
from support.storage.migrated import migrate
from support.telemetry.runs import minimal_run, step, time_text, tool_call

CALLS = [
    tool_call("c1", status="failure", error_message="timed out", step_id="s1"),
    tool_call("c2", step_id="s2"),
]
TWO = minimal_run("two", steps=[step("s1", 0, agent_name="north"), step("s2", 1, agent_name="south")], tool_calls=CALLS)
ODD = {
    "run_id": "odd",
    "agent_name": "a",
    "status": "success",
    "started_at": "2024-01-15T10:30:00Z",
    "agents": ["x"],
}


def telemetry(database: Database) -> TelemetryService:
    return TelemetryService(database, MovableClock(parse_time(time_text(8_000))), queue(database))


def queue(database: Database) -> JobQueue:
    return JobQueue(database, MovableClock(parse_time(time_text(8_000))), EmbeddedBackend())


def fill(database: Database) -> None:
    """Store runs with the current schema, and migrate down."""
    migrate(database)
    for body in (TWO, minimal_run("odd", agents_=3)):
        telemetry(database).ingest(check_agent_run(body))
    downgrade(database, "0011")
    with database.write() as unit:
        unit.session.execute(update(AgentRunRow).values(outcome_version=OUTCOME_VERSION - 1))
        unit.session.execute(update(AgentRunRow).where(AgentRunRow.run_id == "odd").values(data=ODD))


@pytest.fixture
def used(copy_of: Callable[[Callable[[Database], None]], Database]) -> Database:
    """A database at revision 0011 with a run of two agents, and one whose field `agents` is not a list of agents."""
    return copy_of(fill)


def test_job_decides_the_outcomes_of_the_agents_of_stored_runs(used: Database) -> None:
    upgrade(used)

    assert telemetry(used).get("two").agents == ()
    assert [(job.name, job.status) for job in queue(used).list()] == [(REMAP_JOB, "pending")]

    list(telemetry(used).remap())

    run = telemetry(used).get("two")
    outcomes = {agent.name: agent.outcome and agent.outcome.value for agent in run.agents}
    assert outcomes["north"] == "completed_with_errors"
    assert outcomes["south"] == "succeeded"
    assert telemetry(used).count_outdated() == 0


def test_field_that_is_not_a_list_of_agents_is_kept_under_another_name(used: Database) -> None:
    upgrade(used)

    run = telemetry(used).get("odd")
    assert run.agents == ()
    assert (run.model_extra or {})["agents_as_sent"] == ["x"]
