"""Revision 0002 on a used database: upgrade, downgrade and a second upgrade lose no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import JSON, TextClause, bindparam, inspect, text

from relab.core.clock import parse_time
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.base import Base
from relab.storage.migrate import downgrade, upgrade
from relab.storage.schema import VERSION_TABLE
from relab.telemetry.ingest.intake import TelemetryIntake
from relab.telemetry.ingest.posted import PostedSpans
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import AgentRun, RunFilter, TimelineItem
from relab.telemetry.otlp.decoding import decode_protobuf
from relab.telemetry.otlp_models import OtlpReceipt
from relab.telemetry.overview_models import MetricsOverview
from relab.telemetry.records import record_of
from relab.telemetry.service import TelemetryService
from support.clocks import MovableClock
from support.storage.migrated import migrate
from support.telemetry.runs import RunBody, failed_run, guardrail_event, minimal_run, step, time_text, tool_call
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, TRACE, body_of, span

ADDED = {"conversation_id", "mapper_version", "outcome", "outcome_rule", "outcome_evidence", "outcome_version"}
ADDED |= {"category_confidence", "awaits_analysis", "agent_outcomes", "token_usage", "project_at", "waiting_size"}

# Equal times in an order that no id gives, costs and latencies of every size, runs hours apart, and an empty run.
BODIES: list[RunBody] = [
    failed_run("run-a"),
    failed_run("run-b", started_at=time_text(0.5), cost={"total_cost_usd": 1e-9}),
    minimal_run(
        "run-ties",
        started_at=time_text(),
        steps=[step(f"s{n}", 3, latency_ms=n * 10.0) for n in (3, 1, 2)],
        tool_calls=[tool_call(f"c{n}", step_id="s1", status="failure", tool_name="ü '\\N") for n in (2, 1)],
        guardrail_events=[guardrail_event("g", 3, message="\\u0000 \\ \t")],
    ),
    minimal_run("run-later", started_at=time_text(7_300), steps=[step("s", 7_300, ended_at=time_text(7_301))]),
    minimal_run("run-running", status="running", steps=[step("s", 0), step("t", 1, latency_ms=0)]),
    minimal_run("run-empty", status="cancelled", cost={"total_cost_usd": 12.5}),
    minimal_run("run-ü😀", environment="prod", task_id="t", prompt_hash="p", **{"x-unknown": {"kept": [1]}}),
    minimal_run("run-long", steps=[step(f"s{n}", n / 100, latency_ms=float(n)) for n in range(250)]),
]


pytestmark = pytest.mark.usefixtures("every_table_is_known")


def fill(database: Database) -> None:
    """Migrate to revision 0001 and store runs."""
    upgrade(database, "0001")
    store(database, BODIES)


@pytest.fixture
def used(copy_of: Callable[[Callable[[Database], None]], Database]) -> Database:
    """A database at revision 0001 that holds runs."""
    return copy_of(fill)


def store(database: Database, bodies: list[RunBody]) -> None:
    """Write runs as revision 0001 did."""
    records = [record_of(check_agent_run(body)) for body in bodies]
    times = {"received_at": 7, "updated_at": 9}
    runs = [
        {name: value for name, value in record.columns(0).items() if name not in ADDED} | times for record in records
    ]
    items = [{**item._asdict(), "run_id": record.run_id} for record in records for item in record.items]
    with database.write() as unit:
        unit.session.execute(insertion("agent_runs", runs[0]), runs)
        if items:
            unit.session.execute(insertion("timeline_items", items[0]), items)


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Database]:
    """A database that was created at the newest revision and holds the same runs."""
    database = Database.open(f"sqlite:///{tmp_path / 'new.db'}")
    migrate(database)
    for body in BODIES:
        telemetry(database).ingest(check_agent_run(body))
    yield database
    database.close()


def telemetry(database: Database, *, now: float = 8_000) -> TelemetryService:
    """Return the service, with a clock that is `now` seconds after the runs' start."""
    clock = MovableClock(parse_time(time_text(now)))
    return TelemetryService(database, clock, JobQueue(database, clock, EmbeddedBackend()))


def insertion(table: str, values: dict[str, Any]) -> TextClause:
    """Return the statement that inserts a row; values of JSON columns must be text."""
    return text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})")


def upgrade_and_remap(database: Database) -> None:
    """Migrate to the newest revision, and do the job that the migrations leave."""
    upgrade(database)
    assert all(done.counts.runs for done in telemetry(database).remap())


def timeline(service: TelemetryService, run_id: str) -> list[TimelineItem]:
    """Return a run's timeline, page by page."""
    items: list[TimelineItem] = []
    cursor = None
    while True:
        page = service.timeline(run_id, cursor=cursor, limit=100)
        items.extend(page.items)
        if page.next_cursor is None:
            assert len(items) == page.total
            return items
        cursor = page.next_cursor


