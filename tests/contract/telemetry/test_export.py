"""Exports on both databases: ingesting an export makes the same runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relab.bootstrap import Services
from relab.core.clock import parse_time
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.export import service as export
from relab.telemetry.ingest.reading import check_agent_run, read_agent_run
from relab.telemetry.models import AgentRun, RunFilter, RunStatus
from support.api.client import running_api
from support.otlp.traces import Trace, assert_taken, encode, export_of, pairs, post, span_lists
from support.telemetry.runs import RunBody, agent_runs, examples, failed_run, minimal_run, step, time_text
from unit.telemetry.otlp.builders import TRACE, body_of
from unit.telemetry.otlp.strategies import attribute_lists, traces

ALL = RunFilter()
STORED_ANEW = {"received_at", "updated_at", "category"}


def post_runs(services: Services, *bodies: RunBody) -> None:
    for body in bodies:
        services.telemetry.ingest(check_agent_run(body))


def post_spans(services: Services, *spans: Span, resource: dict[str, Any] | None = None) -> None:
    assert services.telemetry.ingest_otlp("traces", encode(spans, resource=resource), "protobuf").rejected == 0


def run_lines(services: Services, run_filter: RunFilter = ALL) -> list[str]:
    with services.telemetry.export(run_filter) as runs:
        return list(runs.lines())


def item_lines(services: Services) -> list[dict[str, Any]]:
    with services.telemetry.export(ALL, "items") as runs:
        return [json.loads(line) for line in runs.lines()]


def span_lines(services: Services) -> list[str]:
    with services.telemetry.export(ALL, "spans") as runs:
        return list(runs.lines())


def ids_of(lines: Iterable[str]) -> list[str]:
    return [json.loads(line)["run_id"] for line in lines]


def content(services: Services, run_id: str) -> tuple[AgentRun, dict[str, Any], list[dict[str, Any]]]:
    """Return all data that readers see of a run, except the time at which it was stored."""
    header = services.telemetry.get(run_id).model_dump(exclude=STORED_ANEW)
    timeline = services.telemetry.timeline(run_id, limit=10_000)
    return services.telemetry.load(run_id)[0], header, [item.model_dump() for item in timeline.items]


def without_source(seen: tuple[AgentRun, dict[str, Any], list[dict[str, Any]]]) -> tuple[Any, ...]:
    run, header, timeline = seen
    return run, {name: value for name, value in header.items() if name not in {"source", "content_hash"}}, timeline


@given(body=agent_runs(run_id="any"))
@examples(30)
def test_exported_runs_are_ingested_unchanged(services: Services, elsewhere: Services, body: RunBody) -> None:
    # The test sends no empty lists: they mean the same as absent ones, but change the content hash.
    sent = {name: value for name, value in body.items() if value != [] or name.startswith("x-")}
    post_runs(services, sent)

    [line] = run_lines(services)
    elsewhere.telemetry.ingest(read_agent_run(line.encode()))

    assert content(elsewhere, "any") == content(services, "any")
    elsewhere.telemetry.delete("any")


@given(spans=traces(), resource=attribute_lists)
@examples(40)
def test_runs_made_of_spans_are_ingested_as_posted_runs(
    services: Services, elsewhere: Services, spans: list[Span], resource: list[tuple[str, Any]]
) -> None:
    services.telemetry.ingest_otlp("traces", body_of(spans, dict(resource)), "protobuf")

    [line] = run_lines(services)
    elsewhere.telemetry.ingest(read_agent_run(line.encode()))

    run_id = TRACE.hex()
    assert without_source(content(elsewhere, run_id)) == without_source(content(services, run_id))
    for installation in (services, elsewhere):
        installation.telemetry.delete(run_id)


@pytest.mark.full
@given(spans=traces(), resource=attribute_lists, scope=attribute_lists)
@examples(40)
def test_exported_spans_make_the_same_run(
    services: Services,
    elsewhere: Services,
    spans: list[Span],
    resource: list[tuple[str, Any]],
    scope: list[tuple[str, Any]],
) -> None:
    sent = export_of(spans, dict(resource))
    scope_spans = sent.resource_spans[0].scope_spans[0]
    scope_spans.scope.attributes.extend(pairs(dict(scope)))
    scope_spans.scope.version = "1.2"
    scope_spans.schema_url = "https://example.org/schema"
    services.telemetry.ingest_otlp("traces", sent.SerializeToString(), "protobuf")

    [line] = span_lines(services)
    assert elsewhere.telemetry.ingest_otlp("traces", line.encode(), "json").rejected == 0

    run_id = TRACE.hex()
    assert content(elsewhere, run_id) == content(services, run_id)
    assert elsewhere.telemetry.spans(run_id) == services.telemetry.spans(run_id)
    assert span_lines(elsewhere) == [line]
    for installation in (services, elsewhere):
        installation.telemetry.delete(run_id)


def test_api_ingests_exported_spans_of_several_processes(services: Services, elsewhere: Services) -> None:
    one, other = Trace("one"), Trace("other")
    post_spans(services, *one.good()[:1], *other.good(), resource={"service.name": "agent", "cores": 4})
    post_spans(services, *one.good()[1:], resource={"service.name": "tools", "weights": [0.5, 1.0], "on": True})
    post_runs(services, failed_run("json"))

    lines = span_lines(services)
    with running_api(elsewhere) as client:
        for line in lines:
            assert_taken(post(client, line.encode(), "json"))

    assert [len(json.loads(line)["resourceSpans"]) for line in lines] == [2]
    for trace in (one, other):
        assert content(elsewhere, trace.id) == content(services, trace.id)
        assert elsewhere.telemetry.spans(trace.id) == services.telemetry.spans(trace.id)
    with pytest.raises(AgentRunNotFoundError):
        elsewhere.telemetry.get("json")


def test_line_of_spans_fits_into_one_request(
    services: Services, elsewhere: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_LINE_SPANS", 4)
    monkeypatch.setattr(export, "MAX_LINE_BYTES", 2_000)
    trace, fat = Trace("thin"), Trace("fat")
    post_spans(services, *[trace.span(f"s{number}", "root", start_ms=number, end_ms=None) for number in range(10)])
    big = {"input.value": "x" * 1_500}
    post_spans(services, *[fat.span(f"f{number}", "root", big, end_ms=None) for number in range(3)])

    lines = span_lines(services)
    for line in lines:
        elsewhere.telemetry.ingest_otlp("traces", line.encode(), "json")

    sizes = [sum(map(len, span_lists(json.loads(line)))) for line in lines]
    assert sum(sizes) == 13
    assert max(sizes) == 4
    fats = [
        sum("x" * 1_500 in json.dumps(span) for spans in span_lists(json.loads(line)) for span in spans)
        for line in lines
    ]
    assert sum(fats) == 3
    assert max(fats) == 1
    for made in (trace, fat):
        assert content(elsewhere, made.id) == content(services, made.id)


def test_items_are_exported_in_the_order_of_their_timelines(services: Services) -> None:
    post_runs(services, failed_run("second", started_at=time_text(0)), failed_run("first", started_at=time_text(-9)))

    lines = item_lines(services)

    assert [(line["run_id"], line["kind"], line["ref_id"]) for line in lines] == [
        (run_id, item.kind, item.ref_id)
        for run_id in ("first", "second")
        for item in services.telemetry.timeline(run_id).items
    ]
    for line in lines[4:]:
        [item] = [item for item in services.telemetry.timeline("second").items if item.ref_id == line["ref_id"]]
        assert line == {"run_id": "second", **item.model_dump(mode="json", include={"kind", "ref_id", "at", "data"})}


@pytest.mark.parametrize(
    "wanted",
    [
        RunFilter(agent_name="other"),
        RunFilter(agent_version="2.1.0"),
        RunFilter(status=RunStatus.FAILURE),
        RunFilter(environment="prod"),
        RunFilter(conversation_id="talk"),
        RunFilter(started_after_us=parse_time(time_text(2))),
        RunFilter(started_before_us=parse_time(time_text(2))),
        RunFilter(started_after_us=parse_time(time_text(1)), started_before_us=parse_time(time_text(3))),
        RunFilter(text="VALIDATION"),
        RunFilter(agent_name="nobody"),
        ALL,
    ],
    ids=str,
)
def test_export_has_the_filters_of_the_list_and_starts_with_the_oldest_run(
    services: Services, wanted: RunFilter
) -> None:
    post_runs(
        services,
        minimal_run("a", started_at=time_text(3), agent_name="other"),
        failed_run("b", started_at=time_text(2), steps=[]),
        minimal_run("c", started_at=time_text(1), conversation_id="talk"),
        minimal_run("d", started_at=time_text(0)),
        minimal_run("e", started_at=time_text(0)),
    )

    listed = [run.run_id for run in services.telemetry.list_runs(wanted).items]

    assert ids_of(run_lines(services, wanted)) == listed[::-1]
    with services.telemetry.export(wanted) as runs:
        assert runs.total == len(listed)


@pytest.mark.full
@given(data=st.data())
@examples(15)
def test_each_run_is_exported_once_despite_concurrent_writes(services: Services, data: st.DataObject) -> None:
    """During the export, the test deletes, replaces, moves in time and adds runs."""
    ids = [f"r{number}" for number in range(12)]
    versions = {run_id: {1} for run_id in ids}
    post_runs(services, *[versioned(run_id, 1, number) for number, run_id in enumerate(ids)])
    kept, found = set(ids), []
    with pytest.MonkeyPatch.context() as patched, services.telemetry.export(ALL) as runs:
        patched.setattr(export, "MAX_GROUP_RUNS", 3)
        for number, line in enumerate(runs.lines()):
            run = AgentRun.model_validate_json(line)
            # Each exported run is complete and consistent: it has as many steps as its version says.
            assert int(run.agent_version or 0) in versions[run.run_id]
            assert len(run.steps) == int(run.agent_version or 0)
            found.append(run.run_id)
            action, target = data.draw(st.tuples(st.sampled_from(["delete", "move", "add"]), st.sampled_from(ids)))
            if action == "delete" and target in kept:
                services.telemetry.delete(target)
                kept.discard(target)
            elif action == "move" and target in kept:
                post_runs(services, versioned(target, number + 2, data.draw(st.integers(-20, 20))))
                versions[target].add(number + 2)
            elif action == "add":
                post_runs(services, versioned(f"new-{number}", 1, data.draw(st.integers(-20, 20))))

    assert len(found) == len(set(found))
    assert kept <= set(found) <= set(ids)
    for run in services.telemetry.list_runs(ALL, limit=100).items:
        services.telemetry.delete(run.run_id)


def versioned(run_id: str, version: int, offset_s: float) -> RunBody:
    """Return a run whose number of steps equals its version."""
    steps = [step(f"s{number}", offset_s) for number in range(version)]
    return minimal_run(run_id, started_at=time_text(offset_s), agent_version=str(version), steps=steps)


def test_progress_is_reported_in_runs(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_GROUP_RUNS", 4)
    monkeypatch.setattr(export, "MAX_GROUP_ITEMS", 10)
    post_runs(services, *[versioned(f"r{number}", 2, number) for number in range(7)], versioned("big", 30, 99))
    told: list[int] = []

    with services.telemetry.export(ALL, "items") as runs:
        runs.on_progress = told.append
        assert len(list(runs.lines())) == 44
        assert runs.total == 8

    assert told == [4, 7, 8]
