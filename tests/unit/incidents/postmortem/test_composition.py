"""Composing a postmortem: marked times, actions, diagnoses, evidence, and follow-ups that come from stored records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from relab.incidents.actions.approvals import Decision
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.models import Snapshot
from relab.incidents.postmortem.composition import MAX_ENTRIES, compose, lasted
from relab.incidents.postmortem.models import IncidentRecord, MarkKind
from relab.incidents.postmortem.signal_events import KIND, signals_event
from relab.incidents.storage.models import EventKind, IncidentOutcome, TimelineEvent
from support.incidents.acts import NOW_US, SECOND_US, act
from support.incidents.logs import question
from support.incidents.postmortems import CLOSED_US, OPENED_US, case, event, finding, incident, signals


def follow_ups(given: IncidentRecord) -> str:
    return "\n".join(f"{each.what} / {each.ground}" for each in compose(given).follow_ups)


def test_onset_detection_actions_and_end_are_marked() -> None:
    found = compose(case())
    assert [(mark.moment, mark.at - OPENED_US) for mark in found.marks] == [
        (MarkKind.ONSET, -20 * SECOND_US),
        (MarkKind.DETECTION, 0),
        (MarkKind.ACTION, 0),
        (MarkKind.ACTION, 0),
        (MarkKind.END, CLOSED_US - OPENED_US),
    ]
    assert found.summary[:2] == (
        "It was detected 20 s after its onset.",
        "It ended 95 s after its detection.",
    )


def test_verification_is_marked_at_its_time() -> None:
    seen = [event(2, "verified", content={"outcome": "failed"}), event(4, "verified", content={"outcome": ["odd"]})]
    marks = [mark for mark in compose(case(events=[*seen, signals()])).marks if mark.moment is MarkKind.VERIFICATION]
    assert [(mark.at - OPENED_US, mark.label) for mark in marks] == [
        (2 * SECOND_US, "failed"), (4 * SECOND_US, '["odd"]'),
    ]  # fmt: skip


def test_open_incident_is_marked_at_the_top() -> None:
    still_open = compose(case(incident=incident(outcome=None, closed_at=None, status="open")))
    assert still_open.notice.startswith("This incident is not over")
    assert still_open.is_over is False
    over = compose(case())
    assert over.is_over is True
    assert over.notice == ""


def test_onset_without_signals_is_the_first_finding() -> None:
    given = case(events=[], incident=incident(findings=(finding(first_at=OPENED_US - 3 * SECOND_US),)))
    assert compose(given).marks[0].at == OPENED_US - 3 * SECOND_US
    assert compose(given).signals == ()


def test_bound_in_another_unit_gives_no_onset() -> None:
    given = case(incident=incident(findings=(finding(detector="burn_rate", expected=14.4),)))
    assert compose(given).marks[0].at == OPENED_US


def test_actions_are_listed_with_their_results() -> None:
    found = compose(case())
    assert [(each.action, each.by, each.has_helped) for each in found.actions] == [
        ("use-path", "the responder", False),
        ("restart-cache", "the responder, approved by ada", True),
    ]
    assert found.worked == "What ended it: restart-cache, done by the responder, approved by ada."
    assert found.actions[0].result == "Verification did not confirm that it helped."
    assert (
        found.actions[1].measured
        == "errors.pct fell from 38 to 0 within 60 s; latency.p95_ms fell from 900 to 12 within 60 s"
    )


def test_action_of_another_actor_is_named_by_the_last_event() -> None:
    tried = [
        {"action": "use-path", "outcome": "changed_nothing"},
        {"action": "restart-links", "parameters": {}, "outcome": "changed_nothing"},
        {"action": "restart-cache", "parameters": {"force": True}, "outcome": "helped"},
    ]
    closed = event(5, EventKind.CLOSED, content={"tried": tried})
    acts = [act(action="use-path", effect=RepairResult.FAILED)]
    found = compose(case(incident=incident(outcome=IncidentOutcome.ESCALATED), actions=acts, events=[closed]))
    assert [(each.action, each.parameters, each.has_helped) for each in found.actions[1:]] == [
        ("restart-links", "", False),
        ("restart-cache", "force = true", True),
    ]
    assert found.worked == "What ended it: restart-cache, done by somebody else."


def test_evidence_is_cited_once_and_verbatim() -> None:
    (cited,) = compose(case()).evidence
    assert cited.evidence_id == "ev-7f3a"
    assert cited.fact == "cache.process"
    assert cited.verbatim == '"exited"'
    assert any("ev-7f3a" in entry.evidence for entry in compose(case()).timeline)


def test_long_timeline_keeps_its_first_and_last_entries() -> None:
    events = [event(number, "thought", str(number)) for number in range(1, MAX_ENTRIES + 51)]
    found = compose(case(events=events))
    assert len(found.timeline) == MAX_ENTRIES
    assert found.left_out == 50
    assert found.timeline[0].message == "1"
    assert found.timeline[-1].message == str(MAX_ENTRIES + 50)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"outcome": IncidentOutcome.ESCALATED}, "Write a runbook from this incident"),
        ({"outcome": IncidentOutcome.PASSED}, "Find out why it began and why it ended."),
        ({"outcome": IncidentOutcome.DISMISSED}, "It was a false positive of errors.pct"),
        ({"outcome": IncidentOutcome.CLOSED_BY_PERSON}, "the responder has verified nothing"),
        ({"outcome": None, "closed_at": None, "status": "escalated"}, "Its status is escalated."),
        ({"diagnosis": "unknown"}, "Identify the cause."),
        ({"probability": 0.62}, "The probability of cache_down was 0.62."),
        ({"symptoms": {"settings.recent_change": "pool", "settings.recent_change.by": "dana"}}, "by dana"),
    ],
)
def test_outcome_of_the_incident_causes_follow_ups(more: dict[str, Any], said: str) -> None:
    assert said in follow_ups(case(incident=incident(**more)))
    assert said not in follow_ups(case())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"effect": RepairResult.WORSE}, "Remove restart-worker from the runbook of process_stopped"),
        ({"effect": RepairResult.FAILED}, "Check the runbook of process_stopped."),
        ({"status": ActionStatus.REFUSED, "error": "not now"}, "It was refused: not now"),
        ({"status": ActionStatus.FAILED}, "Repair restart-worker itself."),
        ({"status": ActionStatus.ASKED}, "Find out whether restart-worker was done."),
    ],
)
def test_unsuccessful_action_causes_follow_ups(more: dict[str, Any], said: str) -> None:
    assert said in follow_ups(case(actions=[act(**more)]))
    assert said not in follow_ups(case(actions=[]))


def test_waiting_time_and_internal_errors_cause_follow_ups() -> None:
    asked = question("i1", "q1")
    late = Decision(approval_id="q1", approved=True, by="ada", decided_at=asked.asked_at + 400 * SECOND_US)
    assert "waited 400 s" in follow_ups(case(approvals=[(asked, late)]))
    assert "Nobody answered the approval request for restart-worker" in follow_ups(case(approvals=[(asked, None)]))
    assert "Mind: it broke" in follow_ups(case(events=[signals(), event(5, "failed", "Mind: it broke")]))
    assert "no signals were stored" in follow_ups(case(events=[]))


def closed_by_ann(cause: str | None, **more: Any) -> IncidentRecord:
    """Return the record of an incident with the diagnosis `cache_down` that a person closed as repaired."""
    content = {"by": "ann", "note": "Done.", "named_cause": cause, "outcome": "closed_by_person"}
    events = [signals(), event(9, EventKind.CLOSED, "ann closed the incident as repaired. Done.", content=content)]
    return case(incident=incident(outcome=IncidentOutcome.CLOSED_BY_PERSON), events=events, **more)


def test_closing_by_a_person_is_no_verified_repair() -> None:
    found = compose(closed_by_ann("cache_down"))

    assert dict(found.overview)["outcome"] == "closed as repaired by a person, and not verified"
    assert found.summary[-1] == "ann closed the incident as repaired. Done."


def test_summary_of_an_incident_that_is_over_asks_for_no_person() -> None:
    stale = {"recommendation": "A person is needed. Repair it."}
    ended = event(9, EventKind.CLOSED, "The problem ended without an action.")

    assert compose(case(incident=incident(**stale), events=[signals(), ended])).summary[-1] == ended.message
    still_open = incident(outcome=None, closed_at=None, status="escalated", **stale)
    assert compose(case(incident=still_open, events=[signals()])).summary[-1] == stale["recommendation"]


@pytest.mark.parametrize(("cause", "is_checked"), [("disk_full", True), ("cache_down", False), (None, False)])
def test_cause_that_contradicts_the_diagnosis_is_a_follow_up(cause: str | None, *, is_checked: bool) -> None:
    assert ("names disk_full as the cause" in follow_ups(closed_by_ann(cause))) is is_checked


def test_request_that_waited_when_a_person_ended_the_incident_is_no_follow_up() -> None:
    closed_us = incident().closed_at
    assert closed_us is not None
    waits = question("i1", "q1", asked_at=closed_us - 2, expires_at=closed_us + 1)
    expired = question("i1", "q1", asked_at=closed_us - 2, expires_at=closed_us - 1)

    dismissed = incident(outcome=IncidentOutcome.DISMISSED)

    assert "Nobody answered" not in follow_ups(closed_by_ann(None, approvals=[(waits, None)]))
    assert "Nobody answered" not in follow_ups(case(incident=dismissed, approvals=[(waits, None)]))
    assert "Nobody answered" in follow_ups(closed_by_ann(None, approvals=[(expired, None)]))


@pytest.mark.parametrize(("waited_s", "is_said"), [(20, False), (400, True)])
def test_request_that_was_soon_withdrawn_is_no_follow_up(waited_s: int, *, is_said: bool) -> None:
    asked = question("i1", "q1", expires_at=NOW_US + waited_s * SECOND_US)
    withdrawn = event(5, EventKind.APPROVAL_WITHDRAWN, "It is withdrawn.", content={"approval_id": "q1"})

    found = follow_ups(case(approvals=[(asked, None)], events=[signals(), withdrawn]))

    assert ("Nobody answered" in found) is is_said


def test_follow_up_of_several_unanswered_requests_is_listed_once() -> None:
    asked = [(question("i1", name), None) for name in ("q1", "q2", "q3")]

    assert follow_ups(case(approvals=asked)).count("Nobody answered") == 1


def test_durations_are_written_in_words() -> None:
    assert [lasted(seconds * SECOND_US) for seconds in (0, 119, 120, 7_100, 7_300)] == [
        "0 s", "119 s", "2 min", "118 min", "2 h 2 min",
    ]  # fmt: skip


VERDICT = "After 61 s it is not verified: latency.p95_ms is 112.5, above 92.37."


def doubted(**more: Any) -> IncidentRecord:
    """Return a record of an incident that ended although its correct repair was judged as failed."""
    poor = {"cause": "connection_pool_leak", "probability": 1.0}
    events = [
        event(1, EventKind.OPENED, "Opened."),
        event(2, "diagnosed", content={"candidates": [poor], "is_confirmed": True}, evidence=("ev-1",)),
        event(3, EventKind.ACT_ASKED, content={"act": {"key": "i1:1"}}),
        event(70, "verified", VERDICT, content={"outcome": "failed"}),
        event(75, "diagnosed", content={"candidates": [{"cause": "unknown", "probability": 0.98}]}),
        signals_of_polls(
            [(-20, 0), (-10, 98), (-5, 100), (0, 100), (3, 100), (8, 50), (15, 0), (20, 0), (25, 0), (60, 0)]
        ),
        event(95, EventKind.CLOSED, "It is well again.", at=CLOSED_US),
    ]
    acts = [act(key="i1:1", action="restart-target", effect=RepairResult.FAILED, asked_at=OPENED_US + 3 * SECOND_US)]
    given = incident(outcome=IncidentOutcome.PASSED, diagnosis="unknown", probability=0.98)
    return case(**{"incident": given, "events": events, "actions": acts, **more})


def signals_of_polls(rows: Sequence[tuple[int, float | None]]) -> TimelineEvent:
    """Return the event that stores the errors of these polls: (seconds after detection, percent or None if missing)."""
    polls = [
        Snapshot(OPENED_US + at_s * SECOND_US, numbers={} if errors is None else {"errors.pct": float(errors)})
        for at_s, errors in rows
    ]
    return event(80, KIND, content=dict(signals_event(polls, OPENED_US, [], once="signals.learn").content))


def test_improvement_after_an_action_is_reported_despite_failed_verification() -> None:
    found = compose(doubted())
    assert found.actions[0].measured == "errors.pct fell from 100 to 0 within 12 s"
    assert found.actions[0].result == f"Verification did not confirm that it helped. {VERDICT}"
    assert not found.actions[0].has_helped
    for part in ("No action is verified", "errors.pct fell from 100 to 0 within 12 s", "restart-target", VERDICT):
        assert part in found.worked
    assert "Nothing" not in found.worked
    assert "Nothing that the responder did" not in follow_ups(doubted())


def test_unchanged_figure_is_reported() -> None:
    flat = [
        event(3, EventKind.ACT_ASKED, content={"act": {"key": "i1:1"}}),
        signals_of_polls([(at_s, 40) for at_s in range(-20, 90, 5)]),
    ]
    found = compose(doubted(events=flat))
    assert found.actions[0].measured == "errors.pct stayed at 40"
    assert found.worked == "No action is verified to have ended it, and no samples show an improvement after one."


def test_figures_after_the_next_action_belong_to_that_action() -> None:
    rows = [(at_s, 100 if at_s < 40 else 0) for at_s in range(-20, 95, 5)]
    first = act(key="i1:1", action="use-path", effect=RepairResult.FAILED, asked_at=OPENED_US + 3 * SECOND_US)
    second = act(key="i1:2", action="restart-target", effect=RepairResult.FAILED, asked_at=OPENED_US + 31 * SECOND_US)
    found = compose(doubted(events=[signals_of_polls(rows)], actions=[first, second]))
    assert [each.measured for each in found.actions] == [
        "errors.pct stayed at 100", "errors.pct fell from 100 to 0 within 9 s",
    ]  # fmt: skip


def test_figures_before_an_action_are_known_although_no_poll_is_answered_during_it() -> None:
    rows: list[tuple[int, float | None]] = [(at_s, 100) for at_s in range(-20, 5, 5)]
    rows += [(at_s, None) for at_s in range(5, 20, 5)] + [(at_s, 0) for at_s in range(20, 60, 5)]
    found = compose(doubted(events=[signals_of_polls(rows)]))
    assert found.actions[0].measured == "errors.pct fell from 100 to 0 within 17 s"


def test_figures_before_an_action_are_unknown_after_a_long_time_without_a_value() -> None:
    rows: list[tuple[int, float | None]] = [(at_s, 100) for at_s in range(-60, -20, 5)]
    rows += [(at_s, None) for at_s in range(-20, 20, 5)] + [(at_s, 0) for at_s in range(20, 60, 5)]
    found = compose(doubted(events=[signals_of_polls(rows)]))
    assert found.actions[0].measured == "errors.pct: no samples before it, 0 after it"


def test_action_without_samples_has_no_figures() -> None:
    found = compose(doubted(events=[signals_of_polls([(at_s, 100) for at_s in range(-90, 1, 5)])]))
    assert found.actions[0].measured == "errors.pct: no samples after it, 100 before it"
    assert found.worked == "No action is verified to have ended it, and no samples show an improvement after one."


def test_diagnoses_are_in_order_with_the_reason_each_was_dropped() -> None:
    found = compose(doubted())
    assert [(each.causes, each.probability, each.is_confirmed, each.ended) for each in found.diagnoses] == [
        (("connection_pool_leak",), 1.0, True, VERDICT),
        (("unknown",), 0.98, False, "It was the last one; the incident ended without a verified repair."),
    ]
    assert ("first diagnosis", f"connection_pool_leak (1.00): {VERDICT}") in found.overview


def test_repeated_diagnosis_is_listed_once_and_two_simultaneous_causes_are_one_diagnosis() -> None:
    pair = {"causes": ["database_lock", "process_stopped"], "probability": 0.96}
    lock, stopped = ({"cause": cause, "probability": 0.97} for cause in pair["causes"])
    both = {"candidates": [lock, stopped], "together": [pair]}
    other_way = {"candidates": [stopped, lock], "together": [pair | {"causes": pair["causes"][::-1]}]}
    alone = {"candidates": [stopped], "together": [pair | {"probability": 0.2}]}
    rows = [both, other_way, alone]
    events = [event(number, "diagnosed", content=content) for number, content in enumerate(rows, 2)]
    found = compose(case(events=events)).diagnoses
    assert [(set(each.causes), each.ended) for each in found] == [
        ({"database_lock", "process_stopped"}, "New probes showed otherwise."),
        ({"process_stopped"}, "It was repaired, and verified."),
    ]


@pytest.mark.parametrize(
    ("rows", "gaps"),
    [
        ([(at_s, 1) for at_s in range(0, 60, 5)], []),
        ([*((at_s, 1) for at_s in range(0, 30, 5)), (30, None), *((at_s, 1) for at_s in range(35, 60, 5))], [(25, 35)]),
        # The responder was not running.
        ([*((at_s, 1) for at_s in range(0, 30, 5)), *((at_s, 1) for at_s in range(90, 120, 5))], [(25, 90)]),
        # In a long incident, later points are stored at longer intervals.
        ([*((at_s, 1) for at_s in range(0, 60, 2)), *((at_s, 1) for at_s in range(60, 400, 12))], []),
        # Every second poll is early.
        ([(at_s + early_s, 1) for at_s in range(0, 130, 13) for early_s in (0, 3)], []),
        (
            [(at_s + early_s, 1) for at_s in (*range(0, 65, 13), *range(130, 195, 13)) for early_s in (0, 3)],
            [(55, 130)],
        ),
        ([(0, 1), (90, 1)], []),
        ([(0, None), (5, 1), (10, 1), (15, None)], []),
    ],
)
def test_a_time_without_samples_is_a_gap(rows: list[tuple[int, float | None]], gaps: list[tuple[int, int]]) -> None:
    (figure,) = compose(case(events=[signals_of_polls(rows)])).signals
    found = [((gap.begin - OPENED_US) // SECOND_US, (gap.end - OPENED_US) // SECOND_US) for gap in figure.gaps]
    assert found == gaps
