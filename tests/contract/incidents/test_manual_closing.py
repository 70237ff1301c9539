"""People close incidents as repaired: once, by one person, in the state they saw; nothing of the incident starts afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relab.core.errors import ConflictError, InvalidInputError
from relab.incidents.actions.approvals import Decision
from relab.incidents.actions.records import ActionStatus
from relab.incidents.models import Severity
from relab.incidents.storage.actions import StoredAction
from relab.incidents.storage.ending import MAX_CLOSING_NOTE, ManualClosing, manual_closing
from relab.incidents.storage.errors import IncidentNotFoundError, IncidentOverError, IncidentStatusError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus, Phase
from support.incidents.acts import NOW_US
from support.incidents.logs import asked, at_once, opened, question

REPAIRED = manual_closing("ann", "I restarted the cache.", "cache_down")


def in_status(log: IncidentLog, target: str, status: IncidentStatus) -> str:
    """Return the id of an open incident with this status."""
    incident_id = opened(log, target).incident_id
    if status is IncidentStatus.WAITING_APPROVAL:
        log.approvals.request(question(incident_id, f"{incident_id}.1"))
    elif status is IncidentStatus.ESCALATED:
        log.update(incident_id, at_us=NOW_US, phase=Phase.ESCALATE, status=status)
    assert log.get(incident_id).status is status
    return incident_id


@pytest.mark.parametrize("status", [status for status in IncidentStatus if not status.is_over])
def test_incident_is_closed_in_each_open_status(log: IncidentLog, target: str, status: IncidentStatus) -> None:
    incident_id = in_status(log, target, status)

    closed = log.closings.close(incident_id, REPAIRED, at_us=NOW_US + 9, if_status=status)

    assert closed.status is IncidentStatus.CLOSED
    assert closed.outcome is IncidentOutcome.CLOSED_BY_PERSON
    assert closed.closed_at == NOW_US + 9
    assert log.current(target) is None
    last = log.read_after(incident_id)[-1]
    assert last.is_terminal
    assert last.message == "ann closed the incident as repaired. The cause was cache_down. I restarted the cache."
    assert last.content == {
        "by": "ann", "note": "I restarted the cache.", "named_cause": "cache_down", "outcome": "closed_by_person",
    }  # fmt: skip
    assert log.get(incident_id) == closed


@pytest.mark.parametrize("outcome", list(IncidentOutcome))
def test_anomalies_open_no_incident_if_another_one_has_ended_since_they_were_compared(
    log: IncidentLog, target: str, outcome: IncidentOutcome
) -> None:
    def open_after(last_ended_id: str) -> Incident:
        return log.open(
            target, at_us=NOW_US + 9, title="Errors", severity=Severity.WARNING, last_ended_id=last_ended_id
        ).incident

    first = open_after("")
    assert open_after("").incident_id == first.incident_id
    if outcome is IncidentOutcome.CLOSED_BY_PERSON:
        log.closings.close(first.incident_id, REPAIRED, at_us=NOW_US + 9)
    else:
        log.close(first.incident_id, at_us=NOW_US + 9, outcome=outcome)

    with pytest.raises(IncidentOverError):
        open_after("")
    assert log.current(target) is None
    assert not open_after(first.incident_id).is_over


@pytest.mark.parametrize("outcome", list(IncidentOutcome))
def test_incident_that_is_over_needs_no_person(log: IncidentLog, target: str, outcome: IncidentOutcome) -> None:
    incident_id = in_status(log, target, IncidentStatus.ESCALATED)
    log.update(incident_id, at_us=NOW_US, recommendation="A person is needed. Repair it.")

    if outcome is IncidentOutcome.CLOSED_BY_PERSON:
        log.closings.close(incident_id, REPAIRED, at_us=NOW_US)
    else:
        log.close(incident_id, at_us=NOW_US, outcome=outcome, message="It is over.")

    assert log.get(incident_id).recommendation == log.read_after(incident_id)[-1].message


def test_cause_that_a_person_names_is_not_the_diagnosis(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    log.update(incident_id, at_us=NOW_US, diagnosis="database_down", probability=0.9)

    closed = log.closings.close(incident_id, REPAIRED, at_us=NOW_US)

    assert closed.diagnosis == "database_down"
    assert closed.probability == 0.9


def test_nothing_of_a_closed_incident_is_requested_or_approved(log: IncidentLog, target: str) -> None:
    incident_id = in_status(log, target, IncidentStatus.WAITING_APPROVAL)
    stored = asked(incident_id)
    log.actions.put(stored)

    log.closings.close(incident_id, REPAIRED, at_us=NOW_US)

    assert log.approvals.pending(now_us=NOW_US, target=target) == []
    with pytest.raises(IncidentOverError):
        log.approvals.decide(f"{incident_id}.1", approved=True, by="ben", now_us=NOW_US)
    with pytest.raises(IncidentOverError):
        log.actions.put(stored)
    with pytest.raises(IncidentOverError):
        log.actions.put(asked(incident_id, 2))
    with pytest.raises(IncidentOverError):
        log.approvals.request(question(incident_id, f"{incident_id}.2"))
    with pytest.raises(IncidentOverError):
        log.update(incident_id, at_us=NOW_US, status=IncidentStatus.ESCALATED)


def test_person_is_told_which_actions_the_responder_leaves(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    done, running, undone = asked(incident_id), asked(incident_id, 2), asked(incident_id, 3)
    back = asked(incident_id, 4, undoes="r-1")
    for act in (done, undone, running, back):
        log.actions.put(act)
    for act in (done, undone):
        log.actions.finish(act.key, ActionStatus.SUCCEEDED, at_us=NOW_US)
    log.actions.finish(undone.key, ActionStatus.UNDONE, at_us=NOW_US)

    log.closings.close(incident_id, REPAIRED, at_us=NOW_US)

    message = next(event.message for event in log.read_after(incident_id) if event.is_terminal)
    assert "The result of restart-worker on target, the rollback of restart-worker on target was not known" in message
    assert message.count("The responder does not undo restart-worker on target.") == 1
    assert log.actions.finish(running.key, ActionStatus.SUCCEEDED, at_us=NOW_US).status is ActionStatus.SUCCEEDED


def test_repeated_closing_changes_nothing_and_another_one_is_rejected(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    closed = log.closings.close(incident_id, REPAIRED, at_us=NOW_US)
    events = log.read_after(incident_id)

    again = log.closings.close(incident_id, REPAIRED, at_us=NOW_US + 99, if_status=IncidentStatus.OPEN)

    assert again == closed
    for other in (("ben", REPAIRED.note, "cache_down"), ("ann", "Other.", "cache_down"), ("ann", REPAIRED.note, None)):
        with pytest.raises(IncidentOverError, match="its outcome is closed_by_person") as caught:
            log.closings.close(incident_id, manual_closing(*other), at_us=NOW_US)
        assert caught.value.code == "incident_over"
    assert log.read_after(incident_id) == events


@pytest.mark.parametrize("outcome", [each for each in IncidentOutcome if each is not IncidentOutcome.CLOSED_BY_PERSON])
def test_incident_that_ended_in_another_way_is_not_closed(
    log: IncidentLog, target: str, outcome: IncidentOutcome
) -> None:
    incident_id = opened(log, target).incident_id
    ended = log.close(incident_id, at_us=NOW_US, outcome=outcome)

    with pytest.raises(IncidentOverError, match=outcome.value):
        log.closings.close(incident_id, REPAIRED, at_us=NOW_US)

    assert log.get(incident_id) == ended


def test_end_of_a_closed_incident_does_not_change(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    closed = log.closings.close(incident_id, REPAIRED, at_us=NOW_US)

    assert log.close(incident_id, at_us=NOW_US + 1, outcome=IncidentOutcome.RESOLVED) == closed
    assert log.close(incident_id, at_us=NOW_US + 1, outcome=IncidentOutcome.DISMISSED) == closed


def test_incident_in_another_status_than_the_person_saw_stays_open(log: IncidentLog, target: str) -> None:
    incident_id = in_status(log, target, IncidentStatus.WAITING_APPROVAL)

    with pytest.raises(IncidentStatusError, match="waiting_approval") as caught:
        log.closings.close(incident_id, REPAIRED, at_us=NOW_US, if_status=IncidentStatus.ESCALATED)

    assert caught.value.code == "incident_status"
    assert log.get(incident_id).status is IncidentStatus.WAITING_APPROVAL


@pytest.mark.parametrize("incident_id", ["none", "", "\x00", "\ud800", "x" * 1_000])
def test_unknown_incident_is_not_closed(log: IncidentLog, incident_id: str) -> None:
    with pytest.raises(IncidentNotFoundError):
        log.closings.close(incident_id, REPAIRED, at_us=NOW_US)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (("ann", " \n ", None), ["note"]),
        (("", "", None), ["by", "note"]),
        (("ann", "x" * (MAX_CLOSING_NOTE + 1), None), ["note"]),
        (("x" * 201, "Done.", None), ["by"]),
        (("ann", "Done.", "Cache Down"), ["cause"]),
        (("ann", "Done.", "cache_down\n"), ["cause"]),
        (("ann", "Done.", ""), ["cause"]),
        (("ann", "Done.", "c" * 101), ["cause"]),
    ],
)
def test_invalid_text_is_rejected_with_its_field(given: tuple[str, str, str | None], fields: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        manual_closing(*given)
    assert [field for field, _ in caught.value.problems] == fields


def test_hostile_text_is_stored_and_repeated(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    hostile = ManualClosing("ann\ufffd", "<script>\u202e\ufffd\x1b[2J" + "é" * 1_900)
    given = manual_closing("ann\x00", "<script>\u202e\ud800\x1b[2J" + "é" * 1_900)

    closed = log.closings.close(incident_id, given, at_us=NOW_US)

    assert given == hostile
    assert log.closings.close(incident_id, given, at_us=NOW_US + 1) == closed
    assert log.read_after(incident_id)[-1].content["note"] == hostile.note


def test_one_of_several_people_closes_and_the_others_are_rejected(log: IncidentLog, log_url: str, target: str) -> None:
    incident_id = opened(log, target).incident_id

    def close(name: str) -> Callable[[IncidentLog], Incident | ConflictError]:
        def work(own: IncidentLog) -> Incident | ConflictError:
            try:
                return own.closings.close(incident_id, manual_closing(name, "Done."), at_us=NOW_US)
            except IncidentOverError as error:
                return error

        return work

    found = at_once(log_url, [close(f"p{number}") for number in range(6)])

    assert sum(isinstance(each, Incident) for each in found) == 1
    assert [event.kind for event in log.read_after(incident_id)] == ["opened", "closed"]


@pytest.mark.parametrize("number", range(3))
def test_closing_and_approval_at_once_leave_no_action(log: IncidentLog, log_url: str, target: str, number: int) -> None:
    incident_id = in_status(log, target, IncidentStatus.WAITING_APPROVAL)

    def close(own: IncidentLog) -> Incident:
        return own.closings.close(incident_id, REPAIRED, at_us=NOW_US)

    def approve(own: IncidentLog) -> Decision | ConflictError:
        try:
            return own.approvals.decide(f"{incident_id}.1", approved=True, by="ben", now_us=NOW_US)
        except IncidentOverError as error:
            return error

    def act(own: IncidentLog) -> StoredAction | ConflictError:
        try:
            return own.actions.put(asked(incident_id))
        except IncidentOverError as error:
            return error

    at_once(log_url, [close, approve, act][number:] + [close, approve, act][:number])

    kinds = [event.kind for event in log.read_after(incident_id)]
    assert kinds[-1] == "closed"
    assert kinds.count("closed") == 1
    assert log.get(incident_id).outcome is IncidentOutcome.CLOSED_BY_PERSON
    assert kinds.count("act_asked") == len(log.actions.of_incident(incident_id))
