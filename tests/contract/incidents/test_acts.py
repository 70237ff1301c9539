"""Actions in the incident log: stored before they are requested, once per key, with results, pauses and leases."""

from __future__ import annotations

from typing import Any

import pytest

from relab.core.errors import InvalidInputError
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.storage.errors import (
    ActionConflictError,
    ActionNotFoundError,
    ActionRejectedError,
    IncidentNotFoundError,
    IncidentOverError,
    LeaseLostError,
    PausedError,
)
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, Lease
from support.incidents.acts import NOW_US
from support.incidents.logs import SECOND_US, asked, opened, plan, question


def test_action_is_stored_and_added_to_the_timeline_before_it_is_requested(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    act = asked(incident_id, parameters={"worker": 1, "share": 0.5, "hard": False, "name": "é"}, why="It is stopped.")

    put = log.actions.put(act)

    assert put.act == act
    assert put.created is True
    assert log.actions.get(act.key) == act
    assert log.actions.of_incident(incident_id) == log.actions.unsettled(target) == [act]
    told = log.read_after(incident_id)[-1]
    assert told.kind == "act_asked"
    assert told.content["act"]["key"] == act.key


def test_repeated_key_returns_the_stored_action(log: IncidentLog, target: str) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)
    finished = log.actions.finish(act.key, ActionStatus.SUCCEEDED, at_us=NOW_US + 1, record_id="r-1")

    again = log.actions.put(act.model_copy(update={"asked_at": NOW_US + 99, "why": "after a kill"}))

    assert again.act == finished
    assert again.created is False
    assert [event.kind for event in log.read_after(act.incident_id)] == ["opened", "act_asked", "act_finished"]


def test_action_of_an_incident_that_is_over_is_not_requested_again(log: IncidentLog, target: str) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)
    log.close(act.incident_id, at_us=NOW_US, outcome=IncidentOutcome.DISMISSED)

    with pytest.raises(IncidentOverError):
        log.actions.put(act)
    # The result of an earlier action may still be stored.
    assert log.actions.finish(act.key, ActionStatus.SUCCEEDED, at_us=NOW_US + 1).status is ActionStatus.SUCCEEDED


def test_key_of_another_action_is_rejected(log: IncidentLog, target: str) -> None:
    act = asked(opened(log, target).incident_id, parameters={"worker": 1})
    log.actions.put(act)
    elsewhere = opened(log, f"{target}-other").incident_id

    for other in (
        act.model_copy(update={"parameters": {"worker": 2}}),
        act.model_copy(update={"action": "drain-worker"}),
        act.model_copy(update={"incident_id": elsewhere}),
    ):
        with pytest.raises(ActionConflictError) as caught:
            log.actions.put(other)
        assert caught.value.code == "act_conflict"
        assert "restart-worker" in caught.value.message
    assert log.actions.get(act.key) == act


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ([ActionStatus.SUCCEEDED], ActionStatus.SUCCEEDED),
        ([ActionStatus.ASKED, ActionStatus.FAILED], ActionStatus.FAILED),
        ([ActionStatus.REFUSED, ActionStatus.REFUSED], ActionStatus.REFUSED),
        ([ActionStatus.SUCCEEDED, ActionStatus.UNDONE], ActionStatus.UNDONE),
        ([ActionStatus.FAILED, ActionStatus.UNDONE, ActionStatus.UNDONE], ActionStatus.UNDONE),
        ([ActionStatus.UNDONE], ActionStatus.UNDONE),
    ],
)
def test_result_of_an_action_is_stored_and_added_to_the_timeline_once(
    log: IncidentLog, target: str, path: list[ActionStatus], last: ActionStatus
) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)

    for number, status in enumerate(path):
        found = log.actions.finish(act.key, status, at_us=NOW_US + number, record_id="r-1", error="e\x00" * 5_000)

    assert log.actions.get(act.key) == found
    assert found.status == last
    assert found.record_id == "r-1"
    assert len(found.error or "") == 2_000
    assert log.actions.unsettled(target) == []
    told = [event.content["status"] for event in log.read_after(act.incident_id) if event.kind == "act_finished"]
    assert told == list(dict.fromkeys(status for status in path if status is not ActionStatus.ASKED))


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (ActionStatus.SUCCEEDED, ActionStatus.FAILED),
        (ActionStatus.FAILED, ActionStatus.SUCCEEDED),
        (ActionStatus.REFUSED, ActionStatus.UNDONE),
        (ActionStatus.UNDONE, ActionStatus.SUCCEEDED),
    ],
)
def test_result_of_an_action_does_not_change(
    log: IncidentLog, target: str, first: ActionStatus, then: ActionStatus
) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)
    finished = log.actions.finish(act.key, first, at_us=NOW_US)

    with pytest.raises(ActionConflictError) as caught:
        log.actions.finish(act.key, then, at_us=NOW_US)
    assert caught.value.code == "act_conflict"
    assert first.value in caught.value.message
    assert then.value in caught.value.message
    assert log.actions.get(act.key) == finished


