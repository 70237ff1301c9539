"""Large traces that arrive in many batches: what is acknowledged is visible to each reader, though not each batch is projected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import text

from relab.bootstrap import Services, build
from relab.core.clock import SystemClock
from relab.telemetry import remapping, store
from relab.telemetry.models import RunFilter, RunStatus
from relab.telemetry.postponing import MIN_SPANS
from support.otlp.logs import encode_logs, exception_log
from support.otlp.traces import AGENT, CHAT, TOOL, Trace, encode

LARGE = MIN_SPANS
BATCH = 20


@pytest.fixture
def reader(services: Services) -> Iterator[Services]:
    """Another process of the same installation."""
    made = build(services.settings, clock=SystemClock())
    yield made
    made.close()


def chats(trace: Trace, first: int, count: int, **attributes: Any) -> list[Span]:
    return [
        trace.span(f"chat-{number}", "root", {**CHAT, **attributes}, start_ms=number, end_ms=number + 0.5)
        for number in range(first, first + count)
    ]


def send(services: Services, spans: list[Span]) -> None:
    assert services.telemetry.ingest_traces(encode(spans), "protobuf").rejected == 0


def waiting(services: Services) -> list[str]:
    """Return the ids of the runs that are marked as unprojected."""
    with services.database.read() as session:
        return list(session.execute(text("SELECT run_id FROM agent_runs WHERE mapper_version = 0")).scalars())


def projected_steps(services: Services, trace: Trace) -> int:
    """Return the number of steps at the last projection, which a reader of relab never sees if it is outdated."""
    with services.database.read() as session:
        found = session.execute(text("SELECT step_count FROM agent_runs WHERE run_id = :id"), {"id": trace.id})
        return int(found.scalar_one())


def grown(services: Services, name: str = "large") -> Trace:
    """Store a large trace and one more batch of it, which is not projected yet."""
    trace = Trace(name)
    send(services, chats(trace, 0, LARGE))
    send(services, chats(trace, LARGE, BATCH))
    assert waiting(services) == [trace.id]
    assert projected_steps(services, trace) == LARGE
    return trace


READERS: dict[str, Callable[[Services, str], object]] = {
    "get": lambda services, run_id: services.telemetry.get(run_id).counts.steps,
    "timeline": lambda services, run_id: services.telemetry.timeline(run_id).total,
    "timeline as JSON": lambda services, run_id: json.loads(services.telemetry.timeline_json(run_id))["total"],
    "load": lambda services, run_id: len(services.telemetry.load(run_id)[0].steps),
    "list": lambda services, _: services.telemetry.list_runs(RunFilter()).items[0].counts.steps,
    "spans": lambda services, run_id: len(services.telemetry.spans(run_id, limit=10_000).items),
}


@pytest.mark.parametrize("name", READERS)
def test_each_reader_of_another_process_sees_all_acknowledged_spans(
    services: Services, reader: Services, name: str
) -> None:
    trace = grown(services)

    assert READERS[name](reader, trace.id) == LARGE + BATCH


def test_content_hash_is_that_of_all_acknowledged_spans(services: Services, reader: Services) -> None:
    trace = grown(services)

    content = reader.telemetry.get_content(trace.id)

    assert content.content_hash == reader.telemetry.load(trace.id)[1]


def test_overview_counts_the_errors_of_acknowledged_spans(services: Services) -> None:
    now_ms = (services.telemetry._clock.now_us() * 1_000 - Trace("x").span("x").start_time_unix_nano) / 1_000_000
    trace = Trace("failing")
    send(services, [_moved(span, now_ms) for span in chats(trace, 0, LARGE)])
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

    assert len(json.loads(line)["steps"]) == LARGE + BATCH


def test_trace_is_projected_again_when_it_has_grown_by_half(services: Services) -> None:
    trace = Trace("half")
    send(services, chats(trace, 0, LARGE))
    seen = []
    for first in range(LARGE, LARGE * 2, 100):
        send(services, chats(trace, first, 100))
        seen.append(projected_steps(services, trace))

    assert seen == [LARGE] * 5 + [LARGE + 600] * 4 + [LARGE + 600]


def test_root_projects_its_trace_at_once(services: Services) -> None:
    trace = grown(services)

    send(services, [trace.span("root", None, AGENT, end_ms=LARGE * 2)])

    assert waiting(services) == []
    assert projected_steps(services, trace) == LARGE + BATCH
    assert services.telemetry.get(trace.id).status is RunStatus.SUCCESS


def test_result_is_that_of_one_batch(services: Services) -> None:
    """A large trace in batches, out of order, is the run that one request of all spans makes."""
    spans = [Trace("whole").span("root", None, AGENT, end_ms=LARGE * 2), *chats(Trace("whole"), 0, LARGE * 2)]
    send(services, spans)
    expected = services.telemetry.get_content(Trace("whole").id).content_hash
    services.telemetry.delete(Trace("whole").id)

    send(services, spans[LARGE:])
    for first in range(LARGE - 100, 0, -100):
        send(services, spans[first : first + 100])
    send(services, spans[:100])

    assert services.telemetry.get_content(Trace("whole").id).content_hash == expected


def test_repeated_batch_of_an_unprojected_trace_counts_once(services: Services) -> None:
    trace = grown(services)

    send(services, chats(trace, LARGE, BATCH))

    assert services.telemetry.get(trace.id).counts.steps == LARGE + BATCH


def test_log_events_of_an_unprojected_trace_are_visible(services: Services) -> None:
    trace = Trace("logged")
    send(services, chats(trace, 0, LARGE))
    send(services, [trace.span("tool", "root", TOOL, start_ms=1, status=2)])
    assert waiting(services) == [trace.id]

    event = exception_log(trace, "tool", "TimeoutError", "the carrier does not answer")
    services.telemetry.ingest_otlp("logs", encode_logs([event]), "protobuf")

    [call] = services.telemetry.load(trace.id)[0].tool_calls
    assert call.error_message == "the carrier does not answer"


def test_small_trace_is_projected_at_every_batch(services: Services) -> None:
    trace = Trace("small")
    send(services, chats(trace, 0, LARGE - 100))
    send(services, chats(trace, LARGE - 100, BATCH))

    assert waiting(services) == []


def test_full_backlog_projects_at_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    grown(services)
    monkeypatch.setattr(store, "MAX_WAITING_ITEMS", LARGE * 2)
    other = Trace("other")
    send(services, chats(other, 0, LARGE))

    send(services, chats(other, LARGE, BATCH))

    assert projected_steps(services, other) == LARGE + BATCH


def test_unprojected_run_is_deleted_with_its_spans_and_sums(services: Services) -> None:
    trace = grown(services)

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

    monkeypatch.setattr(remapping, "project", fail)

    assert services.telemetry.get(trace.id).counts.steps == LARGE
    assert waiting(services) == []
    monkeypatch.undo()
    send(services, chats(trace, LARGE + BATCH, BATCH))
    assert services.telemetry.get(trace.id).counts.steps == LARGE + 2 * BATCH
