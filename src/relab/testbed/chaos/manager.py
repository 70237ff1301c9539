"""Run fault injections on one testbed: begin each after its delay, vary its strength, and end it.

The manager's lock protects only the list of injections. Each injection has a lock of its own. An injection holds its
lock while it changes the testbed, which may take many seconds. So a slow component delays only the injections that work
on this component.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from relab.core.clock import Clock, format_time
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.core.logging import get_logger
from relab.testbed.chaos.faults.base import RAMP_STEPS, Injectable, Injector, find_in
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import (
    AlreadyActiveError,
    AlreadyEndedError,
    FaultParameters,
    Injection,
    InjectionPhase,
    NotEndedError,
    NotPossibleHereError,
    UnknownInjectionError,
)

MAX_DURATION_S: Final = 86_400.0
_RETRY_AFTER_S: Final = 2.0
_MAX_NOTE: Final = 500
_MAX_ERROR: Final = 2_000

_log = get_logger(__name__)


class ChaosManager:
    """All injections of one testbed. Thread-safe.

    Args:
        catalogue: all faults and noise events (harmless events) by name, also those that this machine cannot inject.
        ground: access to the testbed's processes, database, cache, network and flags.
        impossible: `{requirement of a fault: reason why this machine does not meet it}`; the requirements are `root`,
            `cgroup` and `mount`.
        clock: the clock for the times in injections.
    """

    def __init__(
        self, catalogue: Mapping[str, Injectable[Any]], ground: Ground, impossible: Mapping[str, str], clock: Clock
    ) -> None:
        self._catalogue = catalogue
        self._ground = ground
        self._impossible = impossible
        self._clock = clock
        self._all: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def catalogue(self) -> list[dict[str, Any]]:
        """Return the catalogue as JSON: one entry for each fault and noise event (harmless event).

        An entry has the fields of `Injectable.to_json`, and the field `impossible`. This is the reason why this machine
        cannot inject the fault or noise event; None if it can.
        """
        return [{**event.to_json(), "impossible": self._why_not(event)} for event in self._catalogue.values()]

    def inject(
        self, name: str, given: Mapping[str, Any], *, delay_s: float = 0.0, duration_s: float | None = None
    ) -> Injection:
        """Inject a fault or noise event (harmless event), at once or after a delay; return the new injection.

        Args:
            name: the name of the fault or noise event.
            given: the parameters by name, not yet validated.
            delay_s: time until the injection begins, in seconds.
            duration_s: time from the beginning of the injection until it is stopped, in seconds; None to wait for a
                request to stop it.

        Raises:
            UnknownFaultError: no fault or noise event has this name.
            WrongFaultParametersError: the parameters are invalid.
            AlreadyActiveError: an injection of the same fault is active or waiting for its beginning.
            NotPossibleHereError: this machine does not meet a requirement of the fault.
            UnavailableError: a component that the fault works on does not answer; the injection has failed and was
                undone. With a delay, this error is not raised, but stored in the injection.
        """
        event = find_in(self._catalogue, name)
        parameters = event.read_parameters(given)
        why_not = self._why_not(event)
        if why_not is not None:
            raise NotPossibleHereError(f"{name!r} cannot be injected on this machine: {why_not}.")
        injection = Injection(
            new_id(),
            name,
            parameters.model_dump(mode="json"),
            format_time(self._clock.now_us()),
            delay_s,
            duration_s,
        )
        running = _Running(injection, event, parameters, self._ground, self._clock)
        with self._lock:
            for other in self._all.values():
                if other.injection.fault == name and other.injection.is_open:
                    raise AlreadyActiveError(
                        f"{name!r} is {other.injection.phase.value} as {other.injection.injection_id}.",
                        remedy="Stop it first.",
                    )
            self._all[injection.injection_id] = running
        running.start()
        return running.injection

    def stop(self, injection_id: str) -> Injection:
        """End the injection with this id, and return it.

        Damage that followed from the injection may remain.

        Raises:
            UnknownInjectionError: no injection has this id.
            AlreadyEndedError: the injection has already ended.
            NotEndedError: a component that the injection works on does not answer; the injection continues.
        """
        return self._get(injection_id).end(InjectionPhase.STOPPED)

    def stop_fault(self, name: str) -> list[Injection]:
        """End all active and waiting injections of the fault or noise event with this name; return the ended ones.

        Raises:
            UnknownFaultError: the name is unknown.
            NotEndedError: the injection could not be ended; it continues. A fault has at most one open injection, so no
                other one was left.
        """
        find_in(self._catalogue, name)
        stopped: list[Injection] = []
        for injection in self.list():
            if injection.fault == name and injection.is_open:
                # The injection may end by itself between listing and stopping.
                with contextlib.suppress(AlreadyEndedError):
                    stopped.append(self.stop(injection.injection_id))
        return stopped

    def get(self, injection_id: str) -> Injection:
        """Return the injection with this id.

        Raises:
            UnknownInjectionError: no injection has this id.
        """
        return self._get(injection_id).injection

    def check(self, fault: str, injection_id: str) -> None:
        """Check that the injection with this id is an injection of this fault.

        Raises:
            UnknownInjectionError: no injection has this id, or it is an injection of another fault.
        """
        if self.get(injection_id).fault != fault:
            raise UnknownInjectionError(f"{injection_id[:100]!r} is not an injection of {fault[:100]!r}.")

    def list(self) -> list[Injection]:
        """Return all injections, newest first."""
        with self._lock:
            return [running.injection for running in reversed(self._all.values())]

    def forget(self) -> None:
        """End all injections and remove them from the list; called when a new episode begins.

        An injection that cannot be ended is removed too. An episode is one test of a responder. It begins with a reset
        of the testbed.
        """
        # Remove them from the list first: an injection that begins from now on belongs to the next episode.
        with self._lock:
            ended = list(self._all.values())
            self._all.clear()
        for running in ended:
            # Continue with the other injections; `end` has added a note to this injection.
            with contextlib.suppress(NotEndedError, AlreadyEndedError):
                running.end(InjectionPhase.STOPPED)
            running.close()

    def close(self) -> None:
        """End all injections, and wait for their threads."""
        self.forget()

    def _get(self, injection_id: str) -> _Running:
        with self._lock:
            found = self._all.get(injection_id)
        if found is None:
            raise UnknownInjectionError(f"There is no injection {injection_id[:100]!r}.")
        return found

    def _why_not(self, event: Injectable[Any]) -> str | None:
        return next((self._impossible[need] for need in event.needs if need in self._impossible), None)


class _Running:
    """Runs one injection.

    If the injection has a delay, ramp, period or duration, a thread controls it. The thread begins the injection after
    the delay, raises its strength in steps (ramp), switches it off and on (period), and ends it after the duration.

    Attributes:
        injection: the current state. Any thread may read it, because a change replaces the whole object.
    """

    def __init__(
        self, injection: Injection, event: Injectable[Any], parameters: FaultParameters, ground: Ground, clock: Clock
    ) -> None:
        self.injection = injection
        self._event = event
        self._parameters = parameters
        self._ground = ground
        self._clock = clock
        self._injector: Injector | None = None
        self._working = threading.Lock()
        self._ended = threading.Event()
        self._began_s = 0.0
        self._thread = threading.Thread(target=self._keep_times, name="injection", daemon=True)

    def start(self) -> None:
        """Begin the injection now. If it has a delay, a thread begins it after the delay.

        Raises:
            UnavailableError: a component does not answer; the injection has failed and was undone. Not raised if the
                injection has a delay.
        """
        if self.injection.delay_s == 0:
            self._begin()
        parameters = self._parameters
        if self.injection.delay_s > 0 or self.injection.duration_s or parameters.ramp_s > 0 or parameters.period_s > 0:
            self._thread.start()

    def end(self, phase: InjectionPhase) -> Injection:
        """End the injection, and return it with `phase` as its final phase.

        Args:
            phase: the final phase, such as `stopped` or `expired`.

        Raises:
            AlreadyEndedError: the injection has already ended.
            NotEndedError: the changes could not be undone; the injection stays active. The caller may call `end` again.
        """
        with self._working:
            if not self.injection.is_open:
                raise AlreadyEndedError(
                    f"{self.injection.injection_id} has already ended: it is {self.injection.phase.value}."
                )
            if self._injector is not None:
                try:
                    self._injector.end()
                except Exception as error:
                    self._note(error)
                    if not isinstance(error, RelabError):
                        _log.exception("injection_end_failed", fault=self.injection.fault)
                    raise NotEndedError(
                        f"{self.injection.fault!r} could not be ended: {error}",
                        remedy="Stop it again, or reset the testbed.",
                    ) from error
            self._change(phase=phase, ended_at=self._now())
            self._ended.set()
            return self.injection

    def close(self) -> None:
        """Stop the thread of this injection, and wait for its end. Do not undo the fault; that is the task of `end`."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep_times(self) -> None:
        if self.injection.delay_s > 0:
            if self._ended.wait(self.injection.delay_s):
                return
            try:
                self._begin()
            except Exception as error:  # noqa: BLE001 nothing waits for this thread; the injection has the error
                unexpected = None if isinstance(error, RelabError) else error
                _log.warning("injection_failed", fault=self.injection.fault, error=str(error), exc_info=unexpected)
                return
        duration_s = self.injection.duration_s
        self._vary(duration_s)
        if duration_s is not None and not self._waits_until(duration_s):
            self._expire()

    def _vary(self, duration_s: float | None) -> None:
        for at_s, level in _levels(self._parameters):
            if (duration_s is not None and at_s >= duration_s) or self._waits_until(at_s):
                return
            self._set_level(level)

    def _waits_until(self, at_s: float) -> bool:
        """Wait until `at_s` seconds after the injection began; return True if the injection ended during the wait."""
        return self._ended.wait(max(self._began_s + at_s - time.monotonic(), 0.0))

    def _begin(self) -> None:
        with self._working:
            if self.injection.phase is not InjectionPhase.WAITING:
                return
            given = self._parameters
            try:
                self._injector = self._event.injector(self._ground, given)
                self._injector.set_level(given.intensity if given.ramp_s == 0 else given.intensity / RAMP_STEPS)
            except BaseException as error:
                try:
                    # Undo first: while the injection counts as open, a stop or a reset waits for this.
                    if self._injector is not None:
                        self._injector.end()
                finally:
                    self._change(phase=InjectionPhase.FAILED, error=str(error)[:_MAX_ERROR], ended_at=self._now())
                    self._ended.set()
                raise
            self._began_s = time.monotonic()
            self._change(phase=InjectionPhase.ACTIVE, began_at=self._now())

    def _set_level(self, level: float) -> None:
        with self._working:
            if self.injection.phase is InjectionPhase.ACTIVE and self._injector is not None:
                try:
                    self._injector.set_level(level)
                except RelabError as error:
                    # A repair may have removed what the injector worked on; the injection has not failed.
                    self._note(error)
                except Exception as error:  # noqa: BLE001 the other steps, and the end, must follow
                    self._note(error)
                    _log.exception("injection_level_failed", fault=self.injection.fault)

    def _expire(self) -> None:
        while True:
            try:
                self.end(InjectionPhase.EXPIRED)
            except AlreadyEndedError:
                return
            except NotEndedError:
                if self._ended.wait(_RETRY_AFTER_S):
                    return
            else:
                return

    def _note(self, error: Exception) -> None:
        self._change(notes=(*self.injection.notes, f"{self._now()}: {error}"[:_MAX_NOTE]))

    def _change(self, **changes: Any) -> None:
        self.injection = replace(self.injection, **changes)

    def _now(self) -> str:
        return format_time(self._clock.now_us())


def _levels(given: FaultParameters) -> Iterator[tuple[float, float]]:
    """Yield the changes of an injection's strength after its beginning, as `(seconds since the beginning, level)`.

    `level` is the new strength, from 0 (off) to 1 (full). If the fault has a ramp, `level` first rises in steps to the
    fault's intensity. The first step is not yielded, because the injection begins with it. If the fault has a period,
    `level` then alternates between 0 and the intensity, without end.
    """
    if given.ramp_s > 0:
        for step in range(2, RAMP_STEPS + 1):
            yield given.ramp_s * (step - 1) / (RAMP_STEPS - 1), given.intensity * step / RAMP_STEPS
    at_s = given.ramp_s
    while given.period_s > 0:
        yield at_s + given.period_s * given.duty, 0.0
        at_s += given.period_s
        yield at_s, given.intensity
