"""Decide which requests for actions are admitted; the rules are the same for all callers.

No function reads a clock. The current time is the time in the request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from relab.core.clock import parse_time
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.models import (
    WHOLE_SERVICE,
    ActionClass,
    ActionRequest,
    InProgressError,
    KeyReusedError,
    KillSwitchError,
    Record,
    Status,
    TooManyActionsError,
)

_US = 1_000_000


@dataclass(frozen=True)
class ActionLimits:
    """Rate limits of actions. Failed actions count; undos do not.

    Attributes:
        window_s: length of the time window of `max_per_window` and `max_per_part`, in seconds.
        max_per_window: maximum number of actions on the whole service in one window.
        max_per_part: maximum number of actions on one part of the service in one window.
        cooldown_s: minimum time between two requests for the same action on the same part, in seconds. After a failed
            action there is no cooldown.
    """

    window_s: float = 600.0
    max_per_window: int = 20
    max_per_part: int = 6
    cooldown_s: float = 5.0


class Guard:
    """Decides whether actions are admitted, and lets only one action at a time change a part of the service.

    Thread-safe.

    Args:
        audit: the audit log. Its records count for the rate limits, so a restart of the server does not reset them.
        limits: the rate limits.
    """

    def __init__(self, audit: AuditLog, limits: ActionLimits) -> None:
        self._audit = audit
        self._limits = limits
        self._lock = threading.Lock()
        self._writing: dict[str, str] = {}

    @property
    def is_stopped(self) -> bool:
        """Whether the kill switch is on; while it is on, the server rejects all actions that change anything."""
        return self._audit.is_stopped

    def known(self, request: ActionRequest) -> Record | None:
        """Return the record of an earlier request with the same caller and the same idempotency key as `request`.

        Return None if there was no such request, or if `request` has no key.

        Raises:
            KeyReusedError: the earlier request was for another action, or had other parameters.
        """
        if request.key is None:
            return None
        record = self._audit.by_key(request.actor, request.key)
        if record is not None and record.fingerprint != request.fingerprint:
            raise KeyReusedError(
                f"The Idempotency-Key {request.key[:100]!r} was used for {record.action!r} with other parameters.",
                remedy="Use a new key for each request.",
            )
        return record

    @contextmanager
    def admitted(self, request: ActionRequest) -> Iterator[None]:
        """Admit a request for an action; until the block ends, lock the parts of the service that the action changes.

        A request for an action that only reads is always admitted, and locks nothing.

        Raises:
            KillSwitchError: the kill switch is on.
            InProgressError: another action that changes one of the same parts is in progress.
            TooManyActionsError: a rate limit is reached, or the cooldown has not ended. Never raised for an undo.
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

    def check(self, request: ActionRequest) -> None:
        """Check that a request for an action would be admitted now; admit nothing, and lock no part of the service.

        Raises:
            KillSwitchError: the kill switch is on.
            InProgressError: another action that changes one of the same parts is in progress.
            TooManyActionsError: a rate limit is reached, or the cooldown has not ended.
        """
        if request.action.action_class is not ActionClass.READ:
            with self._lock:
                self._check(request)

    def _check(self, request: ActionRequest) -> None:
        if self.is_stopped:
            raise KillSwitchError(
                "The kill switch is on: only actions that read are accepted.", remedy="PUT /kill-switch turns it off."
            )
        for part, name in self._writing.items():
            if part == WHOLE_SERVICE or {WHOLE_SERVICE, part} & request.parts:
                raise InProgressError(f"{name!r} is running on {part!r}; only one action at a time may change it.")
        if request.is_undo:
            return
        limits, now = self._limits, request.at_us
        began_us = now - int(limits.window_s * _US)
        recent = [record for record in self._audit.since(began_us) if record.undoes is None]
        if len(recent) >= limits.max_per_window:
            raise self._too_many(f"{len(recent)} actions in {limits.window_s:g} s", recent, limits.max_per_window, now)
        same = [record for record in recent if record.part == request.part]
        if len(same) >= limits.max_per_part:
            said = f"{len(same)} actions on {request.part!r} in {limits.window_s:g} s"
            raise self._too_many(said, same, limits.max_per_part, now)
        last = next((record for record in same if record.action == request.action.name), None)
        if last is not None and last.status is not Status.FAILED:
            left = limits.cooldown_s - (now - _us(last)) / _US
            if left > 0:
                raise TooManyActionsError(
                    f"{last.action!r} was performed on {last.part!r} less than {limits.cooldown_s:g} s ago.",
                    retry_after_s=left,
                )

    def _too_many(self, said: str, records: list[Record], most: int, now: int) -> TooManyActionsError:
        frees = _us(records[most - 1]) + int(self._limits.window_s * _US)
        return TooManyActionsError(
            f"There were {said}; a person should investigate.", retry_after_s=max(frees - now, 0) / _US
        )


def _us(record: Record) -> int:
    return parse_time(record.requested_at)
