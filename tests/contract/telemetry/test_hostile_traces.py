"""Traces with unusual or damaged content, stored and read back on both databases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.telemetry.ingest.intake import TelemetryIntake
from relab.telemetry.ingest.posted import PostedSpans
from relab.telemetry.models import RunFilter
from relab.telemetry.otlp.decoding import decode_protobuf
from relab.telemetry.otlp_models import OtlpReceipt
from relab.telemetry.service import TelemetryService
from support.clocks import MovableClock
from support.storage.migrated import create_migrated, migrate
from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, TRACE, body_of, load, pairs, record_of_spans, span
from unit.telemetry.otlp.strategies import spans

_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database for many examples, each of which uses a trace of its own."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'test.db'}"
    else:
        url = create_migrated(request.getfixturevalue("postgres"), "hostile_traces")
    database = Database.open(url)
    migrate(database)
    yield database
    database.close()


class Trace:
    """A trace with an id of its own in a database."""

    def __init__(self, database: Database) -> None:
        clock = MovableClock()
        self.id = next(_numbers).to_bytes(16)
        self.service = TelemetryService(database, clock, JobQueue(database, clock, EmbeddedBackend()))
        self.intake = TelemetryIntake(database, clock, shard=0)

    def send(self, *reports: SpanMessage, more: bytes = b"") -> OtlpReceipt:
        """Store an export of these spans, with the bytes `more` appended to the last span."""
        [receipt] = self.intake.write([PostedSpans(decode_protobuf(self.body(reports, more)))])
        assert isinstance(receipt, OtlpReceipt), receipt
        return receipt

    def body(self, reports: tuple[SpanMessage, ...], more: bytes) -> bytes:
        body = body_of(reports).replace(TRACE, self.id)
        if not more:
            return body
        packed = reports[-1].SerializeToString().replace(TRACE, self.id)
        return body + _field(1, _field(2, _field(2, packed + more)))

    def check(self) -> None:
        """Read the trace through each method of the service."""
        run_id = self.id.hex()
        run, _ = self.service.load(run_id)
        assert self.service.get(run_id).run_id == run_id
        assert self.service.list_runs(RunFilter(text=run_id, all_traces=True)).items[0].run_id == run_id
        assert self.service.timeline(run_id).total == sum(map(len, (run.steps, run.tool_calls, run.guardrail_events)))
        self.service.spans(run_id)


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@given(st.lists(spans(), min_size=1, max_size=6), st.integers(0, 6))
@examples(30)
def test_any_spans_are_stored_and_read_back(shared: Database, reports: list[SpanMessage], cut: int) -> None:
    trace = Trace(shared)
    for part in (reports[:cut], reports[cut:]):
        if part:
            assert trace.send(*part).accepted == len(part)
    trace.check()
    stored, _ = trace.service.load(trace.id.hex())
    expected = load(record_of_spans(*reports))
    assert stored.model_dump(exclude={"run_id", "trace_id"}) == expected.model_dump(exclude={"run_id", "trace_id"})


NUL: dict[str, dict[str, Any]] = {
    "in an agent's name": AGENT | {"gen_ai.agent.name": "", "metadata": '{"lc_agent_name": "a\\u0000b"}'},
    "in a tool's error": TOOL
    | {"gen_ai.tool.call.result": '{"type": "tool", "status": "error", "content": "\\u0000"}'},
    "in a tool's result": TOOL | {"gen_ai.tool.call.result": '{"type": "tool", "content": "\\u0000"}'},
    "in a message": CHAT | {"gen_ai.input.messages": '[{"role": "user", "content": "\\u0000"}]'},
    "in an argument": TOOL | {"gen_ai.tool.call.arguments": '{"a": "\\u0000"}'},
}


@pytest.mark.parametrize("attributes", NUL.values(), ids=NUL)
def test_escaped_nul_in_json_does_not_lose_the_trace(shared: Database, attributes: dict[str, Any]) -> None:
    trace = Trace(shared)
    assert trace.send(span("it", None, attributes)).accepted == 1
    trace.check()


BIG: dict[str, dict[str, Any]] = {
    "flags": {"http.response.status_code": True, "http.request.resend_count": True},
    "tokens": {"gen_ai.usage.input_tokens": 2**63 - 1},
    "costs": {"gen_ai.usage.cost": 1e12},
}


@pytest.mark.parametrize("attributes", BIG.values(), ids=BIG)
def test_out_of_range_numbers_do_not_break_the_list_of_runs(shared: Database, attributes: dict[str, Any]) -> None:
    trace = Trace(shared)
    below = [span(f"it{n}", "root", role | attributes) for n, role in enumerate((CHAT, CHAT, TOOL))]
    assert trace.send(span("root", None, AGENT), *below).accepted == 4
    trace.check()


@pytest.mark.parametrize("part", ["attributes", "events", "bytes"])
@pytest.mark.parametrize("together", [True, False], ids=["in one export", "one after the other"])
def test_reports_that_exceed_a_limit_together_do_not_lose_the_trace(
    shared: Database, part: str, together: bool
) -> None:
    trace = Trace(shared)
    reports = []
    for number in range(2):
        report = span("it", "root", CHAT)
        if part == "attributes":
            report.attributes.extend(pairs({f"{number}.{index}": index for index in range(6_000)}))
        elif part == "events":
            for index in range(6_000):
                report.events.add(name=f"{number}.{index}")
        else:
            report.attributes.extend(pairs({f"big{number}": "x" * 5_000_000}))
        reports.append(report)
    for export in [reports] if together else [[report] for report in reports]:
        receipt = trace.send(span("root", None, AGENT), *export)
        assert receipt.accepted + receipt.rejected == 1 + len(export)
    assert trace.send(span("later", "root", CHAT)).accepted == 1
    trace.check()


@pytest.mark.parametrize(
    "more", [_field(13, b"\xff"), _field(3, b"\xff")], ids=["a link that is none", "a trace state that is no text"]
)
def test_damage_in_an_unread_field_does_not_lose_the_trace(shared: Database, more: bytes) -> None:
    trace = Trace(shared)
    receipt = trace.send(span("root", None, AGENT), span("it", "root", CHAT), more=more)
    assert receipt.accepted + receipt.rejected == 3
    receipt = trace.send(span("it", "root", CHAT | {"input.value": "more"}))
    assert receipt.accepted + receipt.rejected == 1
    trace.check()