def everything(database: Database) -> dict[str, tuple[AgentRun, str, list[TimelineItem], dict[str, Any]]]:
    """Return all data that readers see of every run, by run id."""
    service = telemetry(database)
    return {
        header.run_id: (
            *service.load(header.run_id),
            timeline(service, header.run_id),
            header.model_dump(exclude={"received_at", "updated_at"}),
        )
        for header in service.list_runs(RunFilter(), limit=100).items
    }


def sums(database: Database) -> list[MetricsOverview]:
    """Return the overviews of windows that hold none, some and all of the runs."""
    return [telemetry(database, now=now).overview(hours) for now in (7_320, 10**6) for hours in (0.001, 1, 2.5, 10**5)]


def differences(database: Database) -> list[object]:
    """Return the changes that Alembic's autogenerate would still make."""
    options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    with database.read() as session:
        return list(compare_metadata(MigrationContext.configure(session.connection(), opts=options), Base.metadata))


def shape(database: Database) -> dict[str, Any]:
    """Return tables, columns, keys and indexes of a database."""
    with database.read() as session:
        found = inspect(session.connection())
        return {
            table: (
                sorted(
                    (column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)
                ),
                found.get_pk_constraint(table),
                found.get_foreign_keys(table),
                sorted((str(index["name"]), index["column_names"]) for index in found.get_indexes(table)),
            )
            for table in found.get_table_names()
        }


def test_an_upgraded_database_shows_the_same_as_a_new_one(used: Database, new: Database) -> None:
    upgrade_and_remap(used)
    assert set(everything(used)) == {body["run_id"] for body in BODIES}
    assert everything(used) == everything(new)
    assert sums(used) == sums(new)
    assert {overview.total_runs for overview in sums(used)} == {0, 1, len(BODIES)}
    assert differences(used) == []
    with used.read() as session:
        assert session.execute(text("SELECT DISTINCT received_at, updated_at FROM agent_runs")).all() == [(7, 9)]


def test_deleted_runs_are_subtracted_from_migrated_sums(used: Database) -> None:
    upgrade(used)
    service = telemetry(used)
    service.ingest(check_agent_run(minimal_run("run-long", steps=[step("only", latency_ms=5)])))
    for body in BODIES:
        service.delete(body["run_id"])
    left = telemetry(used).overview(10**5)
    assert left.total_runs == 0
    assert left.top_failing_tools == []
    assert left.p95_step_latency_ms is None
    assert left.total_cost_usd is None


def test_down_and_up_again_keeps_every_run_though_traces_lose_their_spans(used: Database) -> None:
    upgrade_and_remap(used)
    guard = {"openinference.span.kind": "GUARDRAIL", "guardrail.passed": False}
    filtered = CHAT | {"gen_ai.response.finish_reasons": ["content_filter"]}
    spans = [
        span("root", None, AGENT), span("chat", "root", filtered), span("tool", "chat", TOOL), span("g", "root", guard)
    ]  # fmt: skip
    intake = TelemetryIntake(used, MovableClock(), shard=0)
    [receipt] = intake.write([PostedSpans(decode_protobuf(body_of(spans)))])
    assert isinstance(receipt, OtlpReceipt)
    before = everything(used)
    overviews = sums(used)
    assert TRACE.hex() in before

    downgrade(used, "0001")
    upgrade_and_remap(used)

    assert everything(used) == before
    assert sums(used) == overviews
    assert differences(used) == []
    assert telemetry(used).spans(TRACE.hex()).items == []


def test_stored_conversation_ids_group_runs_after_the_upgrade(used: Database) -> None:
    store(used, [minimal_run("run-talk", conversation_id="c-1")])
    for is_last in (False, True):
        upgrade(used)
        page = telemetry(used).list_runs(RunFilter(conversation_id="c-1"))
        assert [run.run_id for run in page.items] == ["run-talk"]
        if not is_last:
            downgrade(used, "0001")


def test_formerly_ignored_field_does_not_lose_a_run(used: Database) -> None:
    values = {"run-a": 5, "run-b": "", "run-later": ["c-1"], "run-empty": None}
    with used.write() as unit:
        for run_id, value in values.items():
            data = unit.session.execute(
                text("SELECT CAST(data AS TEXT) FROM agent_runs WHERE run_id = :run_id"), {"run_id": run_id}
            ).scalar_one()
            unit.session.execute(
                text("UPDATE agent_runs SET data = :data WHERE run_id = :run_id").bindparams(
                    bindparam("data", {**json.loads(data), "conversation_id": value}, JSON), run_id=run_id
                )
            )
    upgrade(used)
    for run_id in values:
        assert telemetry(used).load(run_id)[0].run_id == run_id
        assert telemetry(used).get(run_id).run_id == run_id


def test_downgrade_restores_the_first_schema(used: Database, database_at: Callable[[str], Database]) -> None:
    first = database_at("0001")
    upgrade(used)
    downgrade(used, "0001")
    assert shape(used) == shape(first)
    with used.write() as unit:
        unit.session.execute(text("DELETE FROM agent_runs WHERE run_id = 'run-long'"))
        left = unit.session.execute(text("SELECT count(*) FROM timeline_items WHERE run_id = 'run-long'"))
        assert left.scalar_one() == 0
