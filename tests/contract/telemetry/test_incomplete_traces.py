"""Traces whose end never arrives: they are incomplete after a quiet time, and running again after a late span."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import event, text

from relab.bootstrap import Services
from relab.storage.errors import DatabaseUnavailableError
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter, RunHeader, RunStatus
from relab.telemetry.projection import remapping, run_remapper, stored_traces
from support.clocks import MovableClock
from support.otlp.logs import encode_logs, log
from support.otlp.traces import AGENT, START_NS, TOOL, Trace, encode
from support.telemetry.runs import minimal_run

START_US = START_NS // 1_000
QUIET_S = 900.0


def send(services: Services, *spans: Span) -> None:
    assert services.telemetry.ingest_otlp("traces", encode(spans), "protobuf").rejected == 0


def without_root(trace: Trace, *, failed: bool = False) -> list[Span]:
    """Return the spans of an agent without the root; its tool call has failed if `failed` is true."""
    tool = trace.span("tool", "root", TOOL, start_ms=3, end_ms=4)
    if failed:
        tool.status.code = 2  # type: ignore[assignment]
        tool.status.message = "the order database does not answer"
    return [*trace.good()[1:2], tool]


def end(services: Services) -> int:
    return services.telemetry.end_incomplete(QUIET_S)


def listed(services: Services, status: RunStatus) -> set[str]:
    return {run.run_id for run in services.telemetry.list_runs(RunFilter(status=status)).items}


def shown(run: RunHeader) -> tuple[str, str, str | None]:
    return run.status.value, run.outcome.value, run.outcome_rule


def test_trace_without_an_end_is_incomplete_after_the_quiet_time(here: Services, clock: MovableClock) -> None:
    trace = Trace("killed")
    send(here, *without_root(trace))
    clock.move(QUIET_S - 1)
    assert end(here) == 0
    assert shown(here.telemetry.get(trace.id)) == ("running", "unknown", "not_finished")

    clock.move(1)
    assert end(here) == 1

    run = here.telemetry.get(trace.id)
    assert shown(run) == ("incomplete", "unknown", "incomplete")
    assert run.ended_at is None
    assert listed(here, RunStatus.INCOMPLETE) == {trace.id}
    assert listed(here, RunStatus.RUNNING) == set()
    assert end(here) == 0


@pytest.mark.parametrize("ahead_s", [QUIET_S + 1, 86_400.0])
def test_trace_that_arrived_before_the_clock_was_set_back_is_incomplete(
    here: Services, clock: MovableClock, ahead_s: float
) -> None:
    trace = Trace("ahead")
    clock.move(ahead_s)
    send(here, *without_root(trace))
    assert here.telemetry.ingest_otlp("logs", encode_logs([log(trace)]), "protobuf").rejected == 0
    clock.move(-ahead_s)

    assert end(here) == 1
    assert listed(here, RunStatus.INCOMPLETE) == {trace.id}


def test_trace_of_a_clock_that_is_a_little_ahead_runs_until_it_is_quiet(here: Services, clock: MovableClock) -> None:
    clock.move(QUIET_S / 2)
    send(here, *without_root(Trace("skewed")))
    clock.move(-QUIET_S / 2)
    assert end(here) == 0

    clock.move(1.5 * QUIET_S)
    assert end(here) == 1


def test_unrecovered_error_decides_the_outcome_of_an_incomplete_trace(here: Services, clock: MovableClock) -> None:
    trace = Trace("killed after an error")
    send(here, *without_root(trace, failed=True))
    assert here.telemetry.overview(1).outcomes["unknown"] == 1

    clock.move(QUIET_S + 1)
    end(here)

    run = here.telemetry.get(trace.id)
    assert shown(run) == ("incomplete", "failed", "tool_failed")
    assert [quote.text for quote in run.outcome_evidence] == ["the order database does not answer"]
    overview = here.telemetry.overview(1)
    assert overview.outcomes["failed"] == 1
    assert overview.outcomes["unknown"] == 0
    assert overview.total_runs == 1
    assert overview.success_rate == 0


def test_late_span_sets_the_run_to_running(here: Services, clock: MovableClock) -> None:
    trace = Trace("slow")
    spans = trace.good()
    send(here, *spans[1:])
    clock.move(QUIET_S + 1)
    end(here)

    send(here, trace.span("second tool", "root", TOOL, start_ms=5, end_ms=6))
    assert shown(here.telemetry.get(trace.id)) == ("running", "unknown", "not_finished")
    clock.move(QUIET_S + 1)
    assert end(here) == 1
    send(here, spans[0])

    assert shown(here.telemetry.get(trace.id)) == ("success", "succeeded", "no_unrecovered_error")
    assert here.telemetry.overview(1).outcomes["succeeded"] == 1
    assert here.telemetry.overview(1).outcomes["unknown"] == 0


def test_repeated_span_leaves_the_run_incomplete(here: Services, clock: MovableClock) -> None:
    trace = Trace("repeated")
    send(here, *without_root(trace))
    clock.move(QUIET_S + 1)
    end(here)

    send(here, *without_root(trace))

    assert here.telemetry.get(trace.id).status == "incomplete"


def test_quiet_time_begins_with_the_newest_span(here: Services, clock: MovableClock) -> None:
    trace = Trace("steady")
    for number in range(3):
        send(here, trace.span(f"tool {number}", "root", TOOL, start_ms=number))
        clock.move(QUIET_S - 1)
        assert end(here) == 0
    clock.move(2)

    assert end(here) == 1


def test_log_record_restarts_the_quiet_time(here: Services, clock: MovableClock) -> None:
    trace = Trace("talking")
    send(here, *without_root(trace))
    clock.move(QUIET_S - 100)
    here.telemetry.ingest_otlp("logs", encode_logs([log(trace, "root", "still waiting")]), "protobuf")

    clock.move(200)
    assert end(here) == 0
    assert here.telemetry.get(trace.id).status == "running"
    clock.move(QUIET_S)
    assert end(here) == 1


def test_other_runs_are_not_changed(here: Services, clock: MovableClock) -> None:
    ended, failed = Trace("ended"), Trace("failed")
    send(here, *ended.good())
    send(here, failed.span("root", None, AGENT, status=2))
    here.telemetry.ingest(check_agent_run(minimal_run("posted", status="running")))

    clock.move(10 * QUIET_S)

    assert end(here) == 0
    assert here.telemetry.get(ended.id).status == "success"
    assert here.telemetry.get(failed.id).status == "failure"
    assert here.telemetry.get("posted").status == "running"


def test_incomplete_run_can_be_posted_again_from_its_export(here: Services, elsewhere: Services) -> None:
    trace = Trace("moved")
    send(here, *without_root(trace, failed=True))
    assert isinstance(here.clock, MovableClock)
    here.clock.move(QUIET_S + 1)
    end(here)

    run, _ = here.telemetry.load(trace.id)
    elsewhere.telemetry.ingest(run)

    assert shown(elsewhere.telemetry.get(trace.id)) == ("incomplete", "failed", "tool_failed")


def test_remapped_run_stays_incomplete(here: Services, clock: MovableClock) -> None:
    trace = Trace("old mapper")
    send(here, *without_root(trace))
    clock.move(QUIET_S + 1)
    end(here)
    with here.database.write() as unit:
        unit.session.execute(text("UPDATE agent_runs SET mapper_version = 1, content_hash = 'old'"))

    assert [done.counts.projected for done in here.telemetry.remap()] == [1]

    assert shown(here.telemetry.get(trace.id)) == ("incomplete", "unknown", "incomplete")


def test_one_call_ends_a_limited_number_of_traces_longest_quiet_first(
    here: Services, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_remapper, "END_BATCH", 2)
    monkeypatch.setattr(run_remapper, "END_BATCHES", 2)
    traces = [Trace(f"many {number}") for number in range(5)]
    for trace in traces:
        send(here, *without_root(trace))
        clock.move(1)
    clock.move(QUIET_S)

    assert end(here) == 4

    assert listed(here, RunStatus.RUNNING) == {traces[4].id}
    assert end(here) == 1


def test_trace_that_cannot_be_projected_does_not_delay_others(
    here: Services, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = Trace("broken"), Trace("sound")
    for trace in (broken, sound):
        send(here, *without_root(trace))
    clock.move(QUIET_S + 1)
    project = stored_traces.project

    def fail_for_one(trace_id: str, *given: object, **options: object) -> object:
        if trace_id == broken.id:
            raise ValueError("a defect of the projection")
        return project(trace_id, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stored_traces, "project", fail_for_one)

    assert end(here) == 1
    assert listed(here, RunStatus.INCOMPLETE) == {sound.id}
    assert end(here) == 0

    monkeypatch.undo()
    clock.move(QUIET_S + 1)
    assert end(here) == 1


def test_unavailable_database_leaves_the_trace_for_the_next_call(
    here: Services, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Trace("outage")
    send(here, *without_root(trace))
    clock.move(QUIET_S + 1)

    def fail(*_: object, **__: object) -> int:
        raise DatabaseUnavailableError("gone")

    monkeypatch.setattr(remapping, "end_traces", fail)
    with pytest.raises(DatabaseUnavailableError):
        end(here)
    monkeypatch.undo()

    assert end(here) == 1


def test_quiet_traces_are_found_by_an_index(here: Services, clock: MovableClock) -> None:
    send(here, *without_root(Trace("indexed")))
    clock.move(QUIET_S + 1)
    queries: list[tuple[str, Any]] = []
    with here.database.read() as session:
        engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: queries.append((sql, values)))
    end(here)
    asked = [found for found in queries if "ORDER BY agent_runs.updated_at" in found[0]]
    plans = []
    with here.database.write() as unit:
        connection = unit.session.connection()
        if not here.database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        explain = "EXPLAIN QUERY PLAN" if here.database.is_sqlite else "EXPLAIN"
        for query, values in asked:
            plan = connection.exec_driver_sql(f"{explain} {query}", values)
            plans.append(" ".join(str(row) for row in plan))

    assert plans
    for plan in plans:
        assert "ix_agent_runs_open_updated_at" in plan
        # The entries of the index are searched; a filter would read all of them.
        assert ("SEARCH" if here.database.is_sqlite else "Index Cond") in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan
