"""Injections: one thread starts them after their delay, ramps them up, pauses and ends them."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pydantic import ValidationError

from relab.core.clock import Clock, format_time
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.testbed.chaos.models import (
    AlreadyActiveError,
    AlreadyEndedError,
    Cause,
    Fault,
    Injection,
    NotEndedError,
    NotPossibleHereError,
    Parameters,
    Phase,
    UnknownFaultError,
    UnknownInjectionError,
    WrongFaultParametersError,
)

MAX_DURATION_S: Final = 86_400.0
STEPS_OF_A_RAMP: Final = 10
"""A fault with a ramp grows in so many equal steps, the first of them at once."""
_TRIES_AGAIN_S: Final = 2.0
_OPEN: Final = frozenset((Phase.WAITING, Phase.ACTIVE))

_log = structlog.get_logger(__name__)

Make = Callable[[Parameters], Cause]


@dataclass(order=True)
class _Appointment:
    at: float
    number: int
    act: Callable[[], None] = field(compare=False)


@dataclass
class _Running:
    injection: Injection
    fault: Fault
    parameters: Parameters
    cause: Cause | None = None


class ChaosManager:
    """All injections of one testbed.

    Args:
        faults: each with the function that creates its cause; those that are impossible on this machine are listed too.
        impossible: `{need: reason}` for needs that this machine does not meet.
        clock: for the times in injections.
    """

    def __init__(self, faults: Mapping[str, tuple[Fault, Make]], impossible: Mapping[str, str], clock: Clock) -> None:
        self._faults = faults
        self._impossible = impossible
        self._clock = clock
        self._all: dict[str, _Running] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._appointments: list[_Appointment] = []
        self._numbers = itertools.count()
        self._closing = False
        self._thread = threading.Thread(target=self._keep_times, name="chaos-times", daemon=True)
        self._thread.start()

    def catalogue(self) -> list[dict[str, Any]]:
        """Return all faults, each with the reason if it is impossible on this machine."""
        return [{**fault.to_json(), "impossible": self._why_not(fault)} for fault, _ in self._faults.values()]

    def inject(
        self, name: str, given: Mapping[str, Any], *, delay_s: float = 0.0, duration_s: float | None = None
    ) -> Injection:
        """Inject a fault, at once or after `delay_s`.

        Raises:
            UnknownFaultError, WrongFaultParametersError: the fault is unknown, or its parameters are invalid.
            AlreadyActiveError: the same fault is active or waiting.
            NotPossibleHereError: this machine does not meet its needs.
            UnavailableError: a component that it works on does not answer; nothing was changed.
        """
        fault, make = self._fault(name)
        parameters = _parameters(fault, given)
        why_not = self._why_not(fault)
        if why_not is not None:
            raise NotPossibleHereError(f"{name!r} cannot be brought about here: {why_not}.")
        with self._lock:
            for other in self._all.values():
                if other.fault.name == name and other.injection.phase in _OPEN:
                    raise AlreadyActiveError(
                        f"{name!r} is {other.injection.phase.value} as {other.injection.injection_id}.",
                        remedy="Stop it first.",
                    )
            injection = Injection(new_id(), name, parameters.model_dump(mode="json"), self._now(), delay_s, duration_s)
            running = _Running(injection, fault, parameters)
            self._all[injection.injection_id] = running
            if delay_s > 0:
                self._at(delay_s, lambda: self._begin_quietly(running, make))
            else:
                self._begin(running, make)
        return injection

    def stop(self, injection_id: str) -> Injection:
        """End an injection. Damage that only a repair should fix remains.

        Raises:
            UnknownInjectionError: no injection has this id.
            AlreadyEndedError: it has already ended.
            NotEndedError: a component that it works on does not answer; the injection continues.
        """
        with self._lock:
            running = self._get(injection_id)
            if running.injection.phase not in _OPEN:
                raise AlreadyEndedError(f"{injection_id} has ended: it is {running.injection.phase.value}.")
            self._end(running, Phase.STOPPED)
            return running.injection

    def get(self, injection_id: str) -> Injection:
        """Return an injection.

        Raises:
            UnknownInjectionError: no injection has this id.
        """
        with self._lock:
            return self._get(injection_id).injection

    def check(self, fault: str, injection_id: str) -> None:
        """Check that an injection is of this fault.

        Raises:
            UnknownInjectionError: it is of another fault, or no injection has this id.
        """
        if self.get(injection_id).fault != fault:
            raise UnknownInjectionError(f"{injection_id[:100]!r} is no injection of {fault[:100]!r}.")

    def list(self) -> list[Injection]:
        """Return all injections, newest first."""
        with self._lock:
            return [running.injection for running in reversed(self._all.values())]

    def stop_all(self) -> int:
        """End all active and waiting injections; return their number."""
        with self._lock:
            found = [running for running in self._all.values() if running.injection.phase in _OPEN]
            for running in found:
                # Continue with the others; `_end` has added a note to this one.
                with contextlib.suppress(NotEndedError):
                    self._end(running, Phase.STOPPED)
        return len(found)

    def forget(self) -> None:
        """End all injections and delete them."""
        with self._lock:
            self.stop_all()
            self._all.clear()
            self._appointments.clear()

    def close(self) -> None:
        """End all injections, and stop the thread."""
        self.stop_all()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _begin_quietly(self, running: _Running, make: Make) -> None:
        if running.injection.phase is Phase.WAITING:
            try:
                self._begin(running, make)
            except RelabError:
                _log.warning("injection_failed", fault=running.fault.name, error=running.injection.error)

    def _begin(self, running: _Running, make: Make) -> None:
        injection, given = running.injection, running.parameters
        try:
            running.cause = make(given)
            running.cause.set_level(given.intensity if given.ramp_s == 0 else given.intensity / STEPS_OF_A_RAMP)
        except BaseException as error:
            injection.phase, injection.error, injection.ended_at = Phase.FAILED, str(error)[:2_000], self._now()
            if running.cause is not None:
                running.cause.end()
            raise
        injection.phase, injection.began_at = Phase.ACTIVE, self._now()
        for step in range(2, STEPS_OF_A_RAMP + 1) if given.ramp_s > 0 else ():
            level = given.intensity * step / STEPS_OF_A_RAMP
            self._at(given.ramp_s * (step - 1) / (STEPS_OF_A_RAMP - 1), functools.partial(self._level, running, level))
        if given.period_s > 0:
            self._at(given.ramp_s + given.period_s * given.duty, lambda: self._pause(running))
        if injection.duration_s is not None:
            self._at(injection.duration_s, lambda: self._expire(running))

    def _pause(self, running: _Running) -> None:
        given = running.parameters
        self._level(running, 0.0)
        self._at(given.period_s * (1 - given.duty), lambda: self._go_on(running))

    def _go_on(self, running: _Running) -> None:
        given = running.parameters
        self._level(running, given.intensity)
        self._at(given.period_s * given.duty, lambda: self._pause(running))

    def _level(self, running: _Running, level: float) -> None:
        if running.injection.phase is Phase.ACTIVE and running.cause is not None:
            try:
                running.cause.set_level(level)
            except RelabError as error:
                # A repair may have removed what the cause worked on; that does not make the injection a failure.
                running.injection.notes.append(f"{self._now()}: {error}"[:500])

    def _end(self, running: _Running, phase: Phase) -> None:
        """End a cause. If that fails, the injection stays active and can be stopped again.

        Raises:
            NotEndedError: the cause could not be ended.
        """
        if running.injection.phase not in _OPEN:
            return
        if running.cause is not None:
            try:
                running.cause.end()
            except RelabError as error:
                running.injection.notes.append(f"{self._now()}: {error}"[:500])
                raise NotEndedError(
                    f"{running.fault.name!r} is not ended: {error}", remedy="Stop it again, or reset the testbed."
                ) from error
        running.injection.phase, running.injection.ended_at = phase, self._now()

    def _expire(self, running: _Running) -> None:
        try:
            self._end(running, Phase.EXPIRED)
        except NotEndedError:
            self._at(_TRIES_AGAIN_S, lambda: self._expire(running))

    def _keep_times(self) -> None:
        while True:
            with self._changed:
                while not self._closing and (not self._appointments or self._appointments[0].at > time.monotonic()):
                    left = self._appointments[0].at - time.monotonic() if self._appointments else None
                    self._changed.wait(left)
                if self._closing:
                    return
                due = heapq.heappop(self._appointments)
                try:
                    due.act()
                except Exception:  # noqa: BLE001 one injection's error must not end the times of all others
                    _log.exception("appointment_failed")

    def _at(self, in_s: float, act: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._appointments, _Appointment(time.monotonic() + in_s, next(self._numbers), act))
            self._changed.notify_all()

    def _fault(self, name: str) -> tuple[Fault, Make]:
        found = self._faults.get(name)
        if found is None:
            raise UnknownFaultError(f"There is no fault {name[:100]!r}.", remedy=f"One of: {', '.join(self._faults)}.")
        return found

    def _get(self, injection_id: str) -> _Running:
        found = self._all.get(injection_id)
        if found is None:
            raise UnknownInjectionError(f"Nothing was injected as {injection_id[:100]!r}.")
        return found

    def _why_not(self, fault: Fault) -> str | None:
        return next((self._impossible[need] for need in fault.needs if need in self._impossible), None)

    def _now(self) -> str:
        return format_time(self._clock.now_us())


def _parameters(fault: Fault, given: Mapping[str, Any]) -> Parameters:
    try:
        found = fault.parameters.model_validate(dict(given))
    except ValidationError as error:
        problems = tuple((".".join(map(str, item["loc"])) or "body", item["msg"]) for item in error.errors()[:20])
        raise WrongFaultParametersError(
            f"{fault.name}: {problems[0][0]}: {problems[0][1]}.", problems=problems
        ) from error
    if (found.ramp_s > 0 or found.period_s > 0) and not fault.can_vary:
        problem = ("ramp_s" if found.ramp_s > 0 else "period_s", "this cause is there or not; it cannot grow or pause")
        raise WrongFaultParametersError(f"{fault.name}: {problem[0]}: {problem[1]}.", problems=(problem,))
    return found
