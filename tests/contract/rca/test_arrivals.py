"""Automatic analyses of failed and suspect runs: once per content, bounded, and after the requests of people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from relab.bootstrap import Services, build
from relab.jobs.models import Lane
from relab.rca.models import RcaRun, Report
from relab.rca.service import ANALYZE_JOB, RcaService, RuleBook
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.clocks import MovableClock
from support.otlp.traces import AGENT, TOOL, Trace, encode
from support.telemetry.runs import RunBody, failed_run, minimal_run, tool_call

QUIET_S = 5.0


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def here(services: Services, clock: MovableClock) -> Iterator[Services]:
    """An installation whose clock the test moves."""
    made = build(services.settings, clock=clock)
    yield made
    made.close()


def post(services: Services, body: RunBody) -> str:
    return services.telemetry.ingest(check_agent_run(body)).run_id


def request_due(services: Services, *, max_waiting: int = 100) -> int:
    """Request the due analyses, as a worker does every few seconds, and return their number."""
    return services.rca.analyze_arrivals(quiet_s=QUIET_S, max_waiting=max_waiting)


def run_all(services: Services) -> None:
    runner = services.runner()
    while runner.run_next():
        pass


def analyses(services: Services, run_id: str) -> list[RcaRun]:
    return services.rca.list_for_run(run_id)


def cause(services: Services, run_id: str) -> tuple[str | None, str | None]:
    [run] = [run for run in services.telemetry.list_runs(RunFilter()).items if run.run_id == run_id]
    return run.category, run.category_confidence


def timed_out(run_id: str, **fields: Any) -> RunBody:
    call = tool_call("c", status="failure", error_message="timed out after 5 s", error_class="TimeoutError")
    return failed_run(run_id, tool_calls=[call], **fields)


def test_failed_run_is_analysed_when_it_has_not_changed_for_a_while(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("failed"))
    assert request_due(here) == 0

    clock.move(QUIET_S)
    assert request_due(here) == 1
    run_all(here)

    [analysis] = analyses(here, run_id)
    assert analysis.on_arrival
    assert analysis.status == "done"
    report = here.rca.get(analysis.rca_run_id).report
    assert report is not None
    assert cause(here, run_id) == (report.category, report.hypotheses[0].confidence)
    assert report.category == "timeout"
    assert here.telemetry.awaiting.count() == 0
    assert request_due(here) == 0


@pytest.mark.parametrize("ahead_s", [QUIET_S + 1, 86_400.0])
def test_failed_run_is_analysed_after_the_clock_was_set_back(
    here: Services, clock: MovableClock, ahead_s: float
) -> None:
    clock.move(ahead_s)
    post(here, timed_out("ahead"))
    clock.move(-ahead_s)
    assert request_due(here) == 1


def test_failed_run_of_a_clock_that_is_a_little_ahead_waits_until_it_is_quiet(
    here: Services, clock: MovableClock
) -> None:
    clock.move(QUIET_S / 2)
    post(here, timed_out("skewed"))
    clock.move(-QUIET_S / 2)
    assert request_due(here) == 0

    clock.move(1.5 * QUIET_S)
    assert request_due(here) == 1


@pytest.mark.parametrize(
    ("body", "is_suspect"),
    [
        (minimal_run("r"), False),
        (minimal_run("r", status="running"), False),
        (minimal_run("r", status="cancelled"), False),
        (minimal_run("r", status="incomplete"), False),
        (failed_run("r"), True),
        (minimal_run("r", tool_calls=[tool_call("c", status="failure", error_message="timed out")]), True),
        (minimal_run("r", status="incomplete", tool_calls=[tool_call("c", status="failure")]), True),
    ],
    ids=["success", "running", "cancelled", "incomplete", "failure", "unrecovered error", "incomplete with an error"],
)
def test_only_failed_and_suspect_runs_await_an_analysis(
    here: Services, clock: MovableClock, body: RunBody, is_suspect: bool
) -> None:
    post(here, body)
    clock.move(QUIET_S)

    assert here.telemetry.awaiting.count() == int(is_suspect)
    assert request_due(here) == int(is_suspect)


def test_growing_trace_is_analysed_once(here: Services, clock: MovableClock) -> None:
    trace = Trace("growing")
    for number in range(4):
        tool = trace.span(f"tool {number}", "root", TOOL, start_ms=number, status=2, message="timed out")
        assert here.telemetry.ingest_otlp("traces", encode([tool]), "protobuf").rejected == 0
        clock.move(QUIET_S - 1)
        assert request_due(here) == 0
    here.telemetry.ingest_otlp("traces", encode([trace.span("root", None, AGENT, end_ms=9)]), "protobuf")
    clock.move(QUIET_S)

    assert request_due(here) == 1
    run_all(here)

    assert len(analyses(here, trace.id)) == 1
    assert cause(here, trace.id)[0] is not None


def test_changed_run_is_analysed_again_and_repeated_post_is_not(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("again"))
    clock.move(QUIET_S)
    assert request_due(here) == 1
    run_all(here)

    post(here, timed_out("again"))
    clock.move(QUIET_S)
    assert request_due(here) == 0
    post(here, timed_out("again", error_message="something else"))
    clock.move(QUIET_S)
    assert request_due(here) == 1
    assert len(analyses(here, run_id)) == 2


def test_run_that_succeeds_before_its_analysis_is_not_analysed(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("better"))
    post(here, minimal_run("better"))
    clock.move(QUIET_S)

    assert request_due(here) == 0
    assert analyses(here, run_id) == []


def test_run_that_succeeds_after_its_analysis_leaves_its_cluster(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("better"))
    clock.move(QUIET_S)
    request_due(here)
    run_all(here)
    assert here.rca.clusters.list().runs == 1

    post(here, minimal_run("better"))
    assert here.telemetry.awaiting.count() == 1
    clock.move(QUIET_S)
    assert request_due(here) == 1
    run_all(here)

    assert here.rca.clusters.list().runs == 0
    assert len(analyses(here, run_id)) == 2
    post(here, minimal_run("better", answer="another"))
    clock.move(QUIET_S)
    assert request_due(here) == 0


def test_trace_that_goes_on_after_its_analysis_leaves_its_cluster(here: Services, clock: MovableClock) -> None:
    trace = Trace("slow")
    tool = trace.span("tool", "root", TOOL, status=2, message="timed out")
    here.telemetry.ingest_otlp("traces", encode([tool]), "protobuf")
    clock.move(900)
    assert here.telemetry.end_incomplete(900) == 1
    clock.move(QUIET_S)
    request_due(here)
    run_all(here)
    assert here.rca.clusters.list().runs == 1

    # The first reader shows the run as running again, the second one as ended.
    again = trace.span("again", "root", TOOL, start_ms=2, end_ms=3)
    here.telemetry.ingest_otlp("traces", encode([again]), "protobuf")
    here.telemetry.get(trace.id)
    here.telemetry.ingest_otlp("traces", encode([trace.span("root", None, AGENT, end_ms=9)]), "protobuf")
    clock.move(QUIET_S)
    assert request_due(here) == 1
    run_all(here)

    assert here.telemetry.get(trace.id).outcome == "succeeded"
    assert here.rca.clusters.list().runs == 0


def test_run_that_a_person_analyses_is_not_analysed_again(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("asked"))
    requested = here.rca.request(run_id)
    clock.move(QUIET_S)

    assert request_due(here) == 0

    assert [analysis.rca_run_id for analysis in analyses(here, run_id)] == [requested.rca_run_id]
    assert here.telemetry.awaiting.count() == 0


def test_request_of_a_person_makes_a_waiting_analysis_urgent(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("urgent"))
    clock.move(QUIET_S)
    request_due(here)
    [waiting] = analyses(here, run_id)
    assert here.queue.get(waiting.rca_run_id).lane is Lane.BACKGROUND

    receipt = here.rca.request(run_id)

    assert (receipt.rca_run_id, receipt.created) == (waiting.rca_run_id, False)
    assert here.queue.get(waiting.rca_run_id).lane is Lane.INTERACTIVE
    assert not here.rca.get(waiting.rca_run_id).on_arrival


def test_waiting_analyses_are_bounded_and_the_others_follow_newest_first(here: Services, clock: MovableClock) -> None:
    for number in range(5):
        post(here, timed_out(f"many-{number}"))
        clock.move(1)
    clock.move(QUIET_S)

    assert request_due(here, max_waiting=2) == 2
    assert request_due(here, max_waiting=2) == 0
    assert here.telemetry.awaiting.count() == 3
    assert [len(analyses(here, f"many-{number}")) for number in range(5)] == [0, 0, 0, 1, 1]

    run_all(here)
    assert request_due(here, max_waiting=2) == 2
    run_all(here)
    assert request_due(here, max_waiting=2) == 1
    assert here.telemetry.awaiting.count() == 0


def test_analyses_that_people_request_do_not_count_against_the_bound(here: Services, clock: MovableClock) -> None:
    here.rca.request(post(here, timed_out("asked")))
    post(here, timed_out("arrived"))
    clock.move(QUIET_S)

    assert request_due(here, max_waiting=1) == 1
    assert here.queue.count_unfinished(ANALYZE_JOB, Lane.BACKGROUND) == 1


def test_waiting_runs_are_found_by_an_index(here: Services, clock: MovableClock) -> None:
    post(here, timed_out("indexed"))
    clock.move(QUIET_S)
    queries: list[tuple[str, Any]] = []
    with here.database.read() as session:
        engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: queries.append((sql, values)))
    request_due(here)
    query, values = next(found for found in queries if "ORDER BY agent_runs.updated_at" in found[0])
    with here.database.write() as unit:
        connection = unit.session.connection()
        if not here.database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        explain = "EXPLAIN QUERY PLAN" if here.database.is_sqlite else "EXPLAIN"
        plan = " ".join(str(row) for row in connection.exec_driver_sql(f"{explain} {query}", values))

    assert "ix_agent_runs_awaiting_updated_at" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_deleted_run_awaits_no_analysis(here: Services, clock: MovableClock) -> None:
    run_id = post(here, timed_out("deleted"))
    here.telemetry.delete(run_id)
    clock.move(QUIET_S)

    assert here.telemetry.awaiting.count() == 0
    assert request_due(here) == 0


def test_model_is_called_only_for_requests_of_people(here: Services, clock: MovableClock, tmp_path: Path) -> None:
    asked: list[str] = []

    def word(report: Report) -> Report:
        asked.append(report.category)
        return report.model_copy(update={"summary_source": "llm"})

    rules = RuleBook(tmp_path / "no-rules.yaml")
    rca = RcaService(here.database, clock, here.queue, here.progress, here.telemetry, rules=rules, word=word)
    run_id = post(here, timed_out("worded"))
    clock.move(QUIET_S)
    request_due(here)
    [arrived] = analyses(here, run_id)
    rca.analyze(arrived.rca_run_id)
    assert asked == []

    receipt = rca.request(run_id)
    assert receipt.created
    rca.analyze(receipt.rca_run_id)

    assert asked == ["timeout"]
    assert rca.request(run_id).rca_run_id == receipt.rca_run_id


def test_housekeeping_of_a_worker_requests_analyses_unless_they_are_switched_off(
    here: Services, clock: MovableClock
) -> None:
    run_id = post(here, timed_out("by a worker"))
    clock.move(QUIET_S)
    rca = here.settings.rca.model_copy(update={"on_arrival": False})
    without = dataclasses.replace(here, settings=here.settings.model_copy(update={"rca": rca}))

    without.housekeep(here.runner())
    assert analyses(here, run_id) == []
    here.housekeep(here.runner())

    assert [analysis.on_arrival for analysis in analyses(here, run_id)] == [True]
