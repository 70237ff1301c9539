"""Scores of episodes: hand-made episodes with known figures, and properties of arbitrary episodes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.testbed.scoring.observations import Act, Look, Observed, ObservedSecond, usual_share, well_since
from relab.testbed.scoring.score import SUSTAINED_S, score
from relab.testbed.scoring.status import Sight
from relab.testbed.scoring.truth import Truth
from support.testbed.leaks import fault_with

TRUTH = Truth.of([fault_with("db_down", ["restart-database"], ["restart-target"])])
ONSET_S, MENDED_S, END_S = 10.0, 20.0, 30.0


def seconds(*bad_between: tuple[float, float], until_s: float = END_S, **how: int) -> list[ObservedSecond]:
    """Return seconds of ten requests; in the spans `bad_between`, all are unanswered, or `how` counts the failures."""
    bad = how or {"unanswered": 10}
    return [
        ObservedSecond(at, at + 1, 10, **(bad if any(low <= at < high for low, high in bad_between) else {}))
        for at in map(float, range(int(until_s)))
    ]


def looks(gone_s: float | None, until_s: float = END_S) -> list[Look]:
    times = [ONSET_S + 0.5 + step for step in range(int(until_s - ONSET_S))]
    return [Look(at, gone_s is None or at < gone_s) for at in times]


def sights(*opened: tuple[float, float, str, tuple[str, ...]], until_s: float = END_S) -> list[Sight]:
    found = []
    for at in (step / 2 for step in range(int(until_s * 2))):
        here = next((item for item in opened if item[0] <= at < item[1]), None)
        found.append(Sight(at, polls=int(at)) if here is None else Sight(at, incident=here[2], causes=here[3]))
    return found


def observed(**more: Any) -> Observed:
    """Return an episode: a database is down for ten seconds, and the responder detects, diagnoses and repairs it."""
    usual: dict[str, Any] = {
        "onset_s": ONSET_S,
        "ended_s": END_S,
        "seconds": seconds((ONSET_S, MENDED_S)),
        "sights": sights((12, 24, "one", ("database_down", "crash_loop"))),
        "looks": looks(MENDED_S),
        "acts": [Act(15, "restart-database", "succeeded")],
    }
    return Observed(**{**usual, **more})


def test_repair_time_counts_from_the_onset() -> None:
    found = score(observed(), TRUTH)
    assert found.detected is True
    assert found.time_to_detect_s == 2.0
    assert found.rank == 1
    assert found.mitigated is True
    assert found.time_to_mitigate_s == 10.0
    assert found.closed is True
    assert found.is_success is True
    assert found.harm_user_error_s == pytest.approx(10.0)
    assert found.actions == 1
    assert found.harmful_actions == 0
    assert found.false_alarms == 0
    assert found.healthy_polls == 10
    metrics = found.metrics(poll_s=1.0)
    assert metrics["detection_to_mitigation_s"] == 8.0
    assert metrics["diagnosis_at_1"] is True
    assert metrics["detected"] is True
    assert "mitigated_though_wrong" not in metrics


def test_served_users_do_not_count_as_repair_while_the_cause_is_present() -> None:
    found = score(observed(looks=looks(None)), TRUTH)
    assert found.mitigated is False
    assert found.time_to_mitigate_s is None
    assert found.is_success is False


def test_absent_cause_does_not_count_as_repair_while_users_are_served_badly() -> None:
    assert score(observed(seconds=seconds((ONSET_S, END_S))), TRUTH).mitigated is False


def test_unknown_presence_counts_as_present() -> None:
    unknown = [*looks(MENDED_S)[:-1], Look(END_S - 0.5, None)]
    assert score(observed(looks=unknown), TRUTH).mitigated is False
    assert score(observed(looks=[]), TRUTH).mitigated is False


def test_short_recovery_does_not_count_as_repair() -> None:
    assert score(observed(seconds=seconds((ONSET_S, END_S - SUSTAINED_S + 1))), TRUTH).mitigated is False


def test_repair_counts_from_the_end_of_a_relapse() -> None:
    relapse = observed(seconds=seconds((10, 13), (17, 19)), looks=looks(12))
    assert score(relapse, TRUTH).time_to_mitigate_s == 9.0


def test_incident_opened_before_the_onset_is_not_a_detection() -> None:
    found = score(observed(sights=sights((4, 25, "early", ("database_down",)))), TRUTH)
    assert found.detected is False
    assert found.false_alarms == 1
    assert found.time_to_detect_s is None


def test_each_early_incident_is_a_false_alarm_and_the_next_one_detects() -> None:
    found = score(
        observed(sights=sights((2, 4, "a", ()), (5, 7, "b", ()), (14, 22, "c", ("crash_loop", "database_down")))), TRUTH
    )
    assert found.false_alarms == 2
    assert found.detected is True
    assert found.time_to_detect_s == 4.0
    assert found.rank == 2
    assert found.metrics(1.0)["mitigated_though_wrong"] is True


def test_the_last_diagnosis_counts() -> None:
    found = score(observed(sights=sights((12, 14, "a", ("crash_loop",)), (14, 20, "a", ("database_down",)))), TRUTH)
    assert found.rank == 1


@pytest.mark.parametrize(
    ("action", "at_s", "status", "harmful"),
    [
        ("restart-database", 15, "succeeded", 0),
        ("restart-database", 5, "succeeded", 1),
        ("restart-target", 15, "succeeded", 1),
        ("restart-target", 15, "failed", 1),
        ("restart-target", 15, "started", 1),
        ("flush-cache", 15, "succeeded", 0),
        ("verify-target-health", 5, "succeeded", 0),
    ],
)
def test_harm_of_an_action_depends_on_its_kind_and_time(action: str, at_s: float, status: str, harmful: int) -> None:
    found = score(observed(acts=[Act(at_s, action, status)]), TRUTH)
    assert found.actions == 1
    assert found.harmful_actions == harmful


def test_repair_of_one_fault_is_not_harmful_for_the_other() -> None:
    both = Truth.of(
        [
            fault_with("cache_down", ["restart-cache"], ["restart-target"]),
            fault_with("db_pool", ["restart-target"], ["restart-cache"]),
        ]
    )
    assert both.causes == {"cache_down", "connection_pool_leak"}
    assert not both.harms


def test_rejections_but_not_slow_answers_allow_the_mitigation_of_a_spike() -> None:
    spike = Truth.of([fault_with("traffic_spike", ["set-flow-control"])])
    refused = observed(seconds=seconds((ONSET_S, END_S), refused=5))
    assert score(refused, spike).mitigated is True
    assert score(refused, TRUTH).mitigated is False
    assert score(refused, spike).harm_user_error_s == pytest.approx(10.0)
    assert score(observed(seconds=seconds((ONSET_S, END_S), slow=5)), spike).mitigated is False


def test_harm_counts_only_beyond_the_baseline() -> None:
    usual = [replace(item, slow=2) for item in seconds(until_s=END_S)]
    assert score(observed(seconds=usual), TRUTH).harm_user_error_s == pytest.approx(0.0)
    worse = [replace(item, slow=2 if item.at_s < ONSET_S else 7) for item in usual]
    assert score(observed(seconds=worse), TRUTH).harm_user_error_s == pytest.approx(10.0)


def test_healthy_episode_succeeds_without_alarm_and_action() -> None:
    healthy = observed(onset_s=None, seconds=seconds(), sights=sights(), looks=[], acts=[])
    found = score(healthy, Truth())
    assert found.is_success is True
    assert found.is_healthy is True
    assert found.healthy_polls == 29
    assert "detected" not in found.metrics(1.0)
    alarmed = replace(healthy, sights=sights((3, 5, "a", ())), acts=[Act(4, "restart-target", "succeeded")])
    found = score(alarmed, Truth())
    assert found.is_success is False
    assert found.false_alarms == 1
    assert found.harmful_actions == 1


def test_uncounted_polls_follow_from_the_poll_interval() -> None:
    silent = [replace(item, polls=None) for item in sights()]
    assert score(observed(sights=silent, poll_s=2.0), TRUTH).healthy_polls == 5


def test_escalation_is_harmless_if_nothing_harmful_was_done() -> None:
    asking = [replace(item, escalated=item.at_s > 12) for item in sights((12, 30, "a", ()))]
    assert score(observed(sights=asking, acts=[]), TRUTH).metrics(1.0)["escalated_harmless"] is True
    harmed = observed(sights=asking, acts=[Act(15, "restart-target", "succeeded")])
    assert score(harmed, TRUTH).metrics(1.0)["escalated_harmless"] is False


def test_harmless_repair_and_harmless_escalation_both_count_as_settled() -> None:
    asking = [replace(item, escalated=item.at_s > 12) for item in sights((12, 30, "a", ()))]
    for found, is_settled in (
        (score(observed(), TRUTH), True),
        (score(observed(sights=asking, acts=[]), TRUTH), True),
        (score(observed(sights=sights(), acts=[], looks=looks(None)), TRUTH), False),
        (score(observed(sights=asking, acts=[Act(15, "restart-target", "succeeded")]), TRUTH), False),
    ):
        assert found.metrics(1.0)["settled_harmless"] is is_settled


def test_a_responder_that_never_answers_is_scored() -> None:
    found = score(observed(sights=[Sight(1.0, answered=False)], acts=[]), TRUTH)
    assert found.detected is False
    assert found.rank is None
    assert found.mitigated is True
    assert found.closed is False


counts = st.integers(0, 20)
any_second = st.builds(ObservedSecond, st.floats(0, 50), st.floats(0, 50), counts, counts, counts, counts).map(
    lambda item: replace(item, until_s=item.at_s + 1)
)
any_sight = st.builds(
    Sight,
    at_s=st.floats(0, 50),
    answered=st.booleans(),
    incident=st.none() | st.sampled_from("abc"),
    causes=st.lists(st.sampled_from(["database_down", "crash_loop", "x"]), unique=True).map(tuple),
    escalated=st.booleans(),
    polls=st.none() | counts,
)
any_act = st.builds(
    Act,
    st.floats(-5, 60),
    st.sampled_from(["restart-database", "restart-target", "x"]),
    st.sampled_from(["succeeded", "failed", "refused"]),
)
any_look = st.builds(Look, st.floats(0, 50), st.none() | st.booleans())


@st.composite
def any_observed(draw: st.DrawFn) -> Observed:
    def in_order(items: st.SearchStrategy[Any]) -> list[Any]:
        return sorted(draw(st.lists(items, max_size=30)), key=lambda item: item.at_s)

    return Observed(
        onset_s=draw(st.none() | st.floats(0, 40)),
        ended_s=draw(st.floats(0, 60)),
        poll_s=draw(st.sampled_from([0.5, 1.0, 30.0])),
        seconds=in_order(any_second),
        sights=in_order(any_sight),
        looks=in_order(any_look),
        acts=in_order(any_act),
    )


@given(any_observed())
def test_figures_of_any_episode_are_finite_and_consistent(seen: Observed) -> None:
    found = score(seen, TRUTH)
    metrics = found.metrics(seen.poll_s)
    assert all(math.isfinite(value) for value in metrics.values())
    assert found.harm_user_error_s >= 0
    assert 0 <= found.harmful_actions <= found.actions <= len(seen.acts)
    assert found.false_alarms <= 3
    if seen.onset_s is None:
        assert found.detected is None
        assert found.mitigated is None
        assert found.rank is None
        assert found.harmful_actions == found.actions
    else:
        assert metrics["diagnosis_at_1"] <= metrics["diagnosis_at_3"]
        assert (found.time_to_mitigate_s is not None) is found.mitigated is found.is_success
        assert (found.time_to_detect_s is not None) is found.detected
        for time_s in (found.time_to_mitigate_s, found.time_to_detect_s):
            assert time_s is None or 0 <= time_s <= 60


@given(any_observed(), st.floats(41, 50))
def test_more_harm_never_improves_a_score(seen: Observed, at_s: float) -> None:
    seen.onset_s = seen.onset_s or 1.0
    worse = replace(
        seen,
        seconds=sorted([*seen.seconds, ObservedSecond(at_s, at_s + 1, 10, unanswered=10)], key=lambda item: item.at_s),
    )
    assert score(worse, TRUTH).harm_user_error_s >= score(seen, TRUTH).harm_user_error_s
    there = replace(seen, looks=[*seen.looks, Look(51.0, True)])
    assert score(there, TRUTH).mitigated is False


@given(st.lists(any_second, max_size=30), st.lists(any_look, max_size=30), st.floats(0, 40))
def test_recovery_has_a_start_and_an_end(found: list[ObservedSecond], looked: list[Look], onset_s: float) -> None:
    since = well_since(sorted(found, key=lambda item: item.at_s), sorted(looked, key=lambda item: item.at_s), onset_s)
    assert since is None or onset_s <= since[0] < since[1] <= 51
    assert 0 <= usual_share(found, onset_s) <= 1


def test_harm_before_the_onset_counts_and_does_not_raise_the_baseline() -> None:
    fault = seconds((ONSET_S, MENDED_S), unanswered=5)
    worse = [replace(item, unanswered=10) if 4 <= item.at_s < 7 else item for item in fault]
    at_first = Act(4, "restart-target", "succeeded")

    alone, harmed = (score(observed(seconds=each, acts=[at_first]), TRUTH) for each in (fault, worse))
    assert alone.harm_user_error_s == 5.0
    assert harmed.harm_user_error_s == 8.0
    assert harmed.time_to_mitigate_s == alone.time_to_mitigate_s == 10.0
    noise = score(observed(seconds=worse, acts=[]), TRUTH)
    assert noise.harm_user_error_s == 5.0, "what nobody did is nobody's harm"


def test_undo_of_a_wrong_action_is_not_harmful() -> None:
    wrong, undo = Act(12, "restart-target", "undone"), Act(13, "restart-target", "succeeded", is_undo=True)
    found = score(observed(acts=[wrong, undo]), TRUTH)
    assert found.actions == 1
    assert found.harmful_actions == 1

    right, spoilt = Act(12, "restart-database", "undone"), Act(13, "restart-database", "succeeded", is_undo=True)
    found = score(observed(acts=[right, spoilt]), TRUTH)
    assert found.actions == 1
    assert found.harmful_actions == 1


def test_undo_of_an_obsolete_repair_is_not_harmful() -> None:
    right, lifted = Act(12, "restart-database", "undone"), Act(16, "restart-database", "succeeded", is_undo=True)
    found = score(observed(acts=[right, lifted], looks=looks(14)), TRUTH)
    assert found.actions == 1
    assert found.harmful_actions == 0


def test_incident_of_an_earlier_episode_is_neither_alarm_nor_detection() -> None:
    seen = sights((0, 3, "before", ()), (12, 24, "one", ("database_down",)))
    kept, fresh = (score(observed(sights=seen, keeps_home=kept), TRUTH) for kept in (True, False))
    assert kept.false_alarms == 0
    assert fresh.false_alarms == 1
    assert kept.time_to_detect_s == 2.0
    still = score(observed(sights=sights((0, 30, "before", ())), keeps_home=True), TRUTH)
    assert still.false_alarms == 0
    assert still.detected is False


def test_episode_is_scored_even_if_no_status_was_answered() -> None:
    """A notice detects the second fault, although the responder never returned its status."""
    found = score(observed(trouble_s=5.0, sights=[Sight(1.0, answered=False)], notices=[12.0]), TRUTH)

    assert found.detected is True
    assert found.closed is None


def test_fault_at_the_very_beginning_is_not_mistaken_for_no_fault() -> None:
    found = score(observed(trouble_s=0.0, acts=[Act(5.0, "restart-database", "succeeded")]), TRUTH)

    assert found.harmful_actions == 0
    assert found.healthy_polls == 0
