"""Revision 0009 on a database with runs: it adds outcomes, their counts, and a job that applies the rules."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import text

from relab.core.clock import parse_time
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade
from relab.telemetry.handlers import TelemetryHandlers
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from relab.telemetry.outcome_models import OUTCOME_VERSION, RunOutcome
from relab.telemetry.service import REMAP_JOB, TelemetryService
from support.clocks import MovableClock
from support.storage.migrated import migrate
from support.telemetry.runs import RunBody, failed_run, minimal_run, time_text, tool_call

UNRECOVERED = tool_call("c", status="failure", args_json={"id": 1}, error_message="timed out")
BODIES: list[RunBody] = [
    minimal_run("good", cost={"total_cost_usd": 0.5}),
    minimal_run("apology", tool_calls=[UNRECOVERED], started_at=time_text(3_700)),
    failed_run("bad", started_at=time_text(7_300), ended_at=None),
    minimal_run("running", status="running"),
    minimal_run("cancelled", status="cancelled"),
]
PROVISIONAL = {
    "good": "succeeded",
    "apology": "succeeded",
    "bad": "failed",
    "running": "unknown",
    "cancelled": "unknown",
}
DECIDED = {**PROVISIONAL, "apology": "completed_with_errors"}


def fill(database: Database) -> None:
    """Store runs with the current schema, and migrate down."""
    migrate(database)
    for body in BODIES:
        telemetry(database).ingest(check_agent_run(body))
    downgrade(database, "0008")


@pytest.fixture
def used(copy_of: Callable[[Callable[[Database], None]], Database]) -> Database:
    """A database at revision 0008 that holds runs."""
    return copy_of(fill)


def telemetry(database: Database) -> TelemetryService:
    clock = MovableClock(parse_time(time_text(8_000)))
    return TelemetryService(database, clock, queue(database))


def queue(database: Database) -> JobQueue:
    return JobQueue(database, MovableClock(parse_time(time_text(8_000))), EmbeddedBackend())


def outcomes(database: Database) -> dict[str, str]:
    return {run.run_id: run.outcome.value for run in telemetry(database).list_runs(RunFilter()).items}


def counts(database: Database) -> dict[RunOutcome, int]:
    return {outcome: count for outcome, count in telemetry(database).overview(48).outcomes.items() if count}


def test_stored_runs_get_the_outcome_of_their_status_until_the_job_has_run(used: Database) -> None:
    upgrade(used)

    assert outcomes(used) == PROVISIONAL
    assert counts(used) == {"succeeded": 2, "failed": 1, "unknown": 2}
    assert telemetry(used).overview(48).runs_without_cost == 3
    assert telemetry(used).get("apology").outcome_rule is None
    [job] = queue(used).list()
    assert (job.name, job.status, job.args) == (REMAP_JOB, "pending", {})

    TelemetryHandlers(telemetry(used)).remap(job.args)

    assert outcomes(used) == DECIDED
    assert counts(used) == {"succeeded": 1, "completed_with_errors": 1, "failed": 1, "unknown": 2}
    assert telemetry(used).get("apology").outcome_rule == "tool_failed"
    assert telemetry(used).get("apology").outcome_evidence[0].text == "timed out"
    assert telemetry(used).count_outdated() == 0


@pytest.mark.parametrize("again", [False, True], ids=["up", "up, down and up"])
def test_deleted_runs_are_subtracted_from_the_counts(used: Database, again: bool) -> None:
    upgrade(used)
    if again:
        downgrade(used, "0008")
        upgrade(used)
        assert len(queue(used).list()) == 1
    list(telemetry(used).remap(batch=2))
    for body in BODIES:
        telemetry(used).delete(body["run_id"])

    assert counts(used) == {}
    assert telemetry(used).overview(48).runs_without_cost == 0


def test_empty_database_gets_no_job(database: Database) -> None:
    assert queue(database).list() == []


def test_answer_that_is_not_text_is_kept_in_another_field(used: Database) -> None:
    answers = {"good": {"text": "late"}, "apology": 7, "cancelled": ["a"]}
    with used.write() as unit:
        for run_id, answer in answers.items():
            unit.session.execute(
                text("UPDATE agent_runs SET data = :data WHERE run_id = :run_id"),
                {
                    "data": json.dumps({**minimal_run(run_id), "answer": answer, "question": "Where is it?"}),
                    "run_id": run_id,
                },
            )
    upgrade(used)
    list(telemetry(used).remap())

    for run_id, answer in answers.items():
        run = telemetry(used).get(run_id)
        assert (run.answer, run.question) == (None, "Where is it?")
        assert run.model_extra is not None
        assert run.model_extra["answer_as_sent"] == answer


def test_remap_continues_after_a_stop_and_starts_at_a_given_time(used: Database) -> None:
    upgrade(used)
    service = telemetry(used)
    first = next(service.remap(batch=1))

    assert first.counts.runs == 1
    assert service.count_outdated() == len(BODIES) - 1
    assert sum(done.counts.runs for done in service.remap(parse_time(time_text(3_700)))) == 2
    assert sum(done.counts.runs for done in service.remap()) == 2
    assert outcomes(used) == DECIDED
    with used.read() as session:
        assert session.execute(text("SELECT DISTINCT outcome_version FROM agent_runs")).scalars().all() == [
            OUTCOME_VERSION
        ]
