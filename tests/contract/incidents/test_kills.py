"""Processes that are killed during a write: the write is complete or absent, and the next process can continue."""

from __future__ import annotations

import pytest

from relab.incidents.actions.records import ActionStatus
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, TimelineEvent
from rig.children import read_line
from support.incidents.acts import NOW_US
from support.incidents.log_child import write
from support.incidents.logs import asked, opened
from support.lab.forked import forked

Everything = tuple[Incident | None, list[TimelineEvent], list[object], list[object]]
BEFORE = {"finish": "put", "decide": "request"}
"""The write that each command needs before it."""


def everything(log: IncidentLog, target: str, incident_id: str) -> Everything:
    acts, approvals = log.actions.of_incident(incident_id), log.approvals.of_incident(incident_id)
    return log.current(target), log.read_after(incident_id), list(acts), list(approvals)


def killed_at(command: str, url: str, name: str) -> None:
    with forked("support.incidents.log_child", command, url, name) as process:
        assert read_line(process) == ("committing" if command.endswith(":before") else "committed")
        process.kill()
        process.wait()


def test_stored_action_is_requested_again_with_its_key(log: IncidentLog, log_url: str, target: str) -> None:
    incident_id = opened(log, target).incident_id

    killed_at("put:after", log_url, incident_id)

    (unsettled,) = log.actions.unsettled(target)
    again = log.actions.put(asked(incident_id))
    assert again.act == unsettled
    assert again.created is False
    assert unsettled == asked(incident_id)
    log.actions.finish(unsettled.key, ActionStatus.SUCCEEDED, at_us=NOW_US)
    assert [event.kind for event in log.read_after(incident_id)] == ["opened", "act_asked", "act_finished"]


@pytest.mark.full
def test_action_that_was_not_stored_was_never_requested(log: IncidentLog, log_url: str, target: str) -> None:
    incident_id = opened(log, target).incident_id

    killed_at("put:before", log_url, incident_id)

    assert log.actions.of_incident(incident_id) == []
    assert len(log.read_after(incident_id)) == 1
    assert log.actions.put(asked(incident_id)).created


@pytest.mark.full
@pytest.mark.parametrize("command", ["finish", "request", "decide", "close", "close_by_person"])
def test_kill_before_the_commit_changes_nothing(log: IncidentLog, log_url: str, target: str, command: str) -> None:
    incident_id = opened(log, target).incident_id
    if command in BEFORE:
        write(log, BEFORE[command], incident_id)
    before = everything(log, target, incident_id)

    killed_at(f"{command}:before", log_url, incident_id)

    assert everything(log, target, incident_id) == before
    write(log, command, incident_id)
    after = everything(log, target, incident_id)
    assert len(after[1]) == len(before[1]) + 1


@pytest.mark.full
@pytest.mark.parametrize("command", ["finish", "request", "decide", "close", "close_by_person"])
def test_command_that_runs_again_after_a_kill_changes_nothing(
    log: IncidentLog, log_url: str, target: str, command: str
) -> None:
    incident_id = opened(log, target).incident_id
    if command in BEFORE:
        write(log, BEFORE[command], incident_id)

    killed_at(f"{command}:after", log_url, incident_id)

    before = everything(log, target, incident_id)
    write(log, command, incident_id)
    assert everything(log, target, incident_id) == before


@pytest.mark.full
def test_incident_whose_opener_was_killed_is_opened_once(log: IncidentLog, log_url: str, target: str) -> None:
    killed_at("open:before", log_url, target)
    assert log.current(target) is None

    killed_at("open:after", log_url, target)
    current = log.current(target)
    assert current is not None
    killed_at("open:after", log_url, target)
    again = log.current(target)
    assert again is not None
    assert again.incident_id == current.incident_id
    assert again.findings[0].count == 2
