"""Injections: one of a kind at a time, begun and ended when they should be, growing and pausing where they can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relab.core.errors import UnavailableError
from relab.testbed.chaos import manager as chaos_manager
from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.models import (
    AlreadyActiveError,
    AlreadyEndedError,
    NotEndedError,
    NotPossibleHereError,
    Phase,
    UnknownFaultError,
    UnknownInjectionError,
    WrongFaultParametersError,
)
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.testbed.leaks import leaks


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def manager(log: list[str]) -> Iterator[ChaosManager]:
    made = ChaosManager(leaks(log), {"cgroup": "there is no control group"}, MovableClock())
    yield made
    made.close()


def begin(manager: ChaosManager, name: str = "drip", **given: Any) -> Any:
    times = {key: given.pop(key) for key in ("delay_s", "duration_s") if key in given}
    return manager.inject(name, given, **times)


def test_a_fault_is_at_work_until_it_is_stopped(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, intensity=0.5)
    assert (injection.phase, log) == (Phase.ACTIVE, ["0.50"])

    stopped = manager.stop(injection.injection_id)
    assert (stopped.phase, log) == (Phase.STOPPED, ["0.50", "end"])
    with pytest.raises(AlreadyEndedError, match="it is stopped"):
        manager.stop(injection.injection_id)
    assert log == ["0.50", "end"]


def test_one_of_a_kind_at_a_time_but_several_kinds(manager: ChaosManager) -> None:
    first, other = begin(manager), begin(manager, "burst")
    with pytest.raises(AlreadyActiveError, match=first.injection_id):
        begin(manager)
    manager.stop(first.injection_id)
    again = begin(manager)

    assert [item.injection_id for item in manager.list()] == [
        again.injection_id, other.injection_id, first.injection_id,
    ]  # fmt: skip
    assert manager.stop_all() == 2


def test_it_begins_after_its_delay_and_ends_after_its_duration(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, delay_s=0.05, duration_s=0.05)
    assert (injection.phase, log) == (Phase.WAITING, [])
    with pytest.raises(AlreadyActiveError):
        begin(manager)
    wait_until(lambda: injection.phase is Phase.EXPIRED, what="its end")
    assert log == ["1.00", "end"]


def test_what_waits_can_be_stopped_before_it_begins(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, delay_s=3_600)
    assert manager.stop(injection.injection_id).phase is Phase.STOPPED
    assert log == []


def test_it_grows_to_its_intensity(manager: ChaosManager, log: list[str]) -> None:
    begin(manager, ramp_s=0.05, intensity=0.5)
    wait_until(lambda: len(log) == 10, what="ten steps")
    assert [float(level) for level in log] == pytest.approx([0.05 * step for step in range(1, 11)])


def test_it_comes_and_goes(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, period_s=0.02, duty=0.5)
    wait_until(lambda: len(log) >= 5, what="two periods")
    manager.stop(injection.injection_id)
    assert log[:5] == ["1.00", "0.00", "1.00", "0.00", "1.00"]
    assert log[-1] == "end"


def test_what_cannot_be_begun_is_told_and_is_not_at_work(manager: ChaosManager) -> None:
    with pytest.raises(UnavailableError, match="There is no tap"):
        begin(manager, seed=13)
    (injection,) = manager.list()
    assert (injection.phase, injection.error) == (Phase.FAILED, "There is no tap.")
    later = begin(manager, seed=13, delay_s=0.01)
    wait_until(lambda: later.phase is Phase.FAILED, what="its failure")
    assert begin(manager).phase is Phase.ACTIVE


def test_a_cause_that_a_repair_took_away_is_no_failure(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, period_s=0.02, seed=7)
    wait_until(lambda: len(injection.notes) >= 2, what="two notes")
    assert injection.phase is Phase.ACTIVE
    assert "The tap is gone." in injection.notes[0]
    manager.stop(injection.injection_id)
    assert "end" in log


@pytest.mark.parametrize(
    "given", [{"intensity": 0}, {"intensity": 2}, {"more": 1}, {"seed": "x"}, {"duty": 1.0}, {"intensity": "; id"}]
)
def test_wrong_parameters_are_named_and_nothing_is_done(
    manager: ChaosManager, log: list[str], given: dict[str, Any]
) -> None:
    with pytest.raises(WrongFaultParametersError, match=f"drip: {next(iter(given))}: "):
        begin(manager, **given)
    assert (log, manager.list()) == ([], [])


def test_what_this_machine_or_the_catalogue_lacks_is_refused(manager: ChaosManager) -> None:
    with pytest.raises(NotPossibleHereError, match="there is no control group"):
        begin(manager, "flood")
    with pytest.raises(UnknownFaultError, match="One of: drip, burst, flood"):
        begin(manager, "quake")
    with pytest.raises(WrongFaultParametersError, match="it cannot grow or pause"):
        begin(manager, "burst", ramp_s=1)
    for call in (manager.get, manager.stop):
        with pytest.raises(UnknownInjectionError):
            call("none")
    assert {item["name"]: item["impossible"] for item in manager.catalogue()} == {
        "drip": None, "burst": None, "flood": "there is no control group",
    }  # fmt: skip


def test_what_cannot_be_ended_now_goes_on_and_is_stopped_again(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, seed=11)
    for tries in (1, 2):
        with pytest.raises(NotEndedError, match="does not answer"):
            manager.stop(injection.injection_id)
        assert (injection.phase, injection.ended_at, len(injection.notes)) == (Phase.ACTIVE, None, tries)
    assert manager.stop(injection.injection_id).phase is Phase.STOPPED


def test_what_cannot_be_ended_when_its_time_is_over_is_ended_later(
    manager: ChaosManager, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_manager, "_TRIES_AGAIN_S", 0.01)
    injection = begin(manager, seed=11, duration_s=0.01)
    wait_until(lambda: injection.phase is Phase.EXPIRED, what="its end")
    assert log.count("end") == 3
