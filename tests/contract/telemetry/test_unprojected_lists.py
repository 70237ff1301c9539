"""Pages of lists of runs that are not projected yet: as complete as afterwards, and no more is projected than they need."""

from __future__ import annotations

import pytest

from relab.bootstrap import Services
from relab.telemetry import projector
from relab.telemetry.models import RunFilter
from relab.telemetry.outcome_models import RunOutcome
from support.otlp.traces import AGENT, START_NS, Trace
from support.telemetry.unprojected import send, waiting


def scattered(count: int) -> list[Trace]:
    """Return traces whose names give them starts in no order, a third of them failed; see `send_scattered`."""
    return [Trace(f"scattered-{number}") for number in range(count)]


def send_scattered(services: Services, traces: list[Trace]) -> None:
    for number, trace in enumerate(traces):
        start = number * 37 % len(traces)
        failed = {"status": 2, "message": "no such order"} if number % 3 == 0 else {}
        send(services, [trace.span("root", None, AGENT, start_ms=start, end_ms=start + 5, **failed)])
        if number % 4 == 0:
            services.telemetry.projector.project(trace.id)
            # A root that arrives last and starts before what is known.
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
