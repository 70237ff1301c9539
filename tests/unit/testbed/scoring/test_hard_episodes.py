"""Hard episodes (two faults at once, a fault after an escalation, a busy machine): how they are made and scored."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.evaluation.figures import by_kind, figures_of, read_episode
from relab.testbed.chaos.faults.catalogue import FAULTS
from relab.testbed.scoring.busy import busy_loops
from relab.testbed.scoring.episodes import EPISODE_FAULTS, Episode, EpisodeKind, WrongEpisodeError
from relab.testbed.scoring.evaluation import AFTER, AT_ONCE, MEASURED, EvaluationRequest, parts_of
from relab.testbed.scoring.hard_episodes import (
    AFTER_ESCALATION,
    APART,
    GIVEN_TO_A_PERSON,
    after_escalation_episodes,
    at_once_episodes,
    with_busy_loops,
)
from relab.testbed.scoring.notified import NoticeReceiver
from relab.testbed.scoring.observations import Act, Look, Observed, ObservedSecond
from relab.testbed.scoring.outages import longest_unannounced_s, outages
from relab.testbed.scoring.score import Score, score
from relab.testbed.scoring.status import Sight, read_status
from relab.testbed.scoring.truth import Truth
from support.testbed.leaks import fault_with

WITHOUT = "RELAB_INCIDENTS__EXCLUDED_RUNBOOKS"
ONSET_S, END_S = 100.0, 200.0


def seconds(*bad: tuple[float, float, int], until_s: float = END_S) -> list[ObservedSecond]:
    """Return seconds of ten requests; `bad` has spans (from, until, number of requests without an answer)."""
    return [
        ObservedSecond(at, at + 1, 10, unanswered=max((many for low, high, many in bad if low <= at < high), default=0))
        for at in map(float, range(int(until_s)))
    ]


def looks(gone_s: dict[str, float], until_s: float = END_S) -> list[Look]:
    times = [ONSET_S + 0.5 + step for step in range(int(until_s - ONSET_S))]
    there = {at: tuple(name for name, gone in gone_s.items() if at < gone) for at in times}
    return [Look(at, bool(names), names) for at, names in there.items()]


@given(count=st.integers(1, 80), seed=st.integers(0, 5_000))
def test_hard_episodes_are_reproducible_from_their_seed(count: int, seed: int) -> None:
    for make in (at_once_episodes, after_escalation_episodes):
        found = with_busy_loops(make(count, seed), 0.25, seed)
        assert found == with_busy_loops(make(count, seed), 0.25, seed)
        assert [Episode.from_row(json.loads(json.dumps(episode.to_row()))) for episode in found] == found
        assert len({episode.task_id for episode in found}) == count
        assert sum(episode.busy_loops for episode in found) == round(count * 0.25)
        assert all(episode.takes_the_machine for episode in found if episode.busy_loops)


def test_two_faults_begin_at_once_and_no_action_repairs_both() -> None:
    for episode in at_once_episodes(200, seed=4):
        first, second = episode.faults
        assert first.at_s == second.at_s == episode.healthy_s
        assert episode.measured == episode.faults
        mends = [set(FAULTS[event.name].repairs) for event in episode.faults]
        assert not mends[0] & mends[1], episode.subject
    known = {name for group in APART for name in group}
    assert known <= set(EPISODE_FAULTS)
    assert not any(FAULTS[name].takes_the_machine for name in known)


def test_fault_after_an_escalation_is_measured_and_has_a_runbook() -> None:
    (part,) = parts_of(EvaluationRequest(episodes=0, compared=0, unknown=0, after_escalation=30, seed=2))
    (bindings,) = part.responders.values()
    without = json.loads(bindings.responder_environment[WITHOUT])
    assert part.name == AFTER
    assert set(without) == {FAULTS[name].cause for name in GIVEN_TO_A_PERSON}
    for episode in part.episodes:
        first, second = episode.faults
        assert first.name in GIVEN_TO_A_PERSON
        assert second.name in AFTER_ESCALATION
        assert FAULTS[second.name].cause not in without
        assert episode.measured == (second,)
        assert second.after_escalation_s is not None
        assert 10 <= second.after_escalation_s <= 20
        assert episode.begins_s == second.at_s == first.at_s + 60


def test_hard_episodes_and_busy_loops_are_parts_of_an_evaluation() -> None:
    wanted = EvaluationRequest(
        episodes=20, compared=0, unknown=0, at_once=10, after_escalation=10, busy_share=0.25, seed=11
    )
    parts = parts_of(wanted)
    assert [(part.name, len(part.episodes)) for part in parts] == [("further", 20), (AT_ONCE, 10), (AFTER, 10)]
    assert all(list(part.responders) == [MEASURED] for part in parts)
    assert [sum(episode.busy_loops for episode in part.episodes) for part in parts] == [5, 2, 2]


def after_another(**more: Any) -> Observed:
    """Return an episode: an index fault at 50 s is escalated; a hang at 100 s is repaired at 120 s."""
    usual: dict[str, Any] = {
        "trouble_s": 50.0,
        "onset_s": ONSET_S,
        "ended_s": END_S,
        "seconds": seconds((50, END_S, 3), (ONSET_S, 122, 9)),
        "sights": [
            *(Sight(float(at)) for at in range(52)),
            *(Sight(float(at), incident="one", phase="escalated", escalated=True) for at in range(52, 104)),
            *(Sight(float(at), incident="one", causes=("process_stopped", "crash_loop")) for at in range(104, 125)),
            *(Sight(float(at), incident="one", escalated=True, causes=("memory_leak",)) for at in range(125, 200)),
        ],
        "looks": looks({"hang": 121.0}),
        "acts": [Act(60.0, "restart-cache", "failed"), Act(120.0, "resume-process", "succeeded")],
        "notices": [53.0, 105.0],
    }
    return Observed(**{**usual, **more})


TRUTH = Truth.of(
    [
        fault_with("search_index", ["rebuild-index"], ["restart-database"]),
        fault_with("hang", ["resume-process"], ["restart-database"]),
    ],
    {"hang"},
)


def test_later_fault_is_measured_against_the_users_during_the_first() -> None:
    found = score(after_another(), TRUTH)
    assert found.detected is True
    assert found.time_to_detect_s == 4.0
    assert found.rank == 1
    assert found.mitigated is True
    assert found.time_to_mitigate_s == 22.0
    assert found.closed is None
    assert found.false_alarms == 0
    assert found.harmful_actions == 0
    assert found.harm_user_error_s == pytest.approx(22 * 0.6)
    assert found.unannounced_s == pytest.approx(5.0)


def test_unnoticed_second_fault_is_neither_detected_nor_named_nor_announced() -> None:
    silent = after_another(
        seconds=seconds((50, END_S, 3), (ONSET_S, END_S, 9)),
        sights=[*(Sight(float(at), incident="one", phase="escalated", escalated=True) for at in range(52, 200))],
        looks=looks({"hang": END_S}),
        acts=[],
        notices=[53.0],
    )
    found = score(silent, TRUTH)
    assert found.detected is False
    assert found.rank is None
    assert found.mitigated is False
    assert found.unannounced_s == END_S - ONSET_S
    metrics = found.metrics(1.0)
    assert metrics["announced"] is False
    assert metrics["longest_unannounced_s"] == 100.0


def test_metrics_of_notices_are_absent_without_a_notice_address() -> None:
    metrics = score(after_another(notices=None), TRUTH).metrics(1.0)
    assert "announced" not in metrics


def test_each_outage_needs_its_own_notice() -> None:
    seen = after_another(seconds=seconds((ONSET_S, 112, 9), (130, 195, 9)), notices=[101.0])
    assert list(outages(seen.seconds, ONSET_S)) == [(100.0, 112.0), (130.0, 195.0)]
    assert longest_unannounced_s(seen) == 65.0
    seen.notices = [101.0, 150.0]
    assert longest_unannounced_s(seen) == 20.0


def test_a_short_recovery_does_not_end_an_outage() -> None:
    assert list(outages(seconds((100, 112, 9), (115, 130, 9)), ONSET_S)) == [(100.0, 130.0)]


def judged(*verdicts: tuple[str, str], gone_s: float = 121.0, acts: tuple[Act, ...] | None = None) -> Score:
    sights = [Sight(float(at), incident="one", acts=verdicts) for at in range(125, 200)]
    given_acts = [Act(120.0, "resume-process", "succeeded")] if acts is None else list(acts)
    return score(after_another(sights=sights, looks=looks({"hang": gone_s}), acts=given_acts), TRUTH)


def test_right_repair_with_a_failed_verdict_is_counted() -> None:
    assert judged(("resume-process", "verified")).judged_failed == 0
    found = judged(("restart-cache", "failed"), ("resume-process", "failed"))
    assert found.right_repairs == 1
    assert found.judged_failed == 1


def test_repair_that_does_not_remove_the_cause_is_not_right() -> None:
    found = judged(("resume-process", "failed"), gone_s=190.0)
    assert found.right_repairs == 0
    assert found.judged_failed == 0


def test_failed_attempt_does_not_count_against_the_later_right_repair() -> None:
    acts = (Act(105.0, "resume-process", "failed"), Act(170.0, "resume-process", "succeeded"))
    found = judged(("resume-process", "failed"), ("resume-process", "verified"), gone_s=171.0, acts=acts)
    assert found.right_repairs == 1
    assert found.judged_failed == 0


def test_each_of_two_causes_must_have_been_ranked_first() -> None:
    truth = Truth.of([fault_with("hang", ["resume-process"]), fault_with("db_lock", ["end-session"])])

    def all_named(*first: str) -> bool | None:
        sights = [Sight(105.0 + at, incident="one", causes=(name, "crash_loop")) for at, name in enumerate(first)]
        return score(after_another(trouble_s=ONSET_S, sights=sights), truth).all_named

    assert all_named("process_stopped", "database_lock") is True
    assert all_named("process_stopped", "memory_leak") is False
    assert score(after_another(), TRUTH).all_named is None


def test_malformed_actions_of_a_status_are_tolerated() -> None:
    acts: Any = [{"action": "resume-process", "verdict": None}, "x", {"action": 3, "verdict": "failed"}]
    assert read_status(0.0, {"incident": {"id": 1, "actions": acts}}).acts == (("resume-process", ""), ("3", "failed"))
    assert read_status(0.0, {"incident": {"id": 1, "actions": {"action": "x"}}}).acts == ()


def test_figures_have_kinds_repairs_and_announcements() -> None:
    def episode(number: int, kind: EpisodeKind, **metrics: Any) -> Any:
        ids = {"variant_id": "relab", "task_id": f"e-{number}"}
        usual = {"kind": kind.value, "subject": "x", "detected": True, "diagnosis_at_1": True, "mitigated": True}
        return read_episode({"ids": ids, "outcome": "success", "metrics": {**usual, **metrics}})

    episodes = [
        episode(1, EpisodeKind.AT_ONCE, right_repairs=2, right_repairs_judged_failed=1, announced=True),
        episode(
            2, EpisodeKind.AT_ONCE, mitigated=False, right_repairs=1, right_repairs_judged_failed=0, announced=False
        ),
        episode(3, EpisodeKind.FAULT, right_repairs=1, right_repairs_judged_failed=0),
    ]
    figures = figures_of(episodes)
    assert figures["judged_failed"]["hits"] == 1
    assert figures["judged_failed"]["of"] == 4
    assert figures["rates"]["announced"]["hits"] == 1
    assert figures["rates"]["announced"]["of"] == 2
    assert by_kind(episodes)["at_once"]["mitigated"] == [1, 2]
    assert by_kind(episodes)["fault"]["mitigated"] == [1, 1]


def test_receiver_keeps_the_times_of_notices() -> None:
    with NoticeReceiver(lambda: 7.5) as receiver:
        request = urllib.request.Request(receiver.url, b'{"text": "<b>"}', {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.read() == b"ok"
    assert receiver.times_s == [7.5]


def test_busy_loops_run_until_the_block_ends() -> None:
    here = psutil.Process()
    before = set(here.children())
    with busy_loops(2, longest_s=60):
        loops = set(here.children()) - before
        assert len(loops) == 2
        assert all(loop.is_running() for loop in loops)
    assert not any(loop.is_running() for loop in loops)


@pytest.mark.parametrize("make", [at_once_episodes, after_escalation_episodes])
def test_time_limit_out_of_range_is_rejected(make: Callable[..., list[Episode]]) -> None:
    with pytest.raises(WrongEpisodeError, match="time limit of 0 s"):
        make(1, 1, timeout_s=0.0)
