"""Verdicts on repairs: recovering while users are served but latency is high, and never recovering without proof."""

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
    poll_interval_s=1.0, min_healthy_s=8.0, min_healthy_polls=3, effect_timeout_s=40.0, cause_timeout_s=15.0, recovery_timeout_s=160.0,
    metrics_window_s=6.0, min_worse_s=10.0,
)  # fmt: skip
BOUNDS = HealthBounds(errors_pct=1.0, p95_ms=92.37)
WELL = {"errors.pct": 0.0, "latency.p95_ms": 45.0, "traffic.requests": 300.0}
SLOW = {**WELL, "latency.p95_ms": 112.5}
ILL = {**WELL, "errors.pct": 100.0, "latency.p95_ms": 2_000.0}
FREE = FactCondition("pool.fullest_pct", Operator.AT_MOST, 90.0)
SEEN: Mapping[str, FactValue] = {"pool.fullest_pct": 100.0}
GONE: Mapping[str, FactValue] = {"pool.fullest_pct": 5.0}


def polls(
    begin_s: int, end_s: int, numbers: Mapping[str, float], health: str = "healthy", **more: Any
) -> list[Snapshot]:
    words = {"health": health, **more.pop("words", {})}
    return [
        Snapshot(ENDED_US + at_s * SECOND_US, numbers=numbers, words=words, **more) for at_s in range(begin_s, end_s)
    ]


def verdict(
    *parts: Sequence[Snapshot],
    before: Mapping[str, float] = ILL,
    facts: Mapping[str, FactValue] = GONE,
    facts_before: Mapping[str, FactValue] = SEEN,
    of: VerificationSettings = SETTINGS,
    other: str = "",
) -> VerificationResult:
    seen = [item for part in parts for item in part]
    (was,) = polls(-2, -1, before)
    return verify(
        ActionObservations(
            ENDED_US - SECOND_US,
            ENDED_US,
            was,
            seen,
            mended=(FREE,),
            facts=facts,
            facts_at_us=seen[-1].at_us,
            facts_before=facts_before,
            other=other,
        ),
        BOUNDS,
        of,
    )


def test_gone_cause_with_high_latency_is_recovering_and_not_failed() -> None:
    """The case of `db_pool`: errors 100 to 0 %, pool 100 to 5 %, P95 112.5 ms above 92.37 ms."""
    for end_s in (20, 41, 100, 160):
        found = verdict(polls(1, end_s, SLOW))
        assert found.result == RepairResult.RECOVERING, end_s
        assert found.result.is_pending is True, end_s
    assert "latency.p95_ms is 112.5, above 92.37" in found.reason
    assert verdict(polls(1, 100, SLOW), polls(100, 109, WELL)).result is RepairResult.VERIFIED


def test_high_latency_after_the_recovery_timeout_is_mitigated() -> None:
    found = verdict(polls(1, 161, SLOW))
    assert found.result == RepairResult.MITIGATED
    assert "latency.p95_ms is 112.5" in found.reason


def test_target_that_reports_degraded_after_users_are_served_is_recovering() -> None:
    """The case of `cache_auth`: the target reported healthy 20 s after the verdict."""
    assert verdict(polls(1, 100, WELL, "degraded")).result is RepairResult.RECOVERING
    assert verdict(polls(1, 100, WELL, "degraded"), polls(100, 109, WELL)).result is RepairResult.VERIFIED
    assert verdict(polls(1, 161, WELL, "degraded")).result is RepairResult.MITIGATED


def test_slow_recovery_ends_when_another_cause_is_confirmed() -> None:
    assert not verdict(polls(1, 20, WELL, "degraded")).suspects_other
    late = verdict(polls(1, 22, WELL, "degraded"))
    assert late.result == RepairResult.RECOVERING
    assert late.suspects_other is True
    found = verdict(polls(1, 22, WELL, "degraded"), other="cache_full")
    assert found.result is RepairResult.OTHER_CAUSE
    assert "cache_full" in found.reason


def test_target_that_stays_degraded_without_user_impact_suggests_another_cause() -> None:
    """The case of `cache_full` with a broken search index: the cache is repaired, the target still reports degraded."""
    waiting = verdict(polls(1, 30, WELL, "degraded"), before=WELL)
    assert waiting.result is RepairResult.NOT_YET
    assert waiting.suspects_other
    assert (
        verdict(polls(1, 30, WELL, "degraded"), before=WELL, other="search_index_broken").result
        is RepairResult.OTHER_CAUSE
    )
    unseen = verdict(polls(1, 90, WELL, "degraded"), before=WELL, facts_before=GONE)
    assert unseen.result is RepairResult.FAILED


