"""The action service: validation, limits, one action at a time, idempotency keys, audit records, and undo."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.models import (
    ActionRequest,
    InProgressError,
    KeyReusedError,
    KillSwitchError,
    NotReversibleError,
    PreconditionError,
    StalePreconditionError,
    Status,
    TooManyActionsError,
    UnknownActionError,
    UnknownRecordError,
    WrongParametersError,
)
from relab.testbed.actions.service import ActionService
from support.clocks import MovableClock
from support.testbed.valves import TurnValve, Valves

NO_LIMITS = ActionLimits(max_per_window=1_000, max_per_part=1_000, cooldown_s=0)


@pytest.fixture
def valves(tmp_path: Path) -> Valves:
    return Valves(tmp_path / "valves.json")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def service(tmp_path: Path, valves: Valves, clock: MovableClock) -> Iterator[ActionService]:
    audit = AuditLog(tmp_path / "actions.jsonl")
    yield ActionService([TurnValve(valves)], audit, Guard(audit, NO_LIMITS), clock)
    audit.close()


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "actions.jsonl").read_text().splitlines()]


def turn(service: ActionService, to: int, component: str = "a", **more: Any) -> Any:
    return service.perform("turn_valve", {"component": component, "to": to}, actor="someone", **more)


def test_action_is_recorded_before_and_after_it_acts(service: ActionService, valves: Valves, tmp_path: Path) -> None:
    valves.go_on.clear()
    worker = threading.Thread(target=turn, args=(service, 3))
    worker.start()
    assert valves.entered.wait(30)
    (begun,) = lines(tmp_path)
    assert begun["status"] == "started"
    assert begun["before"]["stands"] == 0
    assert begun["completed_at"] is None
    assert valves.read() == {}
    valves.go_on.set()
    worker.join()

    assert valves.read() == {"a": 3}
    done = lines(tmp_path)[-1]
    assert done["record_id"] == begun["record_id"]
    assert done["status"] == "succeeded"
    assert done["actor"] == "someone"
    assert done["after"] == {"stands": 3, "was": 0}


def test_a_dry_run_checks_everything_and_does_nothing(service: ActionService, valves: Valves, tmp_path: Path) -> None:
    answer = turn(service, 3, dry_run=True).to_json()

    assert answer["dry_run"] is True
    assert answer["before"]["stands"] == 0
    assert valves.read() == {}
    assert lines(tmp_path) == []
    with pytest.raises(PreconditionError, match="at 0"):
        turn(service, 0, dry_run=True)


def test_action_is_rejected_if_the_state_has_changed(service: ActionService, valves: Valves) -> None:
    seen = turn(service, 3, dry_run=True).before["state_digest"]
    valves.write("a", 5)

    with pytest.raises(StalePreconditionError):
        turn(service, 3, if_state=seen)
    assert valves.read() == {"a": 5}
    again = turn(service, 3, dry_run=True).before["state_digest"]
    assert turn(service, 3, if_state=again).record.status is Status.SUCCEEDED


def test_action_is_performed_once_per_idempotency_key(service: ActionService, valves: Valves, tmp_path: Path) -> None:
    first = turn(service, 3, key="k1")
    valves.write("a", 7)
    again = turn(service, 3, key="k1")

    assert first.replayed is False
    assert again.replayed is True
    assert again.record == first.record
    assert valves.read() == {"a": 7}
    with pytest.raises(KeyReusedError, match="'turn_valve'"):
        turn(service, 4, key="k1")
    assert len({line["record_id"] for line in lines(tmp_path)}) == 1


def test_failed_action_is_recorded_and_not_reported_as_success(service: ActionService, valves: Valves) -> None:
    answer = turn(service, 9)

    assert answer.to_json()["ok"] is False
    assert answer.record.status == Status.FAILED
    assert answer.record.error == "The valve is stuck."
    assert turn(service, 9, component="b", key="k").to_json()["ok"] is False
    assert turn(service, 9, component="b", key="k").replayed
    assert valves.read() == {}


def test_action_can_be_undone_only_once(service: ActionService, valves: Valves) -> None:
    valves.write("a", 4)
    record = turn(service, 6).record
    undone = service.undo(record.record_id, actor="another")

    assert valves.read() == {"a": 4}
    assert service.audit.get(record.record_id).status == Status.UNDONE
    assert undone.record.undoes == record.record_id
    for record_id in (record.record_id, undone.record.record_id):
        with pytest.raises(NotReversibleError):
            service.undo(record_id, actor="another")
    with pytest.raises(UnknownRecordError):
        service.undo("none", actor="another")


@pytest.mark.parametrize(
    "given", [{}, {"component": "a"}, {"component": "a; rm -rf /", "to": 1}, {"component": "a", "to": 11},
              {"component": "a", "to": 1, "force": True}, {"component": "$(id)", "to": 1}],
)  # fmt: skip
def test_invalid_parameters_are_rejected_and_not_recorded(
    service: ActionService, given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(WrongParametersError):
        service.perform("turn_valve", given, actor="someone")
    assert lines(tmp_path) == []


def test_unknown_action_is_rejected(service: ActionService) -> None:
    with pytest.raises(UnknownActionError):
        service.perform("shell", {"command": "id"}, actor="someone")
    with pytest.raises(WrongParametersError, match="Idempotency-Key"):
        turn(service, 3, key="")
    (listed,) = service.catalogue()
    assert listed["name"] == "turn_valve"
    assert listed["class"] == "setting"
    assert listed["blast_radius"] == "some_requests"
    assert listed["parameters"]["additionalProperties"] is False


def test_second_action_on_a_component_is_rejected_while_one_is_in_progress(
    service: ActionService, valves: Valves
) -> None:
    valves.go_on.clear()
    worker = threading.Thread(target=turn, args=(service, 3), kwargs={"key": "k"})
    worker.start()
    assert valves.entered.wait(30)

    with pytest.raises(InProgressError, match="'a'"):
        turn(service, 4)
    with pytest.raises(InProgressError, match="same key"):
        turn(service, 3, key="k")
    valves.go_on.set()
    worker.join()
    assert turn(service, 4).record.status is Status.SUCCEEDED


def test_kill_switch_rejects_actions_dry_runs_and_undos_but_not_reads(service: ActionService, valves: Valves) -> None:
    record = turn(service, 3).record
    service.switch(stopped=True, by="ada")

    for attempt in (
        lambda: turn(service, 4),
        lambda: turn(service, 4, dry_run=True),
        lambda: service.undo(record.record_id, actor="x"),
    ):
        with pytest.raises(KillSwitchError):
            attempt()
    assert valves.read() == {"a": 3}
    assert len(service.catalogue()) == 1


def test_kill_switch_survives_a_restart_and_its_changes_are_recorded(
    service: ActionService, valves: Valves, tmp_path: Path, clock: MovableClock
) -> None:
    service.switch(stopped=True, by="ada")
    audit = AuditLog(tmp_path / "actions.jsonl")
    again = ActionService([TurnValve(valves)], audit, Guard(audit, NO_LIMITS), clock)
    with pytest.raises(KillSwitchError):
        turn(again, 4)
    again.switch(stopped=False, by="root")
    assert turn(again, 4).record.status is Status.SUCCEEDED
    again.switch(stopped=True, by="ada")
    again.forget()
    assert turn(again, 5).record.status is Status.SUCCEEDED
    audit.close()
    told = [(line["kill_switch"], line["by"]) for line in lines(tmp_path) if "kill_switch" in line]
    assert told == [(True, "ada"), (False, "root"), (True, "ada")]


def test_action_on_a_worker_locks_the_whole_target(service: ActionService, valves: Valves) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TurnValve, "action", replace(TurnValve.action, also=frozenset(("target",))))
        valves.go_on.clear()
        worker = threading.Thread(target=turn, args=(service, 3))
        worker.start()
        assert valves.entered.wait(30)
        for other in ("target", "worker", "a"):
            with pytest.raises(InProgressError, match="turn_valve"):
                turn(service, 4, component=other)
        valves.go_on.set()
        worker.join()
    assert turn(service, 4, component="target").record.status is Status.SUCCEEDED


def test_too_many_actions_are_rejected_with_the_time_to_wait(
    tmp_path: Path, valves: Valves, clock: MovableClock
) -> None:
    audit = AuditLog(tmp_path / "more.jsonl")
    guard = Guard(audit, ActionLimits(window_s=60, max_per_window=4, max_per_part=2, cooldown_s=5))
    service = ActionService([TurnValve(valves)], audit, guard, clock)
    record = turn(service, 1).record
    with pytest.raises(TooManyActionsError, match="5 s") as cooling:
        turn(service, 2)
    assert cooling.value.retry_after_s == 5
    # An undo is exempt from the cooldown.
    service.undo(record.record_id, actor="x")
    clock.move(10)
    turn(service, 2)
    clock.move(10)
    with pytest.raises(TooManyActionsError, match="2 actions on 'a' in 60 s") as full:
        turn(service, 3)
    assert full.value.retry_after_s == 40
    turn(service, 1, component="b")
    turn(service, 1, component="c")
    with pytest.raises(TooManyActionsError, match="4 actions in 60 s"):
        turn(service, 1, component="d")
    clock.move(41)
    turn(service, 3)
    audit.close()


def test_restart_keeps_records_and_marks_interrupted_actions(
    tmp_path: Path, valves: Valves, clock: MovableClock
) -> None:
    path = tmp_path / "actions.jsonl"
    audit = AuditLog(path)
    service = ActionService([TurnValve(valves)], audit, Guard(audit, NO_LIMITS), clock)
    done = turn(service, 3, key="k").record
    audit.close()
    begun = json.loads(path.read_text().splitlines()[0])
    path.write_text(
        path.read_text() + json.dumps({**begun, "record_id": "cut", "key": None}) + "\n" + '{"record_id": "ha'
    )

    again = AuditLog(path)
    restarted = ActionService([TurnValve(valves)], again, Guard(again, NO_LIMITS), clock)
    assert turn(restarted, 3, key="k").record.record_id == done.record_id
    assert again.get("cut").status is Status.INTERRUPTED
    turn(restarted, 4)
    again.close()
    assert [line for line in path.read_text().splitlines() if line.startswith('{"record_id": "ha')] != []
    assert AuditLog(path).newest(1)[0].after["stands"] == 4


class _Interrupted(Guard):
    """A guard that handles another request after a request was checked and before it is admitted."""

    def __init__(self, audit: AuditLog) -> None:
        super().__init__(audit, NO_LIMITS)
        self.between: Callable[[], Any] | None = None

    @contextmanager
    def admitted(self, request: ActionRequest) -> Iterator[None]:
        between, self.between = self.between, None
        if between is not None:
            between()
        with super().admitted(request):
            yield


@pytest.fixture
def interrupted(tmp_path: Path, valves: Valves, clock: MovableClock) -> Iterator[tuple[ActionService, _Interrupted]]:
    audit = AuditLog(tmp_path / "actions.jsonl")
    guard = _Interrupted(audit)
    yield ActionService([TurnValve(valves)], audit, guard, clock), guard
    audit.close()


def test_second_request_with_a_key_is_replayed_if_the_first_ends_while_it_is_checked(
    interrupted: tuple[ActionService, _Interrupted], tmp_path: Path
) -> None:
    service, guard = interrupted
    guard.between = lambda: turn(service, 3, key="k1")
    answer = turn(service, 3, key="k1")

    assert answer.replayed is True
    assert len({line["record_id"] for line in lines(tmp_path)}) == 1


def test_action_is_undone_once_if_two_requests_undo_it(interrupted: tuple[ActionService, _Interrupted]) -> None:
    service, guard = interrupted
    record_id = turn(service, 3).record.record_id
    guard.between = lambda: service.undo(record_id, actor="another")

    with pytest.raises(NotReversibleError):
        service.undo(record_id, actor="someone")


def test_records_are_listed_while_another_one_is_added(service: ActionService) -> None:
    turn(service, 3)
    turn(service, 4)
    records = service.audit.since(0)
    newest = next(records)
    turn(service, 5)

    assert [record.parameters["to"] for record in (newest, *records)] == [4, 3]


def test_record_after_a_failed_write_begins_on_a_new_line(
    service: ActionService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(service, 3)
    write, room = os.write, [10]

    def write_some(file: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: room.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_some)
        with pytest.raises(OSError, match="No space"):
            turn(service, 4)
    turn(service, 5)

    whole = [json.loads(line) for line in (tmp_path / "actions.jsonl").read_text().splitlines() if line.endswith("}")]
    assert [(line["parameters"]["to"], line["status"]) for line in whole] == [
        (3, "started"),
        (3, "succeeded"),
        (5, "started"),
        (5, "succeeded"),
    ]
