"""Injections: begun after their delay, grown, interrupted and ended by one thread that keeps their times."""

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
_STEPS_OF_A_RAMP: Final = 10
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
        faults: each with what makes its cause; those that this machine cannot bring about are listed all the same.
        impossible: `{need: reason}` of this machine.
        clock: tells the times that injections carry.
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
        """Return every fault, and why it is not possible here, if it is not."""
        return [{**fault.to_json(), "impossible": self._why_not(fault)} for fault, _ in self._faults.values()]

    def inject(
        self, name: str, given: Mapping[str, Any], *, delay_s: float = 0.0, duration_s: float | None = None
    ) -> Injection:
        """Begin a fault, at once or later.

        Raises:
            UnknownFaultError, WrongFaultParametersError: there is no such thing.
            AlreadyActiveError: it is at work.
            NotPossibleHereError: this machine cannot do it.
            UnavailableError: something that it works on does not answer; nothing was done.
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
        """End an injection. What it has broken stays broken where a repair is for that.

        Raises:
            UnknownInjectionError: there is none of this id.
            AlreadyEndedError: it has ended.
            NotEndedError: something that it works on does not answer; it goes on.
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
            UnknownInjectionError: there is none of this id.
        """
        with self._lock:
            return self._get(injection_id).injection

    def check(self, fault: str, injection_id: str) -> None:
        """Return if an injection is of this fault.

        Raises:
            UnknownInjectionError: it is not, or there is none of this id.
        """
        if self.get(injection_id).fault != fault:
            raise UnknownInjectionError(f"{injection_id[:100]!r} is no injection of {fault[:100]!r}.")

    def list(self) -> list[Injection]:
        """Return all injections, newest first."""
        with self._lock:
            return [running.injection for running in reversed(self._all.values())]

    def stop_all(self) -> int:
        """End whatever is at work or waits; return how many that were."""
        with self._lock:
            found = [running for running in self._all.values() if running.injection.phase in _OPEN]
            for running in found:
                # The others are ended all the same; it has a note.
                with contextlib.suppress(NotEndedError):
                    self._end(running, Phase.STOPPED)
        return len(found)

    def forget(self) -> None:
        """End everything, and know nothing of it from now on."""
        with self._lock:
            self.stop_all()
            self._all.clear()
            self._appointments.clear()

    def close(self) -> None:
        """End everything."""
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
            running.cause.set_level(given.intensity if given.ramp_s == 0 else given.intensity / _STEPS_OF_A_RAMP)
        except BaseException as error:
            injection.phase, injection.error, injection.ended_at = Phase.FAILED, str(error)[:2_000], self._now()
            if running.cause is not None:
                running.cause.end()
            raise
        injection.phase, injection.began_at = Phase.ACTIVE, self._now()
        for step in range(2, _STEPS_OF_A_RAMP + 1) if given.ramp_s > 0 else ():
            level = given.intensity * step / _STEPS_OF_A_RAMP
            self._at(given.ramp_s * (step - 1) / (_STEPS_OF_A_RAMP - 1), functools.partial(self._level, running, level))
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
                # A repair may have taken away what it worked on; that is no failure of the injection.
                running.injection.notes.append(f"{self._now()}: {error}"[:500])

    def _end(self, running: _Running, phase: Phase) -> None:
        """End a cause. One that cannot be ended now is at work still, and can be stopped again.

        Raises:
            NotEndedError: it is not ended.
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