def test_new_errors_after_the_cause_is_gone_suggest_another_cause_and_not_a_worse_repair() -> None:
    """The case of `cache_auth` with `db_pool`: the cache is repaired in 1 s, and the pool is full 4 s later."""
    begun = {**WELL, "errors.pct": 5.0}
    seen = polls(1, 18, ILL)
    alone = verdict(seen, before=begun)
    assert alone.result == RepairResult.WORSE
    assert alone.suspects_other is True
    assert verdict(seen, before=begun, other="connection_pool_leak").result is RepairResult.OTHER_CAUSE
    # A cause that was not observed before the action, or is still present, does not excuse the action.
    for facts_before, facts in ((GONE, GONE), (SEEN, SEEN)):
        found = verdict(seen, before=begun, facts_before=facts_before, facts=facts, other="connection_pool_leak")
        assert found.result == RepairResult.WORSE
        assert found.suspects_other is False


def test_latency_that_alternates_around_its_bound_is_recovering() -> None:
    seen = [item for at_s in range(1, 120) for item in polls(at_s, at_s + 1, SLOW if at_s % 4 else WELL)]
    assert verdict(seen).result is RepairResult.RECOVERING
    # Also while the last poll is a good one.
    assert verdict(seen, polls(120, 121, WELL)).result is RepairResult.RECOVERING


@pytest.mark.parametrize(("p95_ms", "result"), [(1_046.0, RepairResult.RECOVERING), (1_047.0, RepairResult.FAILED)])
def test_half_of_the_excess_latency_must_be_gone(p95_ms: float, result: RepairResult) -> None:
    before = {**WELL, "latency.p95_ms": 2_000.0}
    assert verdict(polls(1, 41, {**WELL, "latency.p95_ms": p95_ms}), before=before, facts_before={}).result is result


def test_recovery_does_not_end_with_too_few_polls() -> None:
    seen = [item for at_s in range(30, 181, 30) for item in polls(at_s, at_s + 1, SLOW)]
    assert verdict(seen, of=replace(SETTINGS, min_healthy_polls=7)).result is RepairResult.RECOVERING
    assert verdict(seen, of=replace(SETTINGS, min_healthy_polls=6)).result is RepairResult.MITIGATED


def test_short_errors_do_not_end_the_recovery() -> None:
    blip = {**SLOW, "errors.pct": 3.0}
    assert verdict(polls(1, 60, SLOW), polls(60, 66, blip)).result is RepairResult.RECOVERING
    # Persistent errors have another cause.
    assert verdict(polls(1, 60, SLOW), polls(60, 90, blip)).result is RepairResult.OTHER_CAUSE


def test_a_repair_that_raises_latency_of_requests_that_failed_at_once_is_not_worse() -> None:
    refused = {**ILL, "latency.p95_ms": 3.0}
    assert verdict(polls(1, 30, {**SLOW, "latency.p95_ms": 300.0}), before=refused).result is RepairResult.RECOVERING
    assert verdict(polls(1, 30, {**ILL, "latency.p95_ms": 300.0}), before=refused).result is RepairResult.WORSE


# --- Ineffective repairs.


@pytest.mark.parametrize(
    ("now", "before", "facts"),
    [
        # The symptom only dips: latency falls by less than half of its excess.
        ({**WELL, "latency.p95_ms": 1_100.0}, {**WELL, "latency.p95_ms": 2_000.0}, GONE),
        ({**WELL, "latency.p95_ms": 2_000.0}, {**WELL, "latency.p95_ms": 2_000.0}, GONE),
        # The cause is unknown to be gone, or is still present.
        (SLOW, ILL, {}),
        (SLOW, ILL, {"pool.fullest_pct": 100.0}),
        (ILL, ILL, {"pool.fullest_pct": 100.0}),
        ({**ILL, "errors.pct": 40.0}, ILL, {}),
    ],
)
def test_ineffective_repair_is_not_a_recovery(
    now: dict[str, float], before: dict[str, float], facts: dict[str, FactValue]
) -> None:
    assert verdict(polls(1, 41, now), before=before, facts=facts, facts_before={}).result is RepairResult.FAILED


