"""A cause that ends before its repair: people are called only if users are not served well afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from support.shops.small import HEALTH, Means, Watching, hasty, learnt, over, polled, unknown, watching, with_status
from support.shops.ways import GoOn, Way, at, is_act, is_dry_run, said

pytestmark = pytest.mark.anyio
ACTS = Policy(autonomy=Autonomy.ACT, cooldown_s=0.0)
SEARCH = "/api/v1/diagnostics/search"
NEVER_S = 100_000.0


def kinds(running: Watching) -> list[str]:
    """Return the kinds of all events, in order."""
    return [event.kind for each in running.incidents() for event in running.events(each)]


def has(running: Watching, kind: str, times: int = 1) -> Callable[[], bool]:
    """Return a condition that is true once there are so many events of this kind."""
    return lambda: kinds(running).count(kind) >= times


def before_the_call(running: Watching) -> list[str]:
    """Return the kinds of all events before the incident was handed over to a person, in order."""
    found = kinds(running)
    return found[: found.index("escalated")]


def patient(means: Means, **changed: Any) -> None:
    """Let the responder close an incident without a repair only after a time that no test reaches."""
    made = hasty(ACTS)
    times: dict[str, Any] = {"min_quiet_s": NEVER_S, "recovery_timeout_s": NEVER_S, **changed}
    means.settings = replace(made, verification=replace(made.verification, **times))


async def refuse(_request: httpx.Request, _go_on: GoOn) -> httpx.Response:
    """Refuse an action as a server does whose precondition does not hold."""
    return said(409, {"code": "precondition_failed", "detail": "It is not shut."})


def ends(
    means: Means,
    way: Way,
    then: Callable[[], object] = lambda: None,
    at_the: Callable[[httpx.Request], bool] = is_dry_run,
) -> None:
    """Let the cause end just before the first dry run or action, which the action server therefore refuses."""

    def end() -> None:
        means.shop.broken.clear()
        then()

    way.meet = at(at_the, 1, end, then=refuse)


def require_search(means: Means) -> None:
    """Let the cause count as gone only if no search index is broken, too."""
    book = means.books / "valve_a_shut.md"
    book.write_text(book.read_text().replace("mended:\n", "mended:\n  - {fact: search.broken, at_most: 0}\n"))


async def ended(running: Watching, means: Means) -> None:
    """Break a valve, and wait until the responder has found that this cause has ended."""
    await learnt(running)
    means.shop.broken.add("a")
    await running.until(has(running, "ended"))


@pytest.mark.parametrize("at_the", [is_dry_run, is_act])
async def test_incident_whose_cause_ended_before_the_repair_is_closed_without_a_call(
    fresh: Means, way: Way, at_the: Callable[[httpx.Request], bool]
) -> None:
    ends(fresh, way, at_the=at_the)
    async with watching(fresh) as running:
        await ended(running, fresh)
        found = await running.until(over(running))

    assert found.outcome is IncidentOutcome.PASSED
    assert "escalated" not in kinds(running)
    assert "valve_a_shut ended before it was repaired" in running.story()


@pytest.mark.parametrize("lag", [{"word": "degraded"}, {"p95_ms": 150.0}])
async def test_sign_that_lags_behind_or_is_small_calls_no_person_and_delays_the_end(
    fresh: Means, way: Way, lag: dict[str, Any]
) -> None:
    usual = {name: getattr(fresh.shop, name) for name in lag}

    def change(values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(fresh.shop, name, value)

    ends(fresh, way, lambda: change(lag))
    patient(fresh, min_quiet_s=6.0)
    async with watching(fresh) as running:
        await ended(running, fresh)
        await running.until(polled(running, 20))
        assert [each.status for each in running.incidents()] == [IncidentStatus.OPEN]
        change(usual)
        found = await running.until(over(running))

    assert found.outcome is IncidentOutcome.PASSED
    assert "escalated" not in kinds(running)


async def test_incident_that_does_not_end_in_time_is_handed_over(fresh: Means, way: Way) -> None:
    def lag() -> None:
        fresh.shop.word = "degraded"

    ends(fresh, way, lag)
    patient(fresh, recovery_timeout_s=30.0)
    async with watching(fresh) as running:
        await ended(running, fresh)
        await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert "ended" in before_the_call(running)
    assert "closed" not in before_the_call(running)


Change = Callable[[Means, Watching], None]


def fail_for_another_reason(means: Means, _running: Watching) -> None:
    """Let requests fail for a reason that no runbook covers."""
    unknown(means, 30.0)


def return_of_the_cause(means: Means, _running: Watching) -> None:
    """Shut the valve again."""
    means.shop.broken.add("a")


def report(means: Means, running: Watching) -> None:
    """Report the problem as a person."""
    anomaly = Anomaly("trigger", "trigger", Severity.WARNING, None, None, "Please look again.")
    running.log.open(
        means.target, at_us=means.shop.clock.now_us(), title="t", severity=Severity.WARNING, anomalies=[anomaly]
    )


def slow_down(means: Means, _running: Watching) -> None:
    """Let requests take much longer than usual."""
    means.shop.p95_ms = 400.0


def freeze(means: Means, _running: Watching) -> None:
    """Let the target report the same healthy figures again and again."""
    means.shop.lies.update(means.shop.truth())


@pytest.mark.parametrize("change", [fail_for_another_reason, return_of_the_cause, report, slow_down, freeze])
async def test_service_that_is_not_well_after_the_end_of_its_cause_is_handed_over(
    fresh: Means, way: Way, change: Change
) -> None:
    ends(fresh, way)
    patient(fresh)
    async with watching(fresh) as running:
        await ended(running, fresh)
        await running.until(polled(running, 5))
        assert "escalated" not in kinds(running)
        change(fresh, running)
        await running.until(has(running, "escalated"))


async def test_target_that_gives_no_answer_is_handed_over_at_once(fresh: Means, way: Way) -> None:
    ends(fresh, way)
    patient(fresh, metrics_window_s=NEVER_S)
    async with watching(fresh) as running:
        await ended(running, fresh)
        fresh.shop.lies[HEALTH] = httpx.ConnectError("silence")
        await running.until(with_status(running, IncidentStatus.ESCALATED))

    assert "ended" in before_the_call(running)
    assert "closed" not in before_the_call(running)


async def test_figures_from_the_time_of_the_cause_are_waited_for(fresh: Means, way: Way) -> None:
    ends(fresh, way, lambda: unknown(fresh, 30.0))
    patient(fresh, metrics_window_s=30.0)
    async with watching(fresh) as running:
        await ended(running, fresh)
        since = fresh.shop.clock.now_us()
        await running.until(has(running, "escalated"))
        (incident,) = running.incidents()
        at_us = next(event.at for event in running.events(incident) if event.kind == "escalated")

    assert at_us - since >= 25_000_000


async def test_cause_that_the_last_probe_shows_again_is_handed_over(fresh: Means, way: Way) -> None:
    running: Watching

    def search() -> dict[str, Any]:
        is_back = "ended" in kinds(running)
        return {"workers": [{"worker": 0, "products": {"state": "lost" if is_back else "ready"}}]}

    fresh.shop.lies[SEARCH] = search
    ends(fresh, way)
    require_search(fresh)
    async with watching(fresh) as running:
        await ended(running, fresh)
        await running.until(has(running, "escalated"))

    assert "ended" in before_the_call(running)
    assert "closed" not in before_the_call(running)


async def test_cause_whose_invariant_held_at_its_diagnosis_is_not_known_to_have_ended(fresh: Means, way: Way) -> None:
    fresh.shop.lies[SEARCH] = {"workers": []}
    ends(fresh, way)
    book = fresh.books / "valve_a_shut.md"
    text = book.read_text()
    book.write_text(text[: text.index("mended:")] + "mended:\n  - {fact: search.broken, at_most: 0}\n---\n\nTurn it.\n")
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(has(running, "escalated"))

    assert "ended" not in kinds(running)


async def test_cause_that_probes_still_show_is_handed_over_at_once(fresh: Means, way: Way) -> None:
    fresh.shop.lies[SEARCH] = {"workers": [{"worker": 0, "products": {"state": "lost"}}]}
    ends(fresh, way)
    require_search(fresh)
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        await running.until(has(running, "escalated"))

    assert "ended" not in kinds(running)


async def test_another_cause_that_begins_as_the_first_one_ends_is_repaired_at_once(fresh: Means, way: Way) -> None:
    ends(fresh, way, lambda: fresh.shop.broken.add("b"))
    async with watching(fresh) as running:
        await learnt(running)
        fresh.shop.broken.add("a")
        found = await running.until(over(running))

    assert found.outcome is IncidentOutcome.RESOLVED
    assert "ended" not in kinds(running)


async def test_person_may_dismiss_the_incident_during_the_wait(fresh: Means, way: Way) -> None:
    ends(fresh, way)
    patient(fresh)
    async with watching(fresh) as running:
        await ended(running, fresh)
        (incident,) = running.incidents()
        now_us = fresh.shop.clock.now_us()
        running.log.close(incident.incident_id, at_us=now_us, outcome=IncidentOutcome.DISMISSED)
        await running.until(lambda: running.responder.incident_id is None)

    assert "escalated" not in kinds(running)


async def test_person_who_reports_the_problem_during_the_new_diagnosis_is_called(fresh: Means, way: Way) -> None:
    running: Watching
    ends(fresh, way)

    def report_once() -> dict[str, Any]:
        if not fresh.shop.broken and "trigger" not in {each.detector for each in running.incidents()[0].findings}:
            report(fresh, running)
        return {"workers": [{"worker": 0, "products": {"state": "ready"}}]}

    fresh.shop.lies[SEARCH] = report_once
    require_search(fresh)
    async with watching(fresh) as running:
        await ended(running, fresh)
        await running.until(has(running, "escalated"))

    assert "ended" in before_the_call(running)
    assert "closed" not in before_the_call(running)


async def test_restarted_responder_continues_the_wait(fresh: Means, way: Way) -> None:
    ends(fresh, way)
    patient(fresh)
    async with watching(fresh) as running:
        await ended(running, fresh)
    fresh.settings = hasty(ACTS)
    async with watching(fresh, "second") as running:
        found = await running.until(over(running))

    assert found.outcome is IncidentOutcome.PASSED
    assert kinds(running).count("closed") == 1
    assert "escalated" not in kinds(running)
