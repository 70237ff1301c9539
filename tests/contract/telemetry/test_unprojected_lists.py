"""Lists of runs that are not projected yet: pages are complete, and a list projects only what its page needs."""

from __future__ import annotations

import pytest

from relab.bootstrap import Services
from relab.telemetry.models import RunFilter
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.projection import projector
from support.otlp.traces import AGENT, START_NS, Trace
from support.telemetry.unprojected import send, waiting


def scattered(count: int) -> list[Trace]:
    """Return traces; `send_scattered` gives them starts in no order, and lets a third of them fail."""
    return [Trace(f"scattered-{number}") for number in range(count)]


def send_scattered(services: Services, traces: list[Trace]) -> None:
    for number, trace in enumerate(traces):
        start = number * 37 % len(traces)
        failed = {"status": 2, "message": "no such order"} if number % 3 == 0 else {}
        send(services, [trace.span("root", None, AGENT, start_ms=start, end_ms=start + 5, **failed)])
        if number % 4 == 0:
            services.telemetry.projector.project(trace.id)
            # This root arrives last and starts before the known spans.
            send(services, [trace.span("before", None, AGENT, start_ms=start - 10.5, end_ms=start)])


def pages(services: Services, run_filter: RunFilter) -> list[list[str]]:
    found, cursor = [], None
    while not found or cursor is not None:
        page = services.telemetry.list_runs(run_filter, cursor=cursor, limit=4)
        found.append([run.run_id for run in page.items])
        cursor = page.next_cursor
    return found


FILTERS = {
    "none": RunFilter(),
    "an outcome": RunFilter(outcome=RunOutcome.FAILED),
    "a text": RunFilter(text="no such order"),
    "a time": RunFilter(started_after_us=START_NS // 1_000 + 5_000, started_before_us=START_NS // 1_000 + 15_000),
}


@pytest.mark.parametrize("name", FILTERS)
def test_pages_of_unprojected_runs_are_those_of_projected_ones(
    services: Services, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "FIRST_STEP", 3)
    send_scattered(services, scattered(24))

    before = pages(services, FILTERS[name])

    services.telemetry.projector.project()
    assert before == pages(services, FILTERS[name])
    assert sum(map(len, before)) > 4


def test_list_projects_only_what_its_page_needs(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "FIRST_STEP", 3)
    traces = scattered(24)
    for number, trace in enumerate(traces):
        send(services, [trace.span("root", None, AGENT, start_ms=number)])

    shown = services.telemetry.list_runs(RunFilter(), limit=2)

    assert [run.run_id for run in shown.items] == [trace.id for trace in reversed(traces[-2:])]
    assert len(waiting(services)) == 21


def sent_hours_ago(services: Services, name: str, hours: float) -> Trace:
    trace = Trace(name)
    start_ms = services.telemetry._clock.now_us() / 1_000 - hours * 3_600_000 - START_NS / 1e6
    send(services, [trace.span("root", None, AGENT, start_ms=start_ms, end_ms=start_ms + 5)])
    return trace


def test_overview_projects_only_runs_that_can_be_in_its_window(services: Services) -> None:
    old, new = sent_hours_ago(services, "old", 30), sent_hours_ago(services, "new", 1)

    figures = services.telemetry.overview(24)

    assert figures.total_runs == 1
    assert figures.unprojected_runs == 0
    assert waiting(services) == [old.id]
    assert new.id not in waiting(services)


def test_failed_runs_of_a_window_project_only_runs_that_can_be_in_it(services: Services) -> None:
    old = sent_hours_ago(services, "old", 30)
    sent_hours_ago(services, "new", 1)

    services.telemetry.failed.count(RunFilter(started_after_us=services.telemetry._clock.now_us() - 24 * 3_600_000_000))

    assert waiting(services) == [old.id]


def test_overview_after_a_burst_says_how_many_runs_it_leaves_out(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "MAX_SUM_SIZE", 3)
    traces = [sent_hours_ago(services, f"burst-{number}", 1) for number in range(8)]

    first = services.telemetry.overview(24)

    assert first.total_runs == 3
    assert first.unprojected_runs == 5
    # A run itself, and lists, are complete as soon as the spans are acknowledged.
    assert services.telemetry.get(traces[0].id).run_id == traces[0].id
    assert len(services.telemetry.list_runs(RunFilter()).items) == 8
    whole = services.telemetry.overview(24)
    assert whole.total_runs == 8
    assert whole.unprojected_runs == 0


def test_overview_does_not_wait_for_one_large_trace(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "MAX_SUM_SIZE", 3)
    small = sent_hours_ago(services, "small", 1)
    large = Trace("large")
    start_ms = services.telemetry._clock.now_us() / 1_000 - START_NS / 1e6
    send(services, [large.span(f"root-{number}", None, AGENT, start_ms=start_ms) for number in range(4)])

    figures = services.telemetry.overview(24)

    assert figures.total_runs == 1
    assert figures.unprojected_runs == 1
    assert waiting(services) == [large.id]
    assert services.telemetry.get(small.id).run_id == small.id
