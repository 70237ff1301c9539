"""Remapping: the sums over runs are corrected, and a run that cannot be computed does not stop the others."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from relab.bootstrap import Services
from relab.storage.base import table_of
from relab.telemetry import records
from relab.telemetry.models import AgentRun
from relab.telemetry.projection import remapping, stored_traces
from relab.telemetry.tables import AgentRunRow
from support.otlp.traces import AGENT, Trace, encode
from support.telemetry.runs import minimal_run

HOURS = 24.0 * 365 * 20
"""A window that includes every run."""


def test_remap_corrects_the_sums_of_tokens_that_an_older_version_counted(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = minimal_run(cost={"tokens_prompt": 70, "tokens_completion": 20})
    # The writer imports `remapping` at its first use; `remapping` must keep the present function.
    assert remapping.token_usage is records.token_usage
    with monkeypatch.context() as older:
        older.setattr(records, "token_usage", lambda _fields: '{"sums": [50, null, null, 20, null], "models": null}')
        services.telemetry.ingest(AgentRun.model_validate(body))
    with services.database.write() as unit:
        unit.session.execute(update(table_of(AgentRunRow)).values(outcome_version=1))
    assert services.telemetry.overview(HOURS).tokens.prompt == 50

    assert sum(done.counts.runs for done in services.telemetry.remap()) == 1
    assert services.telemetry.overview(HOURS).tokens.prompt == 70
    services.telemetry.delete(body["run_id"])
    assert services.telemetry.overview(HOURS).tokens.prompt is None


def test_repeated_remap_does_not_write_sums_that_stay_equal(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = minimal_run(cost={"tokens_prompt": 70, "tokens_completion": 20})
    services.telemetry.ingest(AgentRun.model_validate(body))
    written: list[int] = []
    apply = remapping.rollup_repository.apply

    def counting(session: Any, changes: Any, shard: int) -> None:
        written.append(len(changes.minutes))
        apply(session, changes, shard)

    monkeypatch.setattr(remapping.rollup_repository, "apply", counting)
    for _ in range(3):
        with services.database.write() as unit:
            unit.session.execute(update(table_of(AgentRunRow)).values(outcome_version=1))
        assert sum(done.counts.runs for done in services.telemetry.remap()) == 1

    assert written == [0, 0, 0]
    services.telemetry.delete(body["run_id"])


def test_remap_skips_a_run_that_cannot_be_computed(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [Trace(f"remap {number}") for number in range(5)]
    for trace in traces:
        services.telemetry.ingest_otlp("traces", encode([trace.span("root", None, AGENT)]), "protobuf")
    services.telemetry.projector.project()
    with services.database.write() as unit:
        unit.session.execute(update(table_of(AgentRunRow)).values(mapper_version=1))
    project = stored_traces.project

    def fail_for_one(trace_id: str, spans: Any, **more: Any) -> Any:
        if trace_id == traces[2].id:
            raise TypeError("a trace that no version has foreseen")
        return project(trace_id, spans, **more)

    monkeypatch.setattr(stored_traces, "project", fail_for_one)

    done = [batch.counts for batch in services.telemetry.remap()]

    assert sum(counts.runs for counts in done) == 4
    assert sum(counts.skipped for counts in done) == 1
    assert services.telemetry.count_outdated() == 1


def test_remap_tries_each_of_many_runs_that_cannot_be_computed_about_once(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        trace = Trace(f"damaged {number}")
        services.telemetry.ingest_otlp("traces", encode([trace.span("root", None, AGENT)]), "protobuf")
    services.telemetry.projector.project()
    with services.database.write() as unit:
        unit.session.execute(update(table_of(AgentRunRow)).values(mapper_version=1))
    tried: list[str] = []

    def fail(trace_id: str, _spans: Any, **_more: Any) -> Any:
        tried.append(trace_id)
        raise TypeError("a trace that no version has foreseen")

    with monkeypatch.context() as damaged:
        damaged.setattr(stored_traces, "project", fail)
        skipped = sum(batch.counts.skipped for batch in services.telemetry.remap())

    assert skipped == 40
    assert len(tried) < 50
    assert sum(batch.counts.runs for batch in services.telemetry.remap()) >= 40