def test_record_id_of_the_server_is_stored_before_the_result_is_known(log: IncidentLog, target: str) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)

    log.actions.finish(act.key, ActionStatus.ASKED, at_us=NOW_US, record_id="r-7")

    assert [found.record_id for found in log.actions.unsettled(target)] == ["r-7"]
    assert log.read_after(act.incident_id)[-1].kind == "act_asked"


def test_last_effect_of_an_action_is_stored_and_each_change_is_in_the_timeline(log: IncidentLog, target: str) -> None:
    act = asked(opened(log, target).incident_id)
    log.actions.put(act)
    log.actions.finish(act.key, ActionStatus.SUCCEEDED, at_us=NOW_US)

    for effect in (RepairResult.FAILED, RepairResult.FAILED, RepairResult.WORSE):
        found = log.actions.note_effect(act.key, effect, at_us=NOW_US + 2)

    assert found.effect == RepairResult.WORSE
    assert log.actions.get(act.key) == found
    told = [event.content["effect"] for event in log.read_after(act.incident_id) if event.kind == "act_effect"]
    assert told == ["failed", "worse"]


def test_actions_are_listed_in_the_order_of_their_requests(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    made = []
    for attempt, at in ((1, 0), (2, 60), (3, 30)):
        act = log.actions.put(asked(incident_id, attempt, asked_at=NOW_US + at * SECOND_US)).act
        made.append(log.actions.finish(act.key, ActionStatus.SUCCEEDED, at_us=NOW_US))

    assert log.actions.of_incident(incident_id) == made, "also when the clock was set back"
    assert log.actions.of_target(target, since_us=NOW_US + 30 * SECOND_US) == [made[2], made[1]]
    assert log.actions.of_target(target, since_us=0) == [made[0], made[2], made[1]]
    assert log.actions.of_target(f"{target}-none", since_us=0) == []


def test_actions_of_a_target_include_all_its_incidents_and_unsettled_old_ones(log: IncidentLog, target: str) -> None:
    first = opened(log, target)
    old = log.actions.put(asked(first.incident_id, asked_at=1_000)).act
    log.close(first.incident_id, at_us=NOW_US, outcome=IncidentOutcome.ESCALATED)
    second = log.actions.put(asked(opened(log, target).incident_id)).act

    assert log.actions.of_target(target, since_us=NOW_US) == [old, second]
    log.actions.finish(old.key, ActionStatus.FAILED, at_us=NOW_US)
    assert log.actions.of_target(target, since_us=NOW_US) == [second]
    assert second in log.actions.unsettled()


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "k" * 201},
        {"key": "a\x00"},
        {"key": ""},
        {"target": "x" * 300},
        {"action": "\ud800"},
        {"parameters": {"name": "a\x00"}},
        {"parameters": {"name": "x" * 20_000}},
        {"parameters": {"n": float("inf")}},
    ],
)
def test_action_that_cannot_be_stored_unchanged_is_rejected(
    log: IncidentLog, target: str, changed: dict[str, Any]
) -> None:
    incident_id = opened(log, target).incident_id

    with pytest.raises(InvalidInputError) as caught:
        log.actions.put(asked(incident_id).model_copy(update=changed))
    assert caught.value.problems[0][0] == next(iter(changed))
    assert log.actions.of_incident(incident_id) == []


