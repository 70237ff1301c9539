"""The choice of the successful runs that a failed run is compared with, and the calls that are read from them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from relab.bootstrap import Services
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import AgentRun
from relab.telemetry.selection.passing import MAX_CALLS, MAX_RUNS, MAX_TEXT_CHARS
from support.telemetry.runs import RunBody, failed_run, minimal_run, time_text, tool_call
from unit.telemetry.otlp.builders import AGENT, body_of, span


def post(services: Services, body: RunBody) -> AgentRun:
    run = check_agent_run(body)
    services.telemetry.ingest(run)
    return run


def passing(run_id: str, offset_s: float = 0.0, **fields: Any) -> RunBody:
    return minimal_run(run_id, started_at=time_text(offset_s), **{"task_id": "t", "environment": "prod", **fields})


def ids(services: Services, run: AgentRun) -> list[str]:
    return [found.run_id for found in services.telemetry.passing.like(run).runs]


def test_runs_of_the_task_are_found_newest_first(services: Services) -> None:
    failed = post(services, failed_run("failed", task_id="t"))
    for number in range(3):
        post(services, passing(f"p{number}", number))
    post(services, passing("other task", task_id="u"))
    post(services, passing("other agent", agent_name="other"))
    post(services, failed_run("also failed", task_id="t"))
    post(services, passing("with an error", tool_calls=[tool_call("c", status="failure", error_message="timed out")]))

    assert ids(services, failed) == ["p2", "p1", "p0"]
    assert services.telemetry.passing.like(failed).same_task


def test_run_without_a_task_is_compared_with_its_version(services: Services) -> None:
    failed = post(services, failed_run("failed", agent_version="2"))
    post(services, passing("same", agent_version="2", task_id=None))
    post(services, passing("older", agent_version="1", task_id=None))

    assert ids(services, failed) == ["same"]
    assert not services.telemetry.passing.like(failed).same_task


def test_run_whose_task_never_passed_is_compared_with_its_version(services: Services) -> None:
    failed = post(services, failed_run("failed", agent_version="2", task_id="t"))
    post(services, passing("same", agent_version="2", task_id="u"))

    assert ids(services, failed) == ["same"]


def test_run_is_not_compared_with_itself(services: Services) -> None:
    assert ids(services, post(services, passing("p"))) == []


def test_calls_that_did_not_fail_are_read_in_order_of_time(services: Services) -> None:
    failed = post(services, failed_run("failed", task_id="t"))
    calls = [
        tool_call("late", tool_name="act", started_at=time_text(5), args_json={"a": [1, "ü"]}),
        tool_call("bare", tool_name="look", started_at=time_text(1), args_json=None),
        tool_call("long", tool_name="code", started_at=time_text(2), args_json={"x": "y" * MAX_TEXT_CHARS}),
        tool_call("retried", tool_name="act", started_at=time_text(3), status="failure", error_message="timed out"),
    ]
    post(services, passing("p", tool_calls=calls, answer="It is done."))
    [found] = services.telemetry.passing.like(failed).runs

    assert [(call.call_id, call.tool_name, call.args_json) for call in found.calls] == [
        ("bare", "look", None),
        ("long", "code", None),
        ("late", "act", {"a": [1, "ü"]}),
    ]
    assert found.answer == "It is done."


def test_number_of_runs_and_calls_is_limited(services: Services) -> None:
    failed = post(services, failed_run("failed", task_id="t"))
    for number in range(MAX_RUNS + 2):
        post(services, passing(f"p{number:02}", number))
    many = [tool_call(f"c{n}") for n in range(MAX_CALLS + 1)]
    post(services, passing("many calls", 100, tool_calls=many))

    found = ids(services, failed)

    assert len(found) == MAX_RUNS
    assert found[0] == f"p{MAX_RUNS + 1:02}"


def test_runs_are_found_along_the_index_of_agents(services: Services) -> None:
    failed = post(services, failed_run("failed", task_id="t"))
    post(services, passing("p"))
    queries: list[tuple[str, Any]] = []
    with services.database.read() as session:
        engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: queries.append((sql, values)))
    services.telemetry.passing.like(failed)
    query, values = next(found for found in queries if "agent_runs.tool_call_count" in found[0])
    with services.database.write() as unit:
        connection = unit.session.connection()
        if not services.database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
            connection.exec_driver_sql("SET LOCAL enable_sort = off")
        explain = "EXPLAIN QUERY PLAN" if services.database.is_sqlite else "EXPLAIN"
        plan = " ".join(str(row) for row in connection.exec_driver_sql(f"{explain} {query}", values))

    assert "ix_agent_runs_agent_name_started_at" in plan


def test_trial_is_compared_with_passing_trials_and_not_with_traces_of_harnesses(services: Services) -> None:
    def trial(number: int, **fields: Any) -> RunBody:
        mark = {"experiment": {"variant_id": "v"}, "environment": "experiment"}
        return passing(f"run_1.trial_{number}", number) | mark | fields

    failed = post(services, trial(1, status="failure", error_type="WrongAnswer"))
    post(services, trial(2))
    post(services, trial(4, status="failure", error_type="WrongAnswer"))
    traces = {number: f"trace-of-16-by-{number}".encode() for number in (1, 2, 3, 4)}
    for number, trace_id in traces.items():
        agent = span("agent", attributes=AGENT, start=number, end=number + 1)
        agent.trace_id = trace_id
        resource = {
            "deployment.environment.name": "experiment",
            "relab.agent_run_id": f"run_1.trial_{number}",
            "relab.task_id": "t",
        }
        services.telemetry.ingest_otlp("traces", body_of([agent], resource), "protobuf")

    post(services, passing("same task outside of experiments", 5))

    assert ids(services, failed) == ["run_1.trial_2"]
    # The trace of the failed trial is a run that succeeded.
    assert services.telemetry.get(traces[1].hex()).outcome == "succeeded"
    trace, _ = services.telemetry.load(traces[1].hex())
    assert ids(services, trace) == [traces[3].hex(), traces[2].hex()]