def test_remaining_errors_are_a_failure_only_if_the_cause_was_not_confirmed() -> None:
    errors = {**ILL, "errors.pct": 40.0}
    assert verdict(polls(1, 41, errors), facts_before=SEEN).result is RepairResult.OTHER_CAUSE
    for facts_before in ({}, GONE):
        assert verdict(polls(1, 41, errors), facts_before=facts_before).result is RepairResult.FAILED
    assert verdict(polls(1, 39, errors), facts_before=SEEN).result is RepairResult.NOT_YET


def test_dependency_that_fails_since_the_repair_is_another_cause_at_once() -> None:
    words = {"dependency.search": "failing"}
    assert verdict(polls(1, 20, SLOW, "degraded", words=words)).result is RepairResult.OTHER_CAUSE
    # It must fail for `min_worse_s` seconds.
    assert verdict(polls(1, 11, SLOW, "degraded", words=words)).result is RepairResult.NOT_YET
    assert verdict(polls(1, 12, SLOW, "degraded", words=words)).result is RepairResult.OTHER_CAUSE


def test_target_that_stops_answering_while_it_recovers_is_worse() -> None:
    silent = polls(60, 75, SLOW, absent={"metrics": AbsenceReason.TIMED_OUT})
    assert verdict(polls(1, 60, SLOW), silent).result is RepairResult.WORSE


FIGURES = st.fixed_dictionaries(
    {
        "errors.pct": st.sampled_from([0.0, 0.0, 0.5, 3.0, 40.0, 100.0]),
        "latency.p95_ms": st.sampled_from([45.0, 92.0, 112.5, 1_100.0, 5_000.0]),
        "traffic.requests": st.sampled_from([300.0, 300.0, 300.0, 2.0]),
    }
)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 60), FIGURES, st.sampled_from(["healthy", "degraded"])), min_size=1, max_size=6),
    FIGURES,
    st.sampled_from([GONE, SEEN, {}]),
    st.sampled_from([GONE, SEEN, {}]),
)
def test_no_verdict_calls_a_service_repaired_or_recovering_without_proof(
    rows: list[tuple[int, dict[str, float], str]],
    before: dict[str, float],
    facts: Mapping[str, FactValue],
    facts_before: Mapping[str, FactValue],
) -> None:
    seen: list[Snapshot] = []
    for count, numbers, health in rows:
        begin_s = len(seen) + 1
        seen += polls(begin_s, begin_s + count, numbers, health)
    found = verdict(seen, before=before, facts=facts, facts_before=facts_before)
    late = [item for item in seen if item.at_us >= seen[-1].at_us - 16 * SECOND_US]
    if found.result in {
        RepairResult.VERIFIED,
        RepairResult.RECOVERING,
        RepairResult.MITIGATED,
        RepairResult.OTHER_CAUSE,
    }:
        assert facts is GONE
    if found.result is RepairResult.VERIFIED:
        row = [item for item in late if item.at_us >= seen[-1].at_us - SETTINGS.min_healthy_s * SECOND_US]
        assert all(item.numbers["errors.pct"] <= 1.0 and item.numbers["latency.p95_ms"] <= 92.37 for item in row)
    if found.lacks_traffic:
        assert found.result is RepairResult.MITIGATED
        assert facts_before is SEEN
        assert all(item.numbers["traffic.requests"] < 5 and item.words["health"] == "healthy" for item in late)
        return
    if found.result in {RepairResult.RECOVERING, RepairResult.MITIGATED}:
        assert any(item.numbers["errors.pct"] <= 1.0 and item.numbers["traffic.requests"] >= 5 for item in late)
    if found.result is RepairResult.MITIGATED:
        assert len(seen) >= SETTINGS.recovery_timeout_s
    if found.result is RepairResult.OTHER_CAUSE:
        assert facts_before is SEEN


def test_every_verdict_becomes_final() -> None:
    for numbers in (SLOW, ILL, WELL, {**WELL, "traffic.requests": 2.0}):
        for health in ("healthy", "degraded"):
            for facts in (GONE, SEEN, {}):
                seen = polls(1, 165, numbers, health)
                assert not verdict(seen, facts=facts).result.is_pending


def test_recovery_timeout_extends_the_total_verification_time() -> None:
    slow = replace(SETTINGS, recovery_timeout_s=60.0)
    assert verdict(polls(1, 60, SLOW), of=slow).result is RepairResult.RECOVERING
    assert verdict(polls(1, 61, SLOW), of=slow).result is RepairResult.MITIGATED