def test_no_action_is_requested_while_paused(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    log.actions.put(asked(incident_id))
    done = log.actions.put(asked(incident_id, 2)).act
    log.actions.finish(done.key, ActionStatus.SUCCEEDED, at_us=NOW_US)
    log.switches.pause(target, by="ada", at_us=NOW_US)
    for act in (asked(incident_id), asked(incident_id, 3)):
        with pytest.raises(PausedError) as caught:
            log.actions.put(act)
        assert str(caught.value).endswith(f"lab incidents resume --target {target}")
    # A finished action can be read while its target is paused.
    assert log.actions.put(asked(incident_id, 2)).act.status is ActionStatus.SUCCEEDED
    assert len(log.actions.of_incident(incident_id)) == 2
    log.switches.resume(target, by="ada", at_us=NOW_US)
    assert log.actions.put(asked(incident_id, 3)).created


def test_lost_lease_requests_no_action_even_if_its_owner_leads_again(log: IncidentLog, target: str) -> None:
    def lead(owner: str, at_s: int) -> Lease | None:
        now_us = NOW_US + at_s * SECOND_US
        return log.leases.take(target, owner, now_us=now_us, until_us=now_us + 15 * SECOND_US)

    incident_id, first = opened(log, target).incident_id, lead("first", 0)
    assert first is not None
    assert log.actions.put(asked(incident_id), lease=first).created
    second = lead("second", 20)
    with pytest.raises(LeaseLostError):
        log.actions.put(asked(incident_id, 2), lease=first)
    assert log.actions.put(asked(incident_id, 2), lease=second).created
    again = lead("first", 60)
    assert again is not None
    with pytest.raises(LeaseLostError):
        log.actions.put(asked(incident_id, 3), lease=first)
    assert log.actions.put(asked(incident_id, 3), lease=again).created


def test_long_texts_of_an_action_are_cut(log: IncidentLog, target: str) -> None:
    act = asked(opened(log, target).incident_id, why="w\x00" * 9_999, cause="c" * 999)

    stored = log.actions.put(act).act

    assert stored == log.actions.get(act.key)
    assert stored.why.endswith("… [19,998 characters]")
    assert len(stored.cause) == 200


def test_unknown_incident_or_action_is_not_found(log: IncidentLog) -> None:
    with pytest.raises(IncidentNotFoundError):
        log.actions.put(asked("none"))
    with pytest.raises(ValueError, match="before it is asked for"):
        log.actions.put(asked("none", status="succeeded"))
    for key in ("none", "\x00", "\ud800", "x" * 999):
        with pytest.raises(ActionNotFoundError):
            log.actions.get(key)
        with pytest.raises(ActionNotFoundError):
            log.actions.finish(key, ActionStatus.FAILED, at_us=NOW_US)
        with pytest.raises(ActionNotFoundError):
            log.actions.note_effect(key, RepairResult.WORSE, at_us=NOW_US)


def test_rejection_applies_until_the_action_is_stored_and_while_its_result_is_unknown(
    log: IncidentLog, target: str
) -> None:
    incident_id = opened(log, target).incident_id
    first = asked(incident_id)
    wanted = plan(action=first.action, target=first.target)
    log.actions.put(first)
    approval_id = log.approvals.request(question(incident_id, f"{incident_id}.1", plan=wanted)).approval_id
    log.approvals.decide(approval_id, approved=True, by="ann", now_us=NOW_US)
    log.actions.put(first)
    log.approvals.decide(approval_id, approved=False, by="bob", now_us=NOW_US)

    for act in (first, asked(incident_id, 2)):
        with pytest.raises(ActionRejectedError) as caught:
            log.actions.put(act)
        assert "bob" in caught.value.message
    assert log.actions.of_incident(incident_id) == [first]
    elsewhere = asked(opened(log, f"{target}-other").incident_id)
    assert log.actions.put(elsewhere).created
    # The rejection of the action does not apply to its inverse.
    log.actions.finish(first.key, ActionStatus.SUCCEEDED, at_us=NOW_US, record_id="r-1")
    assert log.actions.put(asked(incident_id, 3, undoes="r-1")).created


def test_approval_requests_are_listed_in_order_despite_clock_steps(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    for number in range(1, 12):
        log.approvals.request(question(incident_id, f"{incident_id}.{number}", asked_at=NOW_US - number))

    ids = [request.approval_id for request, _ in log.approvals.of_incident(incident_id)]
    assert ids == [f"{incident_id}.{number}" for number in range(1, 12)]
