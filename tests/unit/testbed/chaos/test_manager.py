"""The chaos manager: one injection per fault at a time, delay and duration, ramps, intermittence, and clean-up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from relab.core.errors import UnavailableError
from relab.testbed.chaos import manager as chaos_manager
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.models import (
    AlreadyActiveError,
    AlreadyEndedError,
    FaultParameters,
    Injection,
    InjectionPhase,
    NotEndedError,
    NotPossibleHereError,
    UnknownFaultError,
    UnknownInjectionError,
    WrongFaultParametersError,
)
from rig.waiting import wait_until
from support.testbed.leaks import Leak, LeakFault, SlowLeakFault, StickyLeakFault, leak_manager

SOON_S = 30.0


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def manager(log: list[str]) -> Iterator[ChaosManager]:
    made = leak_manager(log)
    yield made
    made.close()


def begin(manager: ChaosManager, name: str = "drip", **given: Any) -> Any:
    times = {key: given.pop(key) for key in ("delay_s", "duration_s") if key in given}
    return manager.inject(name, given, **times)


def phase_of(manager: ChaosManager, injection: Injection) -> InjectionPhase:
    return manager.get(injection.injection_id).phase


def test_fault_is_active_until_it_is_stopped(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, intensity=0.5)
    assert injection.phase == InjectionPhase.ACTIVE
    assert log == ["0.50"]

    stopped = manager.stop(injection.injection_id)
    assert stopped.phase == InjectionPhase.STOPPED
    assert log == ["0.50", "end"]
    with pytest.raises(AlreadyEndedError):
        manager.stop(injection.injection_id)
    assert log == ["0.50", "end"]


def test_same_fault_is_rejected_while_active_and_different_faults_overlap(manager: ChaosManager) -> None:
    first, other = begin(manager), begin(manager, "burst")
    with pytest.raises(AlreadyActiveError, match=first.injection_id):
        begin(manager)
    manager.stop(first.injection_id)
    again = begin(manager)

    assert [item.injection_id for item in manager.list()] == [
        again.injection_id, other.injection_id, first.injection_id,
    ]  # fmt: skip
    assert [item.is_open for item in manager.list()] == [True, True, False]


def test_injection_begins_after_its_delay_and_ends_after_its_duration(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, delay_s=0.05, duration_s=0.05)
    wait_until(lambda: phase_of(manager, injection) is InjectionPhase.EXPIRED, what="its end")
    assert log == ["1.00", "end"]


def test_waiting_injection_changes_nothing_and_can_be_stopped(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, delay_s=3_600)
    assert injection.phase == InjectionPhase.WAITING
    with pytest.raises(AlreadyActiveError):
        begin(manager)
    assert manager.stop(injection.injection_id).phase is InjectionPhase.STOPPED
    assert log == []


def test_ramp_grows_to_the_intensity(manager: ChaosManager, log: list[str]) -> None:
    begin(manager, ramp_s=0.05, intensity=0.5)
    wait_until(lambda: len(log) == 10, what="ten steps")
    assert [float(level) for level in log] == pytest.approx([0.05 * step for step in range(1, 11)])


def test_intermittent_fault_alternates_between_on_and_off(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, period_s=0.02, duty=0.5)
    wait_until(lambda: len(log) >= 5, what="two periods")
    manager.stop(injection.injection_id)
    assert log[:5] == ["1.00", "0.00", "1.00", "0.00", "1.00"]
    assert log[-1] == "end"


def test_injection_that_cannot_begin_fails_with_its_error(manager: ChaosManager) -> None:
    with pytest.raises(UnavailableError) as caught:
        begin(manager, seed=13)
    assert caught.value.message == "There is no tap."
    (injection,) = manager.list()
    assert injection.phase == InjectionPhase.FAILED
    assert injection.error == "There is no tap."
    later = begin(manager, seed=13, delay_s=0.01)
    wait_until(lambda: phase_of(manager, later) is InjectionPhase.FAILED, what="its failure")
    assert begin(manager).phase is InjectionPhase.ACTIVE


def test_error_after_a_repair_becomes_a_note_of_the_active_injection(manager: ChaosManager, log: list[str]) -> None:
    injection_id = begin(manager, period_s=0.02, seed=7).injection_id
    wait_until(lambda: len(manager.get(injection_id).notes) >= 2, what="two notes")
    assert manager.get(injection_id).phase is InjectionPhase.ACTIVE
    assert "The tap is gone." in manager.get(injection_id).notes[0]
    manager.stop(injection_id)
    assert "end" in log


@pytest.mark.parametrize(
    "given", [{"intensity": 0}, {"intensity": 2}, {"more": 1}, {"seed": "x"}, {"duty": 1.0}, {"intensity": "; id"}]
)
def test_invalid_parameters_are_named_and_nothing_is_injected(
    manager: ChaosManager, log: list[str], given: dict[str, Any]
) -> None:
    with pytest.raises(WrongFaultParametersError) as caught:
        begin(manager, **given)
    assert caught.value.problems[0][0] == next(iter(given))
    assert caught.value.message.startswith("drip: ")
    assert manager.list() == []
    assert log == []


def test_impossible_and_unknown_faults_are_rejected(manager: ChaosManager) -> None:
    with pytest.raises(NotPossibleHereError, match="there is no control group"):
        begin(manager, "flood")
    with pytest.raises(UnknownFaultError) as caught:
        begin(manager, "quake")
    assert "'quake'" in caught.value.message
    assert "drip, burst, flood" in str(caught.value)
    with pytest.raises(WrongFaultParametersError) as caught:
        begin(manager, "burst", ramp_s=1)
    assert caught.value.problems[0][0] == "ramp_s"
    for call in (manager.get, manager.stop):
        with pytest.raises(UnknownInjectionError):
            call("none")
    assert {item["name"]: item["impossible"] for item in manager.catalogue()} == {
        "drip": None, "burst": None, "flood": "there is no control group",
    }  # fmt: skip


def test_injection_that_cannot_be_ended_stays_active_until_a_later_stop(manager: ChaosManager, log: list[str]) -> None:
    injection = begin(manager, seed=11)
    for tries in (1, 2):
        with pytest.raises(NotEndedError, match="does not answer"):
            manager.stop(injection.injection_id)
        found = manager.get(injection.injection_id)
        assert found.phase is InjectionPhase.ACTIVE
        assert found.ended_at is None
        assert len(found.notes) == tries
    assert manager.stop(injection.injection_id).phase is InjectionPhase.STOPPED


def test_expiry_is_retried_until_the_injector_ends(
    manager: ChaosManager, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_manager, "_RETRY_AFTER_S", 0.01)
    injection = begin(manager, seed=11, duration_s=0.01)
    wait_until(lambda: phase_of(manager, injection) is InjectionPhase.EXPIRED, what="its end")
    assert log.count("end") == 3


def test_slow_injector_delays_no_other_injection(log: list[str]) -> None:
    mudslide = SlowLeakFault("mudslide", log)
    manager = leak_manager(log, mudslide=mudslide)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(begin, manager, "mudslide")
        wait_until(lambda: hasattr(mudslide, "leak") and mudslide.leak.is_at_work.is_set(), what="the slow injector")
        try:
            # Each of these calls returns while the slow injector works.
            other = pool.submit(begin, manager).result(timeout=SOON_S)
            assert [item.fault for item in pool.submit(manager.list).result(timeout=SOON_S)] == ["drip", "mudslide"]
            with pytest.raises(AlreadyActiveError):
                pool.submit(begin, manager, "mudslide").result(timeout=SOON_S)
            assert pool.submit(manager.stop, other.injection_id).result(timeout=SOON_S).phase is InjectionPhase.STOPPED
        finally:
            mudslide.leak.may_finish.set()
        assert slow.result(timeout=SOON_S).phase is InjectionPhase.ACTIVE
    manager.close()


def test_stop_waits_for_the_injector_of_its_own_injection(log: list[str]) -> None:
    mudslide = SlowLeakFault("mudslide", log)
    manager = leak_manager(log, mudslide=mudslide)
    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(begin, manager, "mudslide")
        wait_until(lambda: hasattr(mudslide, "leak") and mudslide.leak.is_at_work.is_set(), what="the slow injector")
        (injection,) = manager.list()
        stopped = pool.submit(manager.stop, injection.injection_id)
        with pytest.raises(TimeoutError):
            stopped.result(timeout=0.2)
        mudslide.leak.may_finish.set()
        begun.result(timeout=SOON_S)
        assert stopped.result(timeout=SOON_S).phase is InjectionPhase.STOPPED
    assert log == ["1.00", "end"]
    manager.close()


def test_injector_that_fails_unexpectedly_is_still_ended_in_time(log: list[str]) -> None:
    class Broken(Leak):
        def set_level(self, level: float) -> None:
            super().set_level(level)
            if level == 0:
                raise RuntimeError("The tap exploded.")

    class BrokenFault(LeakFault):
        def injector(self, _ground: Ground, given: FaultParameters) -> Broken:
            return Broken(given, log)

    broken = leak_manager(log, explosion=BrokenFault("explosion", log, can_vary=True))
    injection = broken.inject("explosion", {"period_s": 0.02}, duration_s=0.1)
    wait_until(lambda: phase_of(broken, injection) is InjectionPhase.EXPIRED, what="its end")
    assert log[:4] == ["1.00", "0.00", "1.00", "0.00"]
    assert log[-1] == "end"
    assert "The tap exploded." in broken.get(injection.injection_id).notes[0]
    broken.close()


def test_step_that_fails_unexpectedly_does_not_end_the_ramp(log: list[str]) -> None:
    class Stumbling(Leak):
        def set_level(self, level: float) -> None:
            super().set_level(level)
            if len(self.log) == 3:
                raise ValueError("The answer is not JSON.")

    class StumblingFault(LeakFault):
        def injector(self, _ground: Ground, given: FaultParameters) -> Stumbling:
            return Stumbling(given, log)

    manager = leak_manager(log, stumble=StumblingFault("stumble", log, can_vary=True))
    manager.inject("stumble", {"ramp_s": 0.05})
    wait_until(lambda: log[-1:] == ["1.00"], what="the last step")
    assert len(log) == 10
    manager.close()


def test_injection_that_begins_during_a_reset_is_kept(log: list[str]) -> None:
    sticky = StickyLeakFault("sticky", log)
    manager = leak_manager(log, sticky=sticky)
    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(begin, manager, "sticky")
        wait_until(lambda: hasattr(sticky, "leak") and sticky.leak.is_undoing.is_set(), what="the undo")
        forgotten = pool.submit(manager.forget)
        wait_until(lambda: not manager.list(), what="the empty list")
        later = begin(manager)
        sticky.leak.may_finish.set()
        forgotten.result(timeout=SOON_S)
        with pytest.raises(UnavailableError):
            failed.result(timeout=SOON_S)
    assert [item.injection_id for item in manager.list()] == [later.injection_id]
    assert manager.stop(later.injection_id).phase is InjectionPhase.STOPPED
    assert log == ["1.00", "1.00", "end", "end"]


def test_reset_waits_for_the_undo_of_an_injection_that_cannot_begin(log: list[str]) -> None:
    sticky = StickyLeakFault("sticky", log)
    manager = leak_manager(log, sticky=sticky)
    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(begin, manager, "sticky")
        wait_until(lambda: hasattr(sticky, "leak") and sticky.leak.is_undoing.is_set(), what="the undo")
        with pytest.raises(AlreadyActiveError):
            begin(manager, "sticky")
        forgotten = pool.submit(manager.forget)
        with pytest.raises(TimeoutError):
            forgotten.result(timeout=0.2)
        sticky.leak.may_finish.set()
        forgotten.result(timeout=SOON_S)
        with pytest.raises(UnavailableError) as caught:
            failed.result(timeout=SOON_S)
        assert caught.value.message == "The tap is stuck."
    assert log == ["1.00", "end"]
