"""Revision 0011 on a database with an incomplete run: the earlier version can read the downgraded data."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json
from sqlalchemy import text

from relab.core.clock import parse_time
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from relab.telemetry.service import TelemetryService
from support.clocks import MovableClock
from support.telemetry.runs import failed_run, minimal_run, time_text, tool_call

FAILED_CALL = tool_call("c", status="failure", error_message="timed out")


def telemetry(database: Database) -> TelemetryService:
    clock = MovableClock(parse_time(time_text(8_000)))
    return TelemetryService(database, clock, JobQueue(database, clock, EmbeddedBackend()))


def rows(database: Database, columns: str, table: str) -> list[tuple[Any, ...]]:
    with database.read() as session:
        return [tuple(row) for row in session.execute(text(f"SELECT {columns} FROM {table}"))]


def sums_by_status(database: Database) -> list[dict[str, list[int]]]:
    found = [data for (data,) in rows(database, "data", "run_rollups")]
    return [(from_json(data) if isinstance(data, str) else data)["runs"] for data in found]


def test_downgrade_sets_incomplete_runs_to_running(database: Database) -> None:
    service = telemetry(database)
    service.ingest(check_agent_run(minimal_run("quiet", status="incomplete")))
    service.ingest(check_agent_run(minimal_run("broken", status="incomplete", tool_calls=[FAILED_CALL])))
    service.ingest(check_agent_run(minimal_run("busy", status="running")))

    downgrade(database, "0010")

    found = rows(database, "run_id, status, outcome, outcome_rule", "agent_runs")
    assert sorted(found) == [
        ("broken", "running", "failed", "tool_failed"),
        ("busy", "running", "unknown", "not_finished"),
        ("quiet", "running", "unknown", "not_finished"),
    ]
    assert sums_by_status(database) == [{"running": [3, 0]}] * 2

    upgrade(database)
    assert {run.status.value for run in service.list_runs(RunFilter()).items} == {"running"}
    assert service.load("quiet")[0].status == "running"


def test_stored_runs_do_not_await_an_analysis(database: Database) -> None:
    service = telemetry(database)
    service.ingest(check_agent_run(failed_run("old")))
    assert service.awaiting.count() == 1
    downgrade(database, "0010")

    upgrade(database)

    assert service.awaiting.count() == 0
    service.ingest(check_agent_run(failed_run("new")))
    assert service.awaiting.count() == 1
