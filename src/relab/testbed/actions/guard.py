"""Decide which actions are admitted now, by rules that hold for every caller. The time comes with each request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from relab.core.clock import parse_time
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.models import (
    ALL_TARGETS,
    ActionClass,
    InProgressError,
    KeyReusedError,
    Record,
    Request,
    Status,
    StoppedError,
    TooManyActionsError,
)

_US = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Rate limits of actions.

    Attributes:
        window_s: length of the window for the two counts below.
        most_in_window: maximum number of actions on the whole service.
        most_on_target: maximum number of actions on one part of it.
        cooldown_s: minimum time between two runs of the same action on the same part.
    """

    window_s: float = 600.0
    most_in_window: int = 20
    most_on_target: int = 6
    cooldown_s: float = 5.0


class Guard:
    """Decides about requests, and admits one writer at a time to each part of the service.

    Args:
        audit: the actions so far; it survives a restart of the server.
        limits: the rate limits.
    """

    def __init__(self, audit: AuditLog, limits: Limits) -> None:
        self._audit = audit
        self._limits = limits
        self._lock = threading.Lock()
        self._writing: dict[str, str] = {}

    @property
    def is_stopped(self) -> bool:
        """Whether the kill switch is on."""
        return self._audit.is_stopped

    def known(self, request: Request) -> Record | None:
        """Return the record of an earlier request with the same key, if there was one.

        Raises:
            KeyReusedError: the key was used for another action or other parameters.
        """
        if request.key is None:
            return None
        record = self._audit.by_key(request.actor, request.key)
        if record is not None and record.fingerprint != request.fingerprint:
            raise KeyReusedError(
                f"The Idempotency-Key {request.key[:100]!r} was used for {record.action!r} with other parameters.",
                remedy="Make a new key for each thing that you want.",
            )
        return record

    @contextmanager
    def admitted(self, request: Request) -> Iterator[None]:
        """Lock the parts of the service that a request changes until the block ends; reads need no lock.

        Raises:
            StoppedError, InProgressError, TooManyActionsError: the request is not admitted now.
        """
        if request.action.action_class is ActionClass.READ:
            yield
            return
        with self._lock:
            self._check(request)
            self._writing |= dict.fromkeys(request.parts, request.action.name)
        try:
            yield
        finally:
            with self._lock:
                for part in request.parts:
                    del self._writing[part]

    def check(self, request: Request) -> None:
        """Check whether a request would be admitted now.

        Raises:
            StoppedError, InProgressError, TooManyActionsError: it would not be.
        """
        if request.action.action_class is not ActionClass.READ:
            with self._lock:
                self._check(request)

    def _check(self, request: Request) -> None:
        if self.is_stopped:
            raise StoppedError("The kill switch is on: no action is done.", remedy="PUT /kill-switch ends that.")
        for target, name in self._writing.items():
            if target == ALL_TARGETS or {ALL_TARGETS, target} & request.parts:
                raise InProgressError(f"{name!r} is at work on {target!r}; one action at a time.")
        if request.is_undo:
            return
        limits, now = self._limits, request.at_us
        began_us = now - int(limits.window_s * _US)
        recent = [record for record in self._audit.since(began_us) if record.undoes is None]
        if len(recent) >= limits.most_in_window:
            raise self._too_many(f"{len(recent)} actions in {limits.window_s:g} s", recent, limits.most_in_window, now)
        same = [record for record in recent if record.target == request.target]
        if len(same) >= limits.most_on_target:
            said = f"{len(same)} actions on {request.target!r} in {limits.window_s:g} s"
            raise self._too_many(said, same, limits.most_on_target, now)
        last = next((record for record in same if record.action == request.action.name), None)
        if last is not None and last.status is not Status.FAILED:
            left = limits.cooldown_s - (now - _us(last)) / _US
            if left > 0:
                raise TooManyActionsError(
                    f"{last.action!r} was done to {last.target!r} less than {limits.cooldown_s:g} s ago.",
                    retry_after_s=left,
                )

    def _too_many(self, said: str, records: list[Record], most: int, now: int) -> TooManyActionsError:
        frees = _us(records[most - 1]) + int(self._limits.window_s * _US)
        return TooManyActionsError(f"There were {said}; a person should look.", retry_after_s=max(frees - now, 0) / _US)


def _us(record: Record) -> int:
    return parse_time(record.requested_at)
