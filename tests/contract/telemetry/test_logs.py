"""Log records in the store: limits, pruning, export and ingestion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import text

from relab.bootstrap import Services
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.export import service as export
from relab.telemetry.models import RunFilter
from relab.telemetry.otlp_models import OtlpReceipt
from relab.telemetry.received import log_store
from relab.telemetry.retention import PruneCounts
from support.clocks import MovableClock
from support.otlp.logs import bodies, encode_logs, exception_log, log
from support.otlp.traces import START_NS, Trace, encode, span_id

START_US = START_NS // 1_000
HOUR_US = 3_600_000_000


def send_spans(services: Services, trace: Trace) -> None:
    assert services.telemetry.ingest_otlp("traces", encode(trace.good()), "protobuf").rejected == 0


def send_logs(services: Services, *records: Any, **resource: Any) -> OtlpReceipt:
    return services.telemetry.ingest_otlp("logs", encode_logs(records, resource=resource or None), "protobuf")


def rows(services: Services, table: str = "log_records") -> int:
    with services.database.read() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_pruning_deletes_the_records_of_old_runs(here: Services) -> None:
    trace = Trace("old")
    send_spans(here, trace)
    send_logs(here, log(trace, "root", "a"), log(trace, "root", "b"))
    before_us = START_US + HOUR_US
    assert here.telemetry.count_prunable(before_us) == PruneCounts(1, 3, 2)
    assert list(here.telemetry.prune(before_us)) == [PruneCounts(1, 3, 2)]
    assert rows(here) == 0
    assert rows(here, "log_origins") == 0


def test_pruning_deletes_old_records_without_spans(here: Services, clock: MovableClock) -> None:
    waiting, growing, young, with_run = (Trace(name) for name in ("waiting", "growing", "young", "with run"))
    send_logs(here, log(waiting, "x", "in vain"), log(waiting, "x", "too"), log(growing, "x", "first"))
    clock.us += HOUR_US
    send_logs(here, log(young, "x", "kept"), log(growing, "x", "second"), log(with_run, "root", "kept"))
    send_spans(here, with_run)
    # The run of `with_run` also started before this time, so it is deleted with its record.
    assert here.telemetry.count_prunable(START_US + HOUR_US // 2) == PruneCounts(1, 3, 3)
    assert sum(counts.logs for counts in here.telemetry.prune(START_US + HOUR_US // 2, batch=1)) == 3
    send_spans(here, growing)
    send_spans(here, young)
    assert bodies(here.telemetry.logs(growing.id).items) == ["first", "second"]
    assert bodies(here.telemetry.logs(young.id).items) == ["kept"]
    send_spans(here, waiting)
    assert here.telemetry.logs(waiting.id).items == []


def test_a_full_trace_rejects_its_latest_records(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_store, "MAX_LOGS_PER_TRACE", 5)
    trace, other = Trace("full"), Trace("not full")
    send_spans(services, trace)
    records = [log(trace, "root", str(number), at_ms=number) for number in range(8)]
    assert send_logs(services, *records[:3]).rejected == 0
    receipt = send_logs(services, *reversed(records), log(other, "root", "x"))
    assert receipt.rejected == 3
    assert receipt.accepted == 6
    assert trace.id in receipt.message
    # A repeat rejects the same records.
    assert send_logs(services, *records).rejected == 3
    assert bodies(services.telemetry.logs(trace.id).items) == ["0", "1", "2", "3", "4"]


def lines_of(services: Services) -> list[str]:
    with services.telemetry.export(RunFilter(), "logs") as exported:
        return list(exported.lines())


def test_exported_records_are_ingested_again(
    services: Services, elsewhere: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_LINE_SPANS", 2)
    one, other = Trace("one"), Trace("other")
    for trace in (one, other):
        send_spans(services, trace)
    send_logs(services, log(one, "chat", {"content": "x"}, {"n": [1, 2.5]}, name="gen_ai.choice"), a="1")
    send_logs(services, log(one, None, "line"), exception_log(other, "tool", "ValueError", "no"), b=True)
    send_logs(services, log(Trace("no run"), None, "not exported"))

    lines = lines_of(services)
    for line in lines:
        assert elsewhere.telemetry.ingest_otlp("logs", line.encode(), "json").rejected == 0
    for trace in (one, other):
        send_spans(elsewhere, trace)

    assert len(lines) == 2
    assert lines_of(elsewhere) == lines
    for trace in (one, other):
        assert elsewhere.telemetry.logs(trace.id) == services.telemetry.logs(trace.id)
        assert elsewhere.telemetry.get(trace.id).content_hash == services.telemetry.get(trace.id).content_hash


def test_records_are_written_as_parquet(services: Services, tmp_path: Path) -> None:
    trace = Trace("parquet")
    send_spans(services, trace)
    send_logs(services, log(trace, "chat", {"content": "x"}, {"n": 1}, name="gen_ai.choice", severity=9), a="1")
    with services.telemetry.export(RunFilter(), "logs") as exported:
        exported.write_parquet(tmp_path / "logs.parquet")
    with duckdb.connect() as connection:
        result = connection.execute(f'SELECT * EXCLUDE ("at") FROM "{tmp_path / "logs.parquet"}"')
        names = [column[0] for column in result.description or ()]
        found = result.fetchall()
    row = dict(zip(names, found[0], strict=True))
    assert len(found) == 1
    assert row["trace_id"] == trace.id
    assert row["span_id"] == span_id("chat")
    assert row["event_name"] == "gen_ai.choice"
    assert row["severity"] == 9
    assert json.loads(row["body"]) == {"content": "x"}
    assert json.loads(row["attributes"]) == {"n": 1}
    assert json.loads(row["resource"]) == {"a": "1"}


def test_logs_of_an_unknown_run_are_not_found(services: Services) -> None:
    with pytest.raises(AgentRunNotFoundError):
        services.telemetry.logs("nothing")


def test_remap_reads_events_from_log_records(services: Services) -> None:
    trace = Trace("remapped")
    send_spans(services, trace)
    send_logs(services, exception_log(trace, "tool", "TimeoutError", "slow"))
    with services.database.write() as unit:
        unit.session.execute(text("UPDATE agent_runs SET mapper_version = 1, content_hash = 'older'"))

    assert sum(done.counts.projected for done in services.telemetry.remap()) == 1
    run, _ = services.telemetry.load(trace.id)
    assert [call.error_class for call in run.tool_calls] == ["TimeoutError"]
