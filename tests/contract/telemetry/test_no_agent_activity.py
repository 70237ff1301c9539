"""Traces without agent activity: they are stored and found by their id, and lists, sums and searches leave them out."""

from __future__ import annotations

import json

from relab.bootstrap import Services
from relab.telemetry.ingest.reading import read_agent_run
from relab.telemetry.models import RunFilter, RunPage
from support.otlp.traces import AGENT, Trace
from support.telemetry.runs import minimal_run
from support.telemetry.unprojected import send

ALL = RunFilter(all_traces=True)
HOURS = 24 * 366 * 100
PLAIN = Trace("plain")


def ids(page: RunPage) -> list[str]:
    return [run.run_id for run in page.items]


def store_both(services: Services) -> Trace:
    """Store a trace of an agent, and one of a query of a database."""
    agent = Trace("agent")
    send(services, agent.good())
    send(services, [PLAIN.span("query", None, {"db.system.name": "sqlite"})])
    return agent


def test_list_leaves_out_a_trace_without_agent_activity_unless_it_is_asked_for(services: Services) -> None:
    agent = store_both(services)
    telemetry = services.telemetry

    assert ids(telemetry.list_runs(RunFilter())) == [agent.id]
    assert set(ids(telemetry.list_runs(ALL))) == {agent.id, PLAIN.id}
    assert telemetry.no_agent_activity.count(RunFilter()) == 1
    assert telemetry.no_agent_activity.count(RunFilter(agent_name="shop-agent")) == 0


def test_trace_without_agent_activity_is_found_by_its_id_with_its_spans(services: Services) -> None:
    store_both(services)

    run = services.telemetry.get(PLAIN.id)

    assert (run.outcome, run.outcome_rule) == ("unknown", "no_agent_activity")
    assert len(services.telemetry.spans(PLAIN.id).items) == 1


def test_sums_count_only_the_runs_of_the_list(services: Services) -> None:
    store_both(services)

    overview = services.telemetry.overview(HOURS)

    assert (overview.total_runs, overview.success_rate) == (1, 100.0)


def test_steps_of_a_trace_without_agent_activity_are_not_in_the_latencies(services: Services) -> None:
    store_both(services)
    before = services.telemetry.overview(HOURS)
    create = {"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "desk"}

    send(services, [Trace("created").span("outer"), Trace("created").span("create", "outer", create, end_ms=9_000)])

    assert services.telemetry.overview(HOURS) == before


def test_late_span_of_an_agent_makes_an_agent_run_of_a_trace_without_agent_activity(services: Services) -> None:
    agent = store_both(services)
    assert ids(services.telemetry.list_runs(RunFilter())) == [agent.id]

    send(services, [PLAIN.span("late", "query", AGENT)])

    assert set(ids(services.telemetry.list_runs(RunFilter()))) == {agent.id, PLAIN.id}
    assert services.telemetry.no_agent_activity.count(RunFilter()) == 0
    assert services.telemetry.overview(HOURS).total_runs == 2


def test_late_root_leaves_out_a_trace_that_was_shown_while_it_had_no_end(services: Services) -> None:
    send(services, [PLAIN.span("inner", "query", {"db.system.name": "sqlite"})])
    assert ids(services.telemetry.list_runs(RunFilter())) == [PLAIN.id]
    assert services.telemetry.overview(HOURS).total_runs == 1

    send(services, [PLAIN.span("query")])

    assert ids(services.telemetry.list_runs(RunFilter())) == []
    assert services.telemetry.overview(HOURS).total_runs == 0


def test_trace_without_agent_activity_awaits_no_analysis_and_no_search(services: Services) -> None:
    services.telemetry.awaiting.searches.switch(is_on=True)
    agent = store_both(services)

    assert set(services.telemetry.awaiting.searches.due(0, 10)) == {agent.id}
    assert services.telemetry.awaiting.count() == 0


def test_export_has_every_trace(services: Services) -> None:
    agent = store_both(services)

    with services.telemetry.export(RunFilter(), "spans") as export:
        text = "".join(export.lines())

    assert agent.id in text
    assert PLAIN.id in text


def test_posted_run_is_a_run_whatever_it_contains(services: Services) -> None:
    body = minimal_run(run_id="posted", status="success", span_kind="other")
    services.telemetry.ingest(read_agent_run(json.dumps(body).encode()))

    assert ids(services.telemetry.list_runs(RunFilter())) == ["posted"]
