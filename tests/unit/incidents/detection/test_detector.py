"""The detector: which anomalies open an incident, which pass, and which polls are ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.detection.baseline import MAX_SIGNALS, Baseline
from relab.incidents.detection.detector import DetectionResult
from relab.incidents.detection.rules import share_of_growth, theil_sen
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import AbsenceReason, Snapshot
from tests.support.incidents.polls import GOOD, SECOND_US, Polls


def signals(findings: DetectionResult) -> set[tuple[str, str]]:
    return {(item.detector, item.signal) for item in findings.confirmed}


def test_anomalies_from_days_ago_open_no_incident() -> None:
    polls = Polls()
    polls.polls(40, {"errors.pct": 40.0})
    polls.at_us += 3 * 86_400 * SECOND_US
    assert not polls.poll().opens


def test_leader_that_returns_continues_with_the_stored_baseline() -> None:
    polls, others = Polls(), Polls(healthy=40)
    polls.detector.begin_anew()
    polls.detector.take(others.detector.dump())
    assert polls.detector.baseline.polls == others.detector.baseline.polls


def test_healthy_target_opens_no_incident() -> None:
    polls = Polls()
    assert polls.poll() == DetectionResult()
    assert polls.detector.baseline.polls == 21


def test_seed_rule_needs_all_three_signals_in_one_poll() -> None:
    numbers = {"errors.pct": 67.8, "latency.avg_ms": 1_250.0}
    found = Polls(healthy=0).poll(numbers, {"pool": "critical"})
    assert ("seed_rule", "errors.pct") in signals(found)
    for wrong in ({"errors.pct": 50.0}, {"latency.avg_ms": 1_000.0}):
        assert ("seed_rule", "errors.pct") not in signals(
            Polls(healthy=0).poll({**numbers, **wrong}, {"pool": "critical"})
        )
    assert ("seed_rule", "errors.pct") not in signals(Polls(healthy=0).poll(numbers))


def test_level_shift_opens_an_incident_only_if_it_persists() -> None:
    polls = Polls()
    assert not polls.poll({"latency.p95_ms": 400.0}).opens
    assert polls.poll().is_quiet
    assert not polls.poll().opens
    polls.poll({"latency.p95_ms": 400.0})
    found = polls.poll({"latency.p95_ms": 400.0})
    assert found.opens
    assert signals(found) == {("level_shift", "latency.p95_ms")}


@pytest.mark.parametrize(
    "numbers", [{"latency.p95_ms": 39.0}, {"errors.pct": 0.9}, {"errors.pct": 60.0, "traffic.requests": 4.0}]
)
def test_change_without_user_impact_is_not_an_anomaly(numbers: dict[str, float]) -> None:
    assert Polls().polls(5, numbers).is_quiet


def test_persistent_errors_burn_the_error_budget() -> None:
    polls = Polls()
    assert ("burn_rate", "errors.pct") in signals(polls.polls(40, {"errors.pct": 30.0}))


def test_persistent_health_status_counts() -> None:
    for words in (
        {"dependency.cache": "failing"},
        {"worker.1": "stopped"},
        {"health": "critical"},
        {"pool": "critical"},
    ):
        polls = Polls()
        assert not polls.poll(words=words).opens
        assert polls.poll(words=words).opens


def test_unreachable_target_opens_an_incident_and_a_missing_log_does_not() -> None:
    polls = Polls()
    assert polls.polls(2, absent={"health": AbsenceReason.TIMED_OUT}).opens
    assert not Polls().polls(5, absent={"logs": AbsenceReason.REFUSED}).opens


def test_stale_metrics_open_no_incident() -> None:
    polls = Polls()
    frozen = polls.at_us
    found = polls.polls(4, {"errors.pct": 90.0}, told_at_us=frozen)
    assert found.is_stale is True
    assert found.opens is False


def test_lost_traffic_opens_an_incident_only_if_the_target_does_not_answer() -> None:
    polls = Polls()
    nobody = {"traffic.rps": 0.0, "traffic.requests": 0.0}
    assert not polls.polls(3, nobody).opens
    assert polls.polls(2, nobody, absent={"metrics": AbsenceReason.REFUSED}).opens


def test_single_restart_opens_no_incident_and_a_crash_loop_does() -> None:
    down = {"health": "degraded", "worker.1": "down"}
    # A restart that succeeds.
    polls = Polls(healthy=0)
    for number in range(20):
        polls.poll({"worker.1.uptime_s": 100.0 + number})
    assert not polls.poll({"worker.1.uptime_s": 0.1}, down).opens
    assert not polls.poll({"worker.1.uptime_s": 1.1}, down).opens
    for number in range(5):
        assert polls.poll({"worker.1.uptime_s": 2.1 + number}).is_quiet
    # A restart that recurs before all signals are normal.
    opened = [polls.poll({"worker.1.uptime_s": 0.1 * (number % 2)}, down).opens for number in range(6)]
    assert opened[:2] == [False, False]
    assert all(opened[3:])


def test_steady_growth_is_detected_before_exhaustion() -> None:
    polls = Polls(healthy=0)
    for _ in range(20):
        polls.poll({"worker.1.rss_mb": 150.0})
    found = [polls.poll({"worker.1.rss_mb": 150.0 + 10 * number}) for number in range(1, 12)]
    assert signals(found[-1]) == {("trend", "worker.1.rss_mb")}


def test_cache_that_fills_up_is_not_a_trend() -> None:
    polls = Polls(healthy=0)
    for _ in range(20):
        polls.poll({"worker.1.rss_mb": 150.0})
    assert all(polls.poll({"worker.1.rss_mb": 150.0 + min(5 * number, 20)}).is_quiet for number in range(30))


def test_unhealthy_polls_are_not_learnt_and_a_clock_step_resets_the_history() -> None:
    polls = Polls()
    before = polls.detector.baseline.polls
    polls.polls(5, {"errors.pct": 50.0})
    assert polls.detector.baseline.polls == before
    polls.at_us -= 3_600 * SECOND_US
    polls.poll()
    assert len(polls.detector.history) == 1


def test_clock_set_back_ends_the_grace_period_of_a_restart() -> None:
    polls = Polls(healthy=0)
    polls.polls(20, {"worker.1.uptime_s": 100.0})
    assert not polls.poll({"worker.1.uptime_s": 1.0, "errors.pct": 20.0}).opens
    polls.at_us -= 86_400 * SECOND_US
    assert polls.polls(3, {"worker.1.uptime_s": 5.0, "errors.pct": 20.0}).opens


def test_figures_stay_stale_until_a_newer_timestamp_arrives() -> None:
    polls = Polls()
    polls.polls(4, told_at_us=5)
    assert polls.poll(told_at_us=5, absent={"logs": AbsenceReason.TIMED_OUT}).is_stale
    assert polls.poll(told_at_us=None, absent={"health": AbsenceReason.TIMED_OUT}).is_stale
    assert not polls.poll(told_at_us=6).is_stale


def test_errors_of_a_closed_incident_do_not_burn_the_budget() -> None:
    polls = Polls(DetectionSettings(poll_interval_s=1.0, confirm_polls=1, confirm_of_polls=1))
    assert ("burn_rate", "errors.pct") in signals(polls.polls(10, {"errors.pct": 60.0}))
    assert ("burn_rate", "errors.pct") in signals(polls.poll())
    polls.detector.settle()
    assert polls.polls(9).is_quiet
    assert ("burn_rate", "errors.pct") in signals(polls.polls(10, {"errors.pct": 60.0}))


def test_number_of_learned_signals_is_bounded() -> None:
    baseline = Baseline()
    for number in range(20):
        routes = {f"route.{number}.{name}.rps": 1.0 for name in range(300)}
        baseline.learn(Snapshot(number, None, {**GOOD, **routes}))
    assert len(baseline.dump()) == MAX_SIGNALS
    assert baseline.usual("latency.p95_ms") is not None


def test_stored_baseline_is_restored() -> None:
    learnt = Polls().detector.baseline
    again = Baseline()
    again.take(learnt.dump())
    assert again.usual("latency.p95_ms") == learnt.usual("latency.p95_ms")
    assert again.polls == 20
    assert again.is_learnt is True
    again.take({})
    assert again.usual("errors.pct") is None


@given(
    slope=st.floats(-1e3, 1e3), start=st.floats(-1e6, 1e6), wild=st.lists(st.integers(0, 19), max_size=4, unique=True)
)
def test_slope_is_robust_against_outliers(slope: float, start: float, wild: list[int]) -> None:
    points = [(float(x), start + slope * x) for x in range(20)]
    spoilt = [(x, y + 1e9 if int(x) in wild else y) for x, y in points]
    if not wild:
        assert theil_sen(points) == pytest.approx(slope, rel=1e-6, abs=1e-6)
    # With at most a sixth of the points being outliers, more than half of the pairs are unaffected.
    elif len(wild) <= 3:
        assert theil_sen(spoilt) == pytest.approx(slope, rel=1e-3, abs=3e8)
    assert 0 <= share_of_growth(spoilt) <= 1


def small(polls: Polls, count: int) -> list[bool]:
    return [polls.poll({"route.order.p95_ms": 120.0, "latency.p95_ms": 21.0}).opens for _ in range(count)]


def test_few_slow_requests_open_no_incident_while_they_are_in_the_window() -> None:
    polls = Polls(healthy=0)
    for _ in range(20):
        polls.poll({"route.order.p95_ms": 20.0})
    assert not any(small(polls, 6))
    for _ in range(8):
        assert not polls.poll({"route.order.p95_ms": 20.0}).opens
    # A persistent increase counts, and a large one counts sooner.
    opened = small(polls, 12)
    assert opened == [False] * 9 + [True] * 3
    polls = Polls()
    assert [polls.poll({"latency.p95_ms": 400.0}).opens for _ in range(2)] == [False, True]


def test_long_poll_interval_confirms_small_anomalies_equally_fast() -> None:
    polls = Polls(DetectionSettings(poll_interval_s=30.0))
    assert [polls.poll({"latency.p95_ms": 120.0}).opens for _ in range(3)] == [False, True, True]


def test_rolling_restart_of_workers_opens_no_incident() -> None:
    polls = Polls(healthy=0)
    both = {"worker.1.uptime_s": 100.0, "worker.2.uptime_s": 100.0}
    for _ in range(20):
        polls.poll(both)
    slow = {"latency.p95_ms": 150.0}
    opened = []
    for away, other in ((1, 2), (2, 1)):
        there = f"worker.{other}.uptime_s"
        uptime = 3.0 if away == 2 else 104.0
        opened += [polls.poll({there: uptime}, {f"worker.{away}": "down"}).opens for _ in range(4)]
        opened += [polls.poll({there: uptime + 4, f"worker.{away}.uptime_s": 1.0 + n, **slow}).opens for n in range(3)]
    assert not any(opened)
    for number in range(8):
        assert not polls.poll({"worker.1.uptime_s": 20.0 + number, "worker.2.uptime_s": 5.0 + number}).opens


def test_missing_or_frozen_worker_is_detected() -> None:
    polls = Polls()
    opened = [polls.poll(words={"worker.1": "down"}).opens for _ in range(12)]
    assert opened.index(True) == 9


def test_percentile_of_few_requests_opens_no_incident() -> None:
    polls = Polls(healthy=0)
    for _ in range(20):
        polls.poll({"route.order.p95_ms": 20.0})
    slow = {"route.order.p95_ms": 900.0}
    # The window is 30 s, so 10 requests per second give 300 requests.
    assert not polls.polls(5, {**slow, "route.order.rps": 0.5}).opens
    polls.polls(12, {"route.order.p95_ms": 20.0})
    assert polls.polls(2, {**slow, "route.order.rps": 2.0}).opens


def test_persistent_degraded_status_is_an_anomaly() -> None:
    polls = Polls()
    opened = [polls.poll(words={"health": "degraded"}).opens for _ in range(12)]
    assert opened.index(True) == 9


def test_persistently_late_responses_open_an_incident_despite_good_metrics() -> None:
    polls = Polls()
    polls.polls(20, {"answer.ms": 8.0})
    assert not any(polls.poll({"answer.ms": 700.0}).opens for _ in range(6))
    polls.polls(12, {"answer.ms": 200.0})
    late = [polls.poll({"answer.ms": 700.0}) for _ in range(12)]
    assert late[-1].opens
    assert signals(late[-1]) == {("level_shift", "answer.ms")}
    assert not any(findings.opens for findings in late[:9])


def test_response_time_is_not_judged_before_the_first_response() -> None:
    assert not Polls(healthy=0).polls(20, {"answer.ms": 900.0}).opens


def test_anomaly_that_needs_one_more_poll_is_pressing() -> None:
    polls = Polls()
    assert not polls.poll().is_pressing
    assert not polls.poll({"latency.p95_ms": 90.0}).is_pressing, "small: it has to stay for long anyway"
    assert polls.poll({"errors.pct": 30.0}).is_pressing
    assert not polls.poll({"errors.pct": 30.0}).is_pressing, "it is one by now"


def test_no_anomaly_is_pressing_during_the_grace_period_of_a_restart() -> None:
    polls = Polls()
    polls.poll({"worker.1.uptime_s": 100.0})
    assert not polls.poll({"worker.1.uptime_s": 0.5, "errors.pct": 30.0}).is_pressing


def test_same_few_errors_in_several_polls_do_not_confirm_an_anomaly() -> None:
    one = {"errors.pct": 10.0, "traffic.requests": 10.0, "traffic.rps": 2.0}
    assert not any(Polls().poll(one).opens for _ in range(5))
    polls = Polls()
    assert not any(polls.poll(one).opens for _ in range(5))
    assert polls.polls(8, one).opens, "they come again and again"
    route = {"route.order.errors.pct": 100.0, "route.order.rps": 0.05}
    assert not Polls().polls(5, route).opens
    assert Polls().polls(2, {**one, "errors.pct": 30.0}).opens


def test_number_of_remembered_workers_is_bounded() -> None:
    polls = Polls()
    for number in range(1_200):
        polls.poll({f"worker.{number}.uptime_s": 10.0})
    assert len(polls.detector.dump()["baseline"]) < MAX_SIGNALS
    assert len(polls.detector._uptimes) <= 500
