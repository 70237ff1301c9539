"""The event that stops a measurement."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from relab.rollouts.execution.halt import Halt, HaltReason, JobStop


def test_measurement_stays_stopped_after_an_expired_lease_is_extended_again() -> None:
    leased = iter([True, False, True, True])
    halt = Halt(Event(), budget_s=0, still_leased=lambda: next(leased))

    assert [halt.reason for _ in range(4)] == [None, *[HaltReason.LEASE] * 3]


def halt_of(*, is_stopped: bool = False, budget_s: float = 0, still_leased: Callable[[], bool] = lambda: True) -> Halt:
    stop = Event()
    if is_stopped:
        stop.set()
    return Halt(stop, budget_s=budget_s, still_leased=still_leased)


@pytest.mark.parametrize(
    ("halt", "reason"),
    [
        (halt_of(), None),
        (halt_of(budget_s=3_600), None),
        (halt_of(budget_s=1e-9), HaltReason.BUDGET),
        (halt_of(budget_s=1e-9, still_leased=lambda: False), HaltReason.LEASE),
        (halt_of(is_stopped=True, budget_s=1e-9, still_leased=lambda: False), HaltReason.STOPPED),
    ],
)
def test_first_reason_to_stop_ends_a_measurement_and_its_waiting(halt: Halt, reason: HaltReason | None) -> None:
    assert halt.reason is reason
    assert halt.is_set() is (reason is not None)
    assert halt.sleep(0) is (reason is None)


@pytest.mark.parametrize(
    ("is_requested", "is_worker_stopping", "reason"),
    [
        (False, False, None),
        (False, True, HaltReason.WORKER),
        (True, False, HaltReason.STOPPED),
        (True, True, HaltReason.STOPPED),
    ],
)
def test_request_of_a_person_comes_before_a_worker_that_stops(
    is_requested: bool, is_worker_stopping: bool, reason: HaltReason | None
) -> None:
    worker = Event()
    stop = JobStop(worker)
    halt = Halt(stop, budget_s=0, still_leased=lambda: True)
    if is_worker_stopping:
        worker.set()
    if is_requested:
        stop.set()

    assert halt.reason is reason
    assert worker.is_set() is is_worker_stopping


def test_only_a_budget_has_seconds_left() -> None:
    left_s = halt_of(budget_s=3_600).left_s()

    assert halt_of().left_s() is None
    assert halt_of(budget_s=1e-9).left_s() == 0
    assert left_s is not None
    assert 0 < left_s <= 3_600
