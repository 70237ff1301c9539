"""Revision 0026: it stores when runs are projected; the downgrade is rejected while a run was never projected."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from relab.core.clock import SystemClock
from relab.core.errors import ConflictError
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade
from relab.telemetry.models import RunFilter
from relab.telemetry.service import TelemetryService
from support.otlp.traces import Trace, encode


def marks(database: Database) -> list[tuple[int | None, int]]:
    with database.read() as session:
        found = session.execute(text("SELECT project_at, waiting_size FROM agent_runs"))
        return [(row[0], row[1]) for row in found]


def test_downgrade_rejects_runs_without_a_projection_and_keeps_waiting_ones(database: Database) -> None:
    clock = SystemClock()
    telemetry = TelemetryService(database, clock, JobQueue(database, clock, EmbeddedBackend()))
    trace = Trace("waiting")
    telemetry.ingest_otlp("traces", encode(trace.good()[:2]), "protobuf")

    with pytest.raises(ConflictError, match="1 runs are not projected yet") as rejected:
        downgrade(database, "0025")

    assert "`lab agent-runs remap`" in str(rejected.value)
    assert telemetry.get(trace.id).counts.steps == 1
    telemetry.ingest_otlp("traces", encode(trace.good()[2:]), "protobuf")
    downgrade(database, "0025")
    upgrade(database)
    # The stored size is that of the last projection, which read one step.
    [(project_at, size)] = marks(database)
    assert project_at is not None
    assert size == 1
    assert telemetry.projector.project_due() == 1
    [run] = telemetry.list_runs(RunFilter()).items
    assert (run.counts.steps, run.counts.tool_calls) == (1, 1)
    assert marks(database) == [(None, 0)]


def test_remap_projects_the_runs_that_a_downgrade_rejects(database: Database) -> None:
    clock = SystemClock()
    telemetry = TelemetryService(database, clock, JobQueue(database, clock, EmbeddedBackend()))
    trace = Trace("waiting")
    telemetry.ingest_otlp("traces", encode(trace.good()[:2]), "protobuf")

    assert list(telemetry.remap()) == []

    downgrade(database, "0025")
    with database.read() as session:
        steps = session.execute(text("SELECT step_count FROM agent_runs")).scalar_one()
    assert steps == 1
