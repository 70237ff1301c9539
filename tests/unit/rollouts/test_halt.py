"""The event that stops a measurement."""

from __future__ import annotations

from threading import Event

from relab.rollouts.execution.halt import Halt, HaltReason


def test_measurement_stays_stopped_after_an_expired_lease_is_extended_again() -> None:
    leased = iter([True, False, True, True])
    halt = Halt(Event(), budget_s=0, still_leased=lambda: next(leased))

    assert [halt.reason for _ in range(4)] == [None, *[HaltReason.LEASE] * 3]
