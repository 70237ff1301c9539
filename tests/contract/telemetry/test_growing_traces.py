"""Traces that are projected after their acknowledgement: every reader sees all acknowledged spans even so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import select, text

from relab.bootstrap import Services, build
from relab.core.clock import SystemClock
from relab.telemetry import repository
from relab.telemetry.errors import SourceConflictError
from relab.telemetry.ingest import postponing
from relab.telemetry.ingest.postponing import QUIET_US
from relab.telemetry.models import AgentRun, RunFilter, RunStatus
from relab.telemetry.overview.rollup_tables import RunRollupRow
from relab.telemetry.overview.rollups import HOUR_US
from relab.telemetry.projection import remapping, stored_traces
from relab.telemetry.projection.projector import ProjectionBacklog
from relab.telemetry.records import RunRecord
from support.clocks import MovableClock
from support.otlp.logs import encode_logs, exception_log
from support.otlp.traces import AGENT, TOOL, Trace, encode
from support.telemetry.runs import minimal_run
from support.telemetry.unprojected import BATCH, FIRST, chats, grown, new, projected_steps, send, waiting


@pytest.fixture
def reader(services: Services) -> Iterator[Services]:
    """The services of another process of the same installation."""
    made = build(services.settings, clock=SystemClock())
    yield made
    made.close()


READERS: dict[str, Callable[[Services, str], object]] = {
    "get": lambda services, run_id: services.telemetry.get(run_id).counts.steps,
    "timeline": lambda services, run_id: services.telemetry.timeline(run_id).total,
    "timeline as JSON": lambda services, run_id: json.loads(services.telemetry.timeline_json(run_id))["total"],
    "load": lambda services, run_id: len(services.telemetry.load(run_id)[0].steps),
    "list": lambda services, _: services.telemetry.list_runs(RunFilter()).items[0].counts.steps,
    "spans": lambda services, run_id: len(services.telemetry.spans(run_id, limit=10_000).items),
}


@pytest.mark.parametrize("store", [grown, new])
@pytest.mark.parametrize("name", READERS)
def test_each_reader_of_another_process_sees_all_acknowledged_spans(
    services: Services, reader: Services, name: str, store: Callable[[Services], Trace]
) -> None:
    trace = store(services)

    assert READERS[name](reader, trace.id) == FIRST + BATCH


def test_run_without_a_projection_is_hidden_from_queries(services: Services) -> None:
    """A trace that arrives after a reader has projected the waiting traces is not shown without its projection."""
    trace = new(services)

    with services.database.read() as session:
        assert repository.list_runs(session, RunFilter(), cursor=None, limit=10) == ([], None)
        assert repository.get_run(session, trace.id) is None
        assert repository.get_content(session, trace.id) is None


def test_content_hash_is_that_of_all_acknowledged_spans(services: Services, reader: Services) -> None:
    trace = grown(services)

    content = reader.telemetry.get_content(trace.id)

    assert content.content_hash == reader.telemetry.load(trace.id)[1]


def test_overview_counts_the_errors_of_acknowledged_spans(services: Services) -> None:
    now_ms = (services.telemetry._clock.now_us() * 1_000 - Trace("x").span("x").start_time_unix_nano) / 1_000_000
    trace = Trace("failing")
    send(services, [_moved(span, now_ms) for span in chats(trace, 0, FIRST)])
    failed = [trace.span(f"tool-{n}", "root", TOOL, start_ms=n, status=2, message="no such order") for n in range(3)]
    send(services, [_moved(span, now_ms) for span in failed])
    assert waiting(services) == [trace.id]

    found = services.telemetry.overview(48)

    assert [(tool.tool, tool.count) for tool in found.top_failing_tools] == [("order_lookup", 3)]


def _moved(span: Span, offset_ms: float) -> Span:
    # Three minutes ago, because the window ends now.
    offset_ns = round((offset_ms - 180_000) * 1_000_000)
    span.start_time_unix_nano += offset_ns
    span.end_time_unix_nano += offset_ns
    return span


def test_export_has_all_acknowledged_spans(services: Services, reader: Services) -> None:
    grown(services)

    with reader.telemetry.export(RunFilter()) as export:
        [line] = export.lines()

    assert len(json.loads(line)["steps"]) == FIRST + BATCH


def test_worker_projects_a_trace_when_it_is_quiet(here: Services, clock: MovableClock) -> None:
    trace = new(here)
    clock.us += QUIET_US - 1
    assert here.telemetry.projector.project_due() == 0

    clock.us += 1

    assert here.telemetry.projector.has_due()
    assert here.telemetry.projector.project_due() == 1
    assert waiting(here) == []
    assert projected_steps(here, trace) == FIRST + BATCH


def test_each_batch_restarts_the_quiet_time(here: Services, clock: MovableClock) -> None:
    trace = new(here)
    clock.us += QUIET_US - 1
    send(here, chats(trace, FIRST + BATCH, 1))
    clock.us += QUIET_US - 1

    assert here.telemetry.projector.project_due() == 0


def test_projection_keeps_the_time_at_which_the_trace_was_received(here: Services, clock: MovableClock) -> None:
    new(here)
    clock.us += 10 * QUIET_US
    here.telemetry.projector.project()

    with here.database.read() as session:
        assert session.execute(text("SELECT updated_at FROM agent_runs")).scalar_one() < clock.us - 9 * QUIET_US


def test_projection_of_an_older_state_is_not_written(services: Services) -> None:
    trace = new(services)
    with services.database.read() as session:
        read = stored_traces.read_unprojected(session, [trace.id])
    send(services, chats(trace, FIRST + BATCH, 1))

    with services.database.write() as unit:
        left = remapping.write_projected(unit.session, read, stored_traces.project_traces(read), shard=0)

    assert left == [trace.id]
    assert waiting(services) == [trace.id]
    assert services.telemetry.get(trace.id).counts.steps == FIRST + BATCH + 1


def test_projection_that_another_process_wrote_first_is_counted_once(services: Services, reader: Services) -> None:
    trace = new(services)
    with services.database.read() as session:
        read = stored_traces.read_unprojected(session, [trace.id])
    reader.telemetry.projector.project()

    with services.database.write() as unit:
        assert remapping.write_projected(unit.session, read, stored_traces.project_traces(read), shard=0) == []

    assert rolled_up_runs(services) == 1


def rolled_up_runs(services: Services) -> int:
    """Return the number of runs in the hourly sums."""
    with services.database.read() as session:
        rows = session.execute(select(RunRollupRow.data).where(RunRollupRow.length_us == HOUR_US)).scalars()
        return sum(count for data in rows for count, _ in data["runs"].values())


def test_posted_run_with_the_id_of_an_unprojected_trace_is_a_conflict(services: Services) -> None:
    trace = new(services)

    with pytest.raises(SourceConflictError):
        services.telemetry.ingest(AgentRun.model_validate(minimal_run(run_id=trace.id)))

    assert services.telemetry.get(trace.id).counts.steps == FIRST + BATCH


def test_spans_of_a_posted_run_are_rejected_at_once(services: Services) -> None:
    trace = Trace("posted")
    services.telemetry.ingest(AgentRun.model_validate(minimal_run(run_id=trace.id)))

    assert services.telemetry.ingest_otlp("traces", encode(chats(trace, 0, 3)), "protobuf").rejected == 3
    assert waiting(services) == []


def test_backlog_is_counted(services: Services) -> None:
    grown(services, "one")
    new(services, "two")

    assert services.telemetry.projector.backlog() == ProjectionBacklog(2, 2 * (FIRST + BATCH))


def test_remap_projects_waiting_traces(services: Services) -> None:
    new(services)

    assert list(services.telemetry.remap()) == []
    assert waiting(services) == []


def test_incomplete_trace_is_running_again_when_a_span_arrives(here: Services, clock: MovableClock) -> None:
    trace = new(here)
    clock.us += 1_000_000_000
    assert here.telemetry.end_incomplete(900) == 1
    assert here.telemetry.get(trace.id).status is RunStatus.INCOMPLETE

    send(here, chats(trace, FIRST + BATCH, 1))

    assert here.telemetry.get(trace.id).status is RunStatus.RUNNING


def test_trace_in_batches_makes_the_same_run_as_one_request(services: Services) -> None:
    """A large trace in batches, out of order, makes the same run as one request with all spans."""
    spans = [Trace("whole").span("root", None, AGENT, end_ms=FIRST * 2), *chats(Trace("whole"), 0, FIRST * 2)]
    send(services, spans)
    expected = services.telemetry.get_content(Trace("whole").id).content_hash
    services.telemetry.delete(Trace("whole").id)

    send(services, spans[FIRST:])
    for first in range(FIRST - 100, 0, -100):
        send(services, spans[first : first + 100])
    send(services, spans[:100])

    assert services.telemetry.get_content(Trace("whole").id).content_hash == expected


def test_repeated_batch_of_an_unprojected_trace_counts_once(services: Services) -> None:
    trace = grown(services)

    send(services, chats(trace, FIRST, BATCH))

    assert services.telemetry.get(trace.id).counts.steps == FIRST + BATCH


def test_log_events_of_an_unprojected_trace_are_visible(services: Services) -> None:
    trace = Trace("logged")
    send(services, chats(trace, 0, FIRST))
    send(services, [trace.span("tool", "root", TOOL, start_ms=1, status=2)])
    assert waiting(services) == [trace.id]

    event = exception_log(trace, "tool", "TimeoutError", "the carrier does not answer")
    services.telemetry.ingest_otlp("logs", encode_logs([event]), "protobuf")

    [call] = services.telemetry.load(trace.id)[0].tool_calls
    assert call.error_message == "the carrier does not answer"


def test_full_backlog_projects_at_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postponing, "MAX_WAITING", FIRST + BATCH - 1)
    trace = Trace("full")
    send(services, chats(trace, 0, FIRST))
    assert waiting(services) == [trace.id]

    send(services, chats(trace, FIRST, BATCH))

    assert waiting(services) == []
    assert projected_steps(services, trace) == FIRST + BATCH


@pytest.mark.parametrize("store", [grown, new])
def test_unprojected_run_is_deleted_with_its_spans_and_sums(
    services: Services, store: Callable[[Services], Trace]
) -> None:
    trace = store(services)

    services.telemetry.delete(trace.id)

    with services.database.read() as session:
        for table in ("agent_runs", "timeline_items", "spans", "run_rollups"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0, table


def test_trace_that_cannot_be_projected_stays_readable_as_before(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = grown(services)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(stored_traces, "project", fail)

    assert services.telemetry.get(trace.id).counts.steps == FIRST
    assert waiting(services) == []
    monkeypatch.undo()
    send(services, chats(trace, FIRST + BATCH, BATCH))
    assert services.telemetry.get(trace.id).counts.steps == FIRST + 2 * BATCH


def test_new_trace_that_cannot_be_projected_is_a_run_of_an_unknown_agent(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spans of such a trace were acknowledged, so lists must show it; other runs are not affected."""
    trace, other = new(services, "broken"), new(services, "whole")
    project = stored_traces.project

    def fail(trace_id: str, *args: Any, **options: Any) -> RunRecord:
        if trace_id == trace.id:
            raise RuntimeError("a defect")
        return project(trace_id, *args, **options)

    monkeypatch.setattr(stored_traces, "project", fail)

    shown = {run.run_id: run.agent_name for run in services.telemetry.list_runs(RunFilter()).items}
    assert shown == {trace.id: "unknown", other.id: "tests"}
    assert services.telemetry.load(trace.id)[0].steps == []
    assert len(services.telemetry.spans(trace.id).items) == FIRST + BATCH
    assert rolled_up_runs(services) == 2
    monkeypatch.undo()
    send(services, chats(trace, FIRST + BATCH, BATCH))
    assert services.telemetry.get(trace.id).counts.steps == FIRST + 2 * BATCH
    assert rolled_up_runs(services) == 2
