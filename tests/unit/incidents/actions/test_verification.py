"""Verification of an action: it succeeded only if users are served well for long enough and the cause is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.incidents.actions.records import RepairResult
from relab.incidents.actions.verification import verify
from relab.incidents.actions.verification_models import (
    ActionObservations,
    HealthBounds,
    VerificationResult,
    VerificationSettings,
)
from relab.incidents.models import AbsenceReason, Snapshot
from relab.knowledge.models import FactCondition, FactValue, Operator

SECOND_US = 1_000_000
ENDED_US = 1_800_000_000 * SECOND_US
SETTINGS = VerificationSettings(
    poll_interval_s=1.0, min_healthy_s=10.0, min_healthy_polls=5, effect_timeout_s=60.0, cause_timeout_s=40.0, recovery_timeout_s=240.0, metrics_window_s=30.0,
    min_worse_s=5.0,
)  # fmt: skip
BOUNDS = HealthBounds(errors_pct=1.0, p95_ms=100.0)
GOOD = {"errors.pct": 0.0, "latency.p95_ms": 20.0, "traffic.requests": 300.0}
BAD = {**GOOD, "errors.pct": 40.0, "latency.p95_ms": 900.0}
GONE = FactCondition("pool.pending", Operator.AT_MOST, 0.0)


def poll(at_s: float, numbers: Mapping[str, float] = GOOD, health: str | None = "healthy", **more: Any) -> Snapshot:
    words = {} if health is None else {"health": health}
    return Snapshot(ENDED_US + int(at_s * SECOND_US), numbers=numbers, words=words, **more)


def polls(begin_s: int, end_s: int, *args: Any, **more: Any) -> list[Snapshot]:
    return [poll(at_s, *args, **more) for at_s in range(begin_s, end_s)]


BEFORE = poll(-2, BAD)


def course(*parts: Sequence[Snapshot], **more: Any) -> ActionObservations:
    given = {"mended": (GONE,), "facts": {"pool.pending": 0.0}, **more}
    seen = [item for part in parts for item in part]
    if "facts_at_us" not in given and seen:
        given["facts_at_us"] = seen[-1].at_us
    return ActionObservations(ENDED_US - SECOND_US, ENDED_US, given.pop("before", BEFORE), seen, **given)


def outcome(*parts: Sequence[Snapshot], bounds: HealthBounds = BOUNDS, **more: Any) -> VerificationResult:
    return verify(course(*parts, **more), bounds, SETTINGS)


def test_users_served_well_for_long_enough_with_the_cause_gone_is_proof() -> None:
    found = outcome(polls(1, 5, BAD), polls(5, 16))
    assert found.result == RepairResult.VERIFIED
    assert found.well_s == 10.0
    assert outcome(polls(1, 5, BAD), polls(5, 15)).result is RepairResult.NOT_YET


def test_least_number_of_polls_with_the_least_number_of_requests_is_proof() -> None:
    few = {**GOOD, "traffic.requests": 5.0}
    assert outcome([poll(at_s, few) for at_s in (1, 4, 7, 10, 13)]).result is RepairResult.VERIFIED
    assert outcome([poll(at_s, few) for at_s in (4, 7, 10, 13)]).result is RepairResult.NOT_YET


@pytest.mark.parametrize(("facts", "said"), [({"pool.pending": 3.0}, "is not so"), ({}, "is not known")])
def test_pending_verification_names_the_open_condition(facts: dict[str, FactValue], said: str) -> None:
    assert said in outcome(polls(1, 20), facts=facts).reason


@pytest.mark.parametrize(
    "facts",
    [
        {"facts": {"pool.pending": 3.0}},
        {"facts": {}},
        {"facts": None},
        {"facts": {"pool.pending": "none"}},
        # Facts probed before users were served well, and facts that are too old.
        {"facts_at_us": ENDED_US + SECOND_US},
        {"facts_at_us": ENDED_US + 10 * SECOND_US},
        {"facts_at_us": ENDED_US - SECOND_US},
        {"facts_at_us": None},
    ],
)
def test_verification_needs_fresh_facts_that_the_cause_is_gone(facts: dict[str, Any]) -> None:
    assert outcome(polls(1, 30), **facts).result is RepairResult.NOT_YET


def test_facts_from_before_the_recovery_do_not_count() -> None:
    soon = replace(SETTINGS, min_healthy_s=2.0, min_healthy_polls=2)
    seen = polls(1, 9, BAD), polls(9, 12)
    for looked_s, expected in ((8.5, RepairResult.NOT_YET), (9.5, RepairResult.VERIFIED)):
        looked_us = ENDED_US + int(looked_s * SECOND_US)
        assert verify(course(*seen, facts_at_us=looked_us), BOUNDS, soon).result is expected


@pytest.mark.parametrize(
    ("last", "more"),
    [
        (poll(20, BAD), {}),
        (poll(20, {**GOOD, "errors.pct": 1.1}), {}),
        (poll(20, {**GOOD, "latency.p95_ms": 101.0}), {}),
        (poll(20, {"traffic.requests": 300.0, "errors.pct": 0.0}), {}),
        (poll(20, {**GOOD, "traffic.requests": 4.0}), {}),
        (poll(20, health="degraded"), {}),
        (poll(20, absent={"metrics": AbsenceReason.TIMED_OUT}), {}),
        (poll(20), {"stale": frozenset({ENDED_US + 20 * SECOND_US})}),
        (poll(40), {}),
    ],
)
def test_unhealthy_or_missing_poll_restarts_the_verification(last: Snapshot, more: dict[str, Any]) -> None:
    found = outcome(polls(1, 20), [last], **more)
    assert found.result == RepairResult.NOT_YET
    assert found.well_s == 0.0


def test_health_of_a_target_without_usual_traffic_is_trusted() -> None:
    quiet = HealthBounds(1.0, 100.0, needs_traffic=False)
    nobody = {"traffic.requests": 0.0}
    assert outcome(polls(1, 20, nobody), bounds=quiet).result is RepairResult.VERIFIED
    assert outcome(polls(1, 20, nobody, health=None), bounds=quiet).result is RepairResult.NOT_YET
    assert outcome(polls(1, 20, nobody)).result is RepairResult.NOT_YET


def test_repair_without_requests_says_that_it_cannot_be_verified() -> None:
    quiet = {**GOOD, "traffic.requests": 4.0}
    facts = {"facts_before": {"pool.pending": 9.0}}

    found = outcome(polls(1, 122, quiet), **facts)

    assert found.result is RepairResult.MITIGATED
    assert found.lacks_traffic
    assert "fewer than 5 requests arrived in 20 s" in found.reason
    assert outcome(polls(1, 60, quiet), **facts).result is RepairResult.NOT_YET
    ailing = outcome(polls(1, 122, quiet, health="degraded"), **facts)
    assert ailing.result is RepairResult.OTHER_CAUSE
    assert not ailing.lacks_traffic
    confirmed = outcome(polls(1, 122, quiet), **facts, other="cache_full")
    assert confirmed.result is RepairResult.OTHER_CAUSE
    assert "probably cache_full" in confirmed.reason


def test_verification_times_out_with_a_reason() -> None:
    assert outcome(polls(1, 60, BAD), facts=None).result is RepairResult.NOT_YET
    found = outcome(polls(1, 61, BAD), facts=None)
    assert found.result == RepairResult.FAILED
    assert "errors.pct is 40" in found.reason
    hidden = outcome(polls(1, 61), facts={})
    assert hidden.result == RepairResult.FAILED
    assert "not known" in hidden.reason


def test_recovering_target_gets_a_limited_time() -> None:
    assert outcome(polls(1, 56, BAD), polls(56, 62)).result.is_pending
    assert outcome(polls(1, 56, BAD), polls(56, 67)).result is RepairResult.VERIFIED
    # Polls with gaps between them never count as sustained.
    holes = [poll(number * 10) for number in range(1, 14)]
    assert outcome(holes).result is RepairResult.FAILED


def test_target_that_reports_degraded_gets_more_time_if_users_are_served() -> None:
    said = {"health": "degraded"}
    unseen: dict[str, Any] = {"facts": None}
    assert outcome(polls(1, 100, **said), **unseen).result is RepairResult.NOT_YET
    assert outcome(polls(1, 100, BAD, **said), **unseen).result is RepairResult.FAILED
    assert outcome(polls(1, 100, **said), polls(100, 111)).result is RepairResult.VERIFIED
    found = outcome(polls(1, 122, **said), **unseen)
    assert found.result == RepairResult.FAILED
    assert "calls itself degraded" in found.reason


@pytest.mark.parametrize(
    ("before", "outcome_then"), [("ok", RepairResult.FAILED), ("failing", RepairResult.RECOVERING)]
)
def test_verification_does_not_wait_for_a_dependency_that_fails_since_the_action(
    before: str, outcome_then: RepairResult
) -> None:
    words = {"health": "degraded", "dependency.search": "failing"}
    since = [replace(item, words=words) for item in polls(1, 62)]
    found = outcome(since, before=replace(BEFORE, words=words | {"dependency.search": before}))
    assert found.result is outcome_then
    assert outcome(since[:-2], before=BEFORE).result is RepairResult.NOT_YET
    # If the cause was observed before the action and is now gone, the failing dependency is another cause.
    there: dict[str, Any] = {"facts_before": {"pool.pending": 4.0}}
    found = outcome(since[:-25], before=replace(BEFORE, words=words | {"dependency.search": before}), **there)
    assert found.result is {"ok": RepairResult.OTHER_CAUSE, "failing": RepairResult.RECOVERING}[before]


def test_cause_that_is_still_observed_fails_the_action_sooner() -> None:
    there: dict[str, Any] = {"facts": {"pool.pending": 5.0}}
    assert outcome(polls(1, 40, BAD), **there).result is RepairResult.NOT_YET
    found = outcome(polls(1, 41, BAD), **there)
    assert found.result == RepairResult.FAILED
    assert "pool.pending" in found.reason


def test_missing_polls_are_not_a_failure() -> None:
    assert outcome().result is RepairResult.NOT_YET
    assert outcome([poll(900, BAD)], facts=None).result is RepairResult.NOT_YET
    assert outcome([poll(30, BAD), poll(61, BAD)], facts=None).result is RepairResult.NOT_YET


def test_cause_that_no_condition_describes_is_not_known_to_be_gone() -> None:
    slow = {**GOOD, "latency.p95_ms": 150.0}
    assert outcome(polls(1, 61, slow)).result is RepairResult.RECOVERING
    assert outcome(polls(1, 61, slow), mended=()).result is RepairResult.FAILED
    assert outcome(polls(1, 61), mended=()).result is RepairResult.VERIFIED


@pytest.mark.parametrize(
    ("begin_s", "numbers", "is_worse"),
    [
        (31, {**BAD, "errors.pct": 51.0}, True),
        (31, {**BAD, "errors.pct": 50.0}, False),
        (31, {**BAD, "latency.p95_ms": 1_351.0}, True),
        (31, {**BAD, "latency.p95_ms": 1_350.0}, False),
        # Ignore the action's own effect on the figures for half a minute, unless it is extreme.
        (10, {**BAD, "errors.pct": 60.0, "latency.p95_ms": 3_000.0}, False),
        (10, {**BAD, "errors.pct": 91.0}, True),
        (31, {**BAD, "errors.pct": 100.0, "traffic.requests": 3.0}, False),
    ],
)
def test_figures_above_the_bounds_of_worsening_are_worse(
    begin_s: int, numbers: dict[str, float], is_worse: bool
) -> None:
    assert (
        outcome(polls(1, begin_s, BAD), polls(begin_s, begin_s + 5, numbers), facts=None).result is RepairResult.NOT_YET
    )
    found = outcome(polls(1, begin_s, BAD), polls(begin_s, begin_s + 6, numbers), facts=None)
    assert found.result is (RepairResult.WORSE if is_worse else RepairResult.NOT_YET)


def test_target_that_stops_answering_is_worse_unless_it_was_silent_before() -> None:
    silent: dict[str, Any] = {"absent": {"health": AbsenceReason.REFUSED}}
    assert outcome(polls(1, 20, BAD, **silent), facts=None).result is RepairResult.WORSE
    assert (
        outcome(polls(1, 20, BAD, **silent), before=poll(-2, {}, **silent), facts=None).result is RepairResult.NOT_YET
    )


def test_clock_step_restarts_the_verification() -> None:
    back = [replace(item, at_us=item.at_us - 3_600 * SECOND_US) for item in polls(1, 20)]
    assert outcome(polls(1, 8), back[:5]).result is RepairResult.NOT_YET
    assert outcome(polls(1, 8), back).result is RepairResult.VERIFIED


@pytest.mark.parametrize("asleep_s", [100, 3_600, 86_400 * 365])
def test_clock_set_forward_does_not_cause_an_early_verdict(asleep_s: int) -> None:
    late = [replace(item, at_us=item.at_us + asleep_s * SECOND_US) for item in polls(8, 70, BAD)]
    well = [replace(item, at_us=item.at_us + asleep_s * SECOND_US) for item in polls(8, 20)]
    assert outcome(polls(1, 8, BAD), late[:10]).result is RepairResult.NOT_YET
    assert outcome(polls(1, 8, BAD), late[:10], facts={"pool.pending": 5.0}).result is RepairResult.NOT_YET
    assert outcome(polls(1, 8, BAD), late, facts=None).result is RepairResult.FAILED
    assert outcome(polls(1, 8), well[:5]).result is RepairResult.NOT_YET
    assert outcome(polls(1, 8), well).result is RepairResult.VERIFIED


FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "errors.pct": st.sampled_from([0.0, 0.5, 1.5, 40.0, 95.0]),
        "latency.p95_ms": st.sampled_from([10.0, 99.0, 101.0, 5_000.0]),
        "traffic.requests": st.sampled_from([0.0, 4.0, 300.0]),
    },
)
POLLS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 1, 2, 5, -3]),
        st.one_of(st.just(GOOD), FIGURES),
        st.sampled_from(["healthy", "healthy", "degraded", None]),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(POLLS, st.sampled_from([0.0, 2.0, None]), st.integers(0, 60))
def test_proof_is_never_given_too_early(
    steps: list[tuple[int, dict[str, float], str | None]], pending: float | None, looked_s: int
) -> None:
    at_s, seen = 0, []
    for step_s, numbers, health in steps:
        at_s += step_s
        seen.append(poll(at_s, numbers, health))
    facts: dict[str, FactValue] = {} if pending is None else {"pool.pending": pending}
    found = outcome(seen, facts=facts, facts_at_us=ENDED_US + looked_s * SECOND_US)
    assert found.reason
    if found.result is RepairResult.VERIFIED:
        last = seen[-1]
        assert pending == 0.0
        proof = [item for item in seen if item.at_us >= last.at_us - SETTINGS.min_healthy_s * SECOND_US]
        assert len(proof) >= SETTINGS.min_healthy_polls
        row = seen[-SETTINGS.min_healthy_polls :]
        assert all(item.numbers.get("errors.pct", 100.0) <= BOUNDS.errors_pct for item in row)
        assert all(item.numbers.get("latency.p95_ms", 1e9) <= BOUNDS.p95_ms for item in row)
        assert row[-1].at_us - SETTINGS.min_healthy_s * SECOND_US >= min(item.at_us for item in seen)
    if found.result is RepairResult.WORSE:
        assert any(
            item.numbers.get("errors.pct", 0.0) > 50 or item.numbers.get("latency.p95_ms", 0) > 1_350 for item in seen
        )


@settings(max_examples=60)
@given(st.integers(10, 40), st.sampled_from([0.0, 1.0]), st.sampled_from([20.0, 100.0]))
def test_healthy_polls_and_fresh_facts_verify_despite_earlier_errors(well: int, errors: float, p95: float) -> None:
    good = {**GOOD, "errors.pct": errors, "latency.p95_ms": p95}
    assert outcome(polls(1, 9, BAD), polls(9, 10 + well, good)).result is RepairResult.VERIFIED


SHEDDING = {"errors.pct": 62.0, "latency.p95_ms": 40.0, "traffic.requests": 300.0, "traffic.shed": 185.0}


@pytest.mark.parametrize("pending", [0.0, 3.0])
def test_facts_from_before_a_clock_step_do_not_count(pending: float) -> None:
    later = polls(31, 40, BAD)
    seen = {"facts": {"pool.pending": pending}, "facts_at_us": later[-1].at_us + SECOND_US}
    assert outcome(later, polls(-600, -560), **seen).result is RepairResult.NOT_YET


def test_target_that_sheds_load_is_judged_by_admitted_requests() -> None:
    refusing = polls(1, 20, SHEDDING, health="critical")
    assert outcome(refusing, sheds=True).result is RepairResult.VERIFIED
    assert outcome(refusing).result is not RepairResult.VERIFIED
    # Errors other than rejections count, and so does the latency of admitted requests.
    for bad in ({"errors.pct": 70.0}, {"latency.p95_ms": 300.0}):
        assert outcome(polls(1, 20, {**SHEDDING, **bad}), sheds=True).result is not RepairResult.VERIFIED


def test_more_rejected_requests_are_not_worse_if_they_are_the_repair() -> None:
    before = poll(-2, {**SHEDDING, "errors.pct": 20.0, "traffic.shed": 30.0, "latency.p95_ms": 900.0})
    refusing = polls(1, 60, {**SHEDDING, "latency.p95_ms": 150.0})
    assert outcome(refusing, sheds=True, before=before).result is not RepairResult.WORSE
    assert outcome(refusing, before=before).result is RepairResult.WORSE
