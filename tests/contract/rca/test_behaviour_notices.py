"""Searches of arriving runs for behaviours, with at most one notice for each rule and window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relab.bootstrap import Services, build
from relab.core.clock import format_time
from relab.incidents.notices.models import Notice, NoticeKind
from relab.incidents.notices.outbox import Outbox
from relab.jobs.models import JobStatus
from relab.rca.behaviours import arrivals
from relab.rca.service import SEARCH_JOB
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.clocks import MovableClock
from support.otlp.traces import AGENT, CHAT, Trace, encode
from support.telemetry.runs import failed_run, minimal_run

MINUTE_S = 60.0
DAY_US = 86_400 * 1_000_000
QUIET_S = 5.0
RULES = """
version: 1
behaviours:
  - name: apologised
    description: The agent apologised
    when: {answer: '(?i)sorry'}
    notify: {every_minutes: 30, severity: degraded}
  - name: thanked
    description: The agent thanked
    when: {answer: '(?i)thank'}
  - name: traced
    description: It is a trace
    when: {run: {agent: '^tracer$'}}
"""


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def here(services: Services, clock: MovableClock) -> Iterator[Services]:
    """An installation with rules, whose clock the test moves."""
    services.settings.home.mkdir(exist_ok=True)
    (services.settings.home / "rules.yaml").write_text(RULES)
    made = build(services.settings, clock=clock)
    Outbox(made.database).set_up("slack", at_us=0)
    yield made
    made.close()


def post(services: Services, run_id: str, *, is_failed: bool = False, **fields: Any) -> None:
    services.telemetry.ingest(check_agent_run((failed_run if is_failed else minimal_run)(run_id, **fields)))


def arrive(services: Services, clock: MovableClock, *, is_on: bool = True) -> None:
    """Move the clock past the quiet period, and request and run the due jobs, as a worker does."""
    clock.move(QUIET_S + 1)
    services.rca.analyze_arrivals(quiet_s=QUIET_S, max_waiting=1_000)
    services.rca.arrivals.queue_search(quiet_s=QUIET_S, is_on=is_on)
    runner = services.runner()
    while runner.run_next():
        pass


def shown(services: Services, behaviour: str) -> list[str]:
    return sorted(run.run_id for run in services.telemetry.list_runs(RunFilter(behaviour=behaviour)).items)


def notices(services: Services) -> list[Notice]:
    return [each.notice for each in Outbox(services.database).posted("slack", now_us=services.clock.now_us())]


def begin(services: Services, clock: MovableClock) -> None:
    """Let a worker read the rules, after which arriving runs are queued for the search."""
    arrive(services, clock)


def test_successful_run_is_searched_when_it_arrives(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    post(here, "polite", answer="Thank you.")
    arrive(here, clock)
    assert shown(here, "thanked") == ["polite"]
    assert here.rca.list_for_run("polite") == []


def test_trace_is_searched_when_it_is_complete(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    root = Trace("traced").span("root", None, {**AGENT, "gen_ai.agent.name": "tracer"}, end_ms=9)
    here.telemetry.ingest_otlp("traces", encode([root]), "protobuf")
    arrive(here, clock)
    assert len(shown(here, "traced")) == 1


def send_trace(services: Services, trace: Trace, *names: str) -> None:
    """Send an ended agent with model calls of these names, and let a reader project the run."""
    root = trace.span("root", None, {**AGENT, "gen_ai.agent.name": "tracer"}, end_ms=9)
    spans = [root, *(trace.span(name, "root", CHAT, start_ms=1, end_ms=2) for name in names)]
    services.telemetry.ingest_otlp("traces", encode(spans), "protobuf")
    services.telemetry.get(trace.id)


def test_trace_is_not_searched_before_it_is_quiet(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    trace = Trace("traced")
    send_trace(here, trace)
    clock.move(QUIET_S - 1)
    assert here.telemetry.awaiting.searches.due(QUIET_S, 10) == {}
    clock.move(1)
    assert list(here.telemetry.awaiting.searches.due(QUIET_S, 10)) == [trace.id]


def test_trace_that_changes_during_its_search_is_searched_again(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    searches, trace = here.telemetry.awaiting.searches, Trace("traced")
    send_trace(here, trace)
    clock.move(QUIET_S)
    searched = searches.due(QUIET_S, 10)
    send_trace(here, trace, "late")
    searches.done(searched)

    clock.move(QUIET_S)
    assert list(searches.due(QUIET_S, 10)) == [trace.id]


def test_traces_beyond_one_search_are_searched_by_the_next_one(
    here: Services, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "SEARCHED_RUNS", 2)
    begin(here, clock)
    traces = [Trace(f"traced {number}") for number in range(5)]
    for trace in traces:
        send_trace(here, trace)
    for _ in range(3):
        arrive(here, clock)
    assert shown(here, "traced") == sorted(trace.id for trace in traces)


def test_run_of_a_clock_that_was_set_back_is_searched(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    clock.move(86_400)
    post(here, "ahead", answer="Thank you.")
    clock.move(-86_400)
    arrive(here, clock)
    assert shown(here, "thanked") == ["ahead"]


def test_search_is_off_without_the_setting(here: Services, clock: MovableClock) -> None:
    arrive(here, clock, is_on=False)
    post(here, "polite", answer="Thank you.")
    arrive(here, clock, is_on=False)
    assert shown(here, "thanked") == []
    assert here.telemetry.awaiting.searches.due(0.0, 10) == {}


def test_run_that_changes_is_searched_again(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    post(here, "changing", answer="Done.")
    arrive(here, clock)
    post(here, "changing", answer="Thank you.")
    arrive(here, clock)
    assert shown(here, "thanked") == ["changing"]


def test_at_most_one_search_waits(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    post(here, "polite", answer="Thank you.")
    clock.move(QUIET_S + 1)
    for _ in range(3):
        here.rca.arrivals.queue_search(quiet_s=QUIET_S, is_on=True)
    waiting = here.queue.list(status=JobStatus.PENDING)
    assert [job.name for job in waiting].count(SEARCH_JOB) == 1


def test_storm_of_runs_sends_one_notice_in_each_window(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    for number in range(6):
        post(here, f"run-{number}", is_failed=number % 2 == 0, answer="I am sorry.")
    arrive(here, clock)
    assert len(shown(here, "apologised")) == 6
    [first] = notices(here)
    assert (first.kind, first.headline) == (NoticeKind.POSTED, "apologised: The agent apologised")
    assert (first.severity, first.wants_person) == ("degraded", False)

    clock.move(31 * MINUTE_S)
    post(here, "later", answer="Sorry again.")
    arrive(here, clock)
    assert [dict(each.details) for each in notices(here)][1] == {
        "run": "later",
        "also": "5 more runs since the notice before",
    }


def test_rules_without_notify_and_old_runs_send_no_notice(here: Services, clock: MovableClock) -> None:
    begin(here, clock)
    post(here, "polite", answer="Thank you.")
    post(here, "old", started_at=format_time(clock.now_us() - 2 * DAY_US), answer="Sorry.")
    arrive(here, clock)
    assert shown(here, "apologised") == ["old"]
    assert notices(here) == []


def test_analysis_that_a_person_requests_sends_no_notice(here: Services, clock: MovableClock) -> None:
    post(here, "mine", is_failed=True, answer="Sorry.")
    here.rca.request("mine")
    runner = here.runner()
    while runner.run_next():
        pass
    assert shown(here, "apologised") == ["mine"]
    assert notices(here) == []
