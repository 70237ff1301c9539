"""What a postmortem says, and that every follow-up comes of something that was written down."""

from __future__ import annotations

from typing import Any

import pytest

from relab.incidents.acting.approvals import Decision
from relab.incidents.acting.records import ActStatus, Effect
from relab.incidents.postmortem.composing import MOST_ENTRIES, compose, lasted
from relab.incidents.postmortem.models import Case, Moment
from relab.incidents.storage.models import EventKind, Outcome
from support.acts import SECOND_US, act
from support.incident_logs import question
from support.postmortems import CLOSED_US, OPENED_US, case, event, finding, incident, signals


def follow_ups(given: Case) -> str:
    return "\n".join(f"{each.what} / {each.ground}" for each in compose(given).follow_ups)


def test_onset_detection_actions_and_end_are_marked() -> None:
    found = compose(case())
    assert [(mark.moment, mark.at - OPENED_US) for mark in found.marks] == [
        (Moment.ONSET, -20 * SECOND_US),
        (Moment.DETECTION, 0),
        (Moment.ACTION, 0),
        (Moment.ACTION, 0),
        (Moment.END, CLOSED_US - OPENED_US),
    ]
    assert found.summary[:2] == (
        "It was detected 20 s after its onset.",
        "It was over 95 s after its detection.",
    )


def test_what_was_seen_after_an_act_is_marked() -> None:
    seen = [event(2, "verified", content={"outcome": "failed"}), event(4, "verified", content={"outcome": ["odd"]})]
    marks = [mark for mark in compose(case(events=[*seen, signals()])).marks if mark.moment is Moment.VERIFICATION]
    assert [(mark.at - OPENED_US, mark.label) for mark in marks] == [
        (2 * SECOND_US, "failed"), (4 * SECOND_US, '["odd"]'),
    ]  # fmt: skip


def test_one_that_is_not_over_says_so_first() -> None:
    still_open = compose(case(incident=incident(outcome=None, closed_at=None, status="open")))
    assert still_open.notice.startswith("This incident is not over")
    assert (still_open.is_over, compose(case()).is_over, compose(case()).notice) == (False, True, "")


def test_without_signals_the_onset_is_what_was_found_first() -> None:
    given = case(events=[], incident=incident(findings=(finding(first_at=OPENED_US - 3 * SECOND_US),)))
    assert compose(given).marks[0].at == OPENED_US - 3 * SECOND_US
    assert compose(given).figures == ()


def test_a_bound_that_is_no_value_of_the_signal_tells_no_onset() -> None:
    given = case(incident=incident(findings=(finding(detector="burn_rate", expected=14.4),)))
    assert compose(given).marks[0].at == OPENED_US


def test_what_was_tried_and_what_came_of_it() -> None:
    found = compose(case())
    assert [(each.action, each.by, each.has_helped) for each in found.attempts] == [
        ("use-path", "the responder", False),
        ("restart-cache", "the responder, by leave of ada", True),
    ]
    assert found.worked == "What ended it: restart-cache, done by the responder, by leave of ada."
    assert found.attempts[0].outcome == "It changed nothing."


def test_what_others_did_is_told_by_the_last_event() -> None:
    tried = [
        {"action": "use-path", "outcome": "changed_nothing"},
        {"action": "restart-links", "parameters": {}, "outcome": "changed_nothing"},
        {"action": "restart-cache", "parameters": {"force": True}, "outcome": "helped"},
    ]
    closed = event(5, EventKind.CLOSED, content={"tried": tried})
    acts = [act(action="use-path", effect=Effect.FAILED)]
    found = compose(case(incident=incident(outcome=Outcome.ESCALATED), acts=acts, events=[closed]))
    assert [(each.action, each.parameters, each.has_helped) for each in found.attempts[1:]] == [
        ("restart-links", "", False),
        ("restart-cache", "force = true", True),
    ]
    assert found.worked == "What ended it: restart-cache, done by somebody else."


def test_evidence_is_cited_once_with_what_stood_there() -> None:
    (exhibit,) = compose(case()).evidence
    assert (exhibit.evidence_id, exhibit.fact, exhibit.verbatim) == ("ev-7f3a", "cache.process", '"exited"')
    assert any("ev-7f3a" in entry.evidence for entry in compose(case()).timeline)


def test_a_long_timeline_keeps_how_it_began_and_how_it_ended() -> None:
    events = [event(number, "thought", str(number)) for number in range(1, MOST_ENTRIES + 51)]
    found = compose(case(events=events))
    assert (len(found.timeline), found.left_out) == (MOST_ENTRIES, 50)
    assert (found.timeline[0].message, found.timeline[-1].message) == ("1", str(MOST_ENTRIES + 50))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"outcome": Outcome.ESCALATED}, "Write a runbook of what was seen and done"),
        ({"outcome": Outcome.PASSED}, "Find out why it began and why it ended."),
        ({"outcome": Outcome.DISMISSED}, "was found by errors.pct"),
        ({"outcome": None, "closed_at": None, "status": "escalated"}, "Its status is escalated."),
        ({"diagnosis": "unknown"}, "Give the cause a name."),
        ({"probability": 0.62}, "The probability of cache_down was 0.62."),
        ({"symptoms": {"settings.recent_change": "pool", "settings.recent_change.by": "dana"}}, "by dana"),
    ],
)
def test_follow_ups_of_how_it_ended(more: dict[str, Any], said: str) -> None:
    assert said in follow_ups(case(incident=incident(**more)))
    assert said not in follow_ups(case())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"effect": Effect.WORSE}, "Take restart-worker out of the runbook of process_stopped"),
        ({"effect": Effect.FAILED}, "Check the runbook of process_stopped."),
        ({"status": ActStatus.REFUSED, "error": "not now"}, "It was refused: not now"),
        ({"status": ActStatus.FAILED}, "Mend restart-worker itself."),
        ({"status": ActStatus.ASKED}, "Find out how far restart-worker came."),
    ],
)
def test_follow_ups_of_acts(more: dict[str, Any], said: str) -> None:
    assert said in follow_ups(case(acts=[act(**more)]))
    assert said not in follow_ups(case(acts=[]))


def test_follow_ups_of_waiting_and_of_what_went_wrong_meanwhile() -> None:
    asked = question("i1", "q1")
    late = Decision(approval_id="q1", approved=True, by="ada", decided_at=asked.asked_at + 400 * SECOND_US)
    assert "waited 400 s" in follow_ups(case(approvals=[(asked, late)]))
    assert "Nobody answered whether restart-worker" in follow_ups(case(approvals=[(asked, None)]))
    assert "Mind: it broke" in follow_ups(case(events=[signals(), event(5, "failed", "Mind: it broke")]))
    assert "no signals were kept" in follow_ups(case(events=[]))


def test_spans_are_told_in_words() -> None:
    assert [lasted(seconds * SECOND_US) for seconds in (0, 119, 120, 7_100, 7_300)] == [
        "0 s", "119 s", "2 min", "118 min", "2 h 2 min",
    ]  # fmt: skip
