"""Restore the flags of a target after a measurement, an error or a signal, or after the rollout's process has died."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

from relab.core.logging import get_logger
from relab.rollouts.errors import (
    FlagsChangedError,
    FlagsNotRestoredError,
    FlagsRejectedError,
    SubjectError,
    TargetUnavailableError,
)
from relab.rollouts.record import AuditEntry, OpenChange, RolloutRecord
from relab.rollouts.targets.protocol import FlagTarget, change_flags

_PAUSE_S: Final = 0.2

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RestoredFlags:
    """The result of restoring the flags that a rollout may have changed.

    Attributes:
        restored: whether the flags have their earlier values.
        message: what happened, in one sentence.
    """

    restored: bool
    message: str


def audit_after(record: RolloutRecord, change: OpenChange, result: RestoredFlags) -> tuple[AuditEntry, ...]:
    """Return the audit of a rollout after an attempt to restore its flags: its entries so far, and perhaps a new one.

    `change` is the unfinished change of flags. If it belongs to a person's rollback, and the flags are now restored,
    the entry of this rollback is added.
    """
    return record.audit if change.rollback is None or not result.restored else (*record.audit, change.rollback)


def restore_flags(
    flags: FlagTarget,
    change: OpenChange,
    *,
    within_s: float,
) -> RestoredFlags:
    """Restore the flags that a rollout may have changed, and read them back.

    If another client has changed the flags, its change stays, and `restored` of the result is false.

    Args:
        flags: the flags of the target.
        change: the values that the rollout may have set, and the inverse change.
        within_s: how long to retry, in seconds, after the errors `TargetUnavailableError`, `SubjectError` and
            `FlagsChangedError`, and how long the target may take until the flags are in force.

    Raises:
        TargetUnavailableError: the target does not answer within `within_s`. The flags may still be changed.
        SubjectError: the answers of the target have no usable version of the flags, so they cannot be changed safely.
        FlagsNotAppliedError: the target accepts the inverse change, but then reports other flags until `within_s` is
            over.
        FlagsNotRestoredError: the target rejects the inverse change, and the flags are still changed.
        FlagsChangedError: other clients change the flags again and again until `within_s` is over.
    """
    ends_s = time.monotonic() + within_s
    own = [*change.values, change.inverse]
    while True:
        try:
            state = flags.read()
            found = [replace(state, value=value, others=()) for value in state.values]
            if not all(any(flags.holds(part, value) for value in own) for part in found):
                message = "The flags were changed by another client during the rollout; that change stays."
                _log.warning("rollout_flags_changed", target=flags.name)
                return RestoredFlags(False, message)
            # Sent even if the flags seem unchanged: it invalidates a change that the target has not
            # processed yet.
            change_flags(flags, change.inverse, expected=state.version, within_s=within_s, repeats=True)
        except FlagsRejectedError as error:
            # For example, a credential has expired: without this, no later rollout could ever begin.
            if not flags.holds(state, change.inverse):
                raise FlagsNotRestoredError(error.message, remedy="Run the printed rollback command.") from error
            return RestoredFlags(True, "The flags have their earlier values; the target accepts no change.")
        except (FlagsChangedError, TargetUnavailableError, SubjectError):
            # A single answer without the version of the flags may come from a proxy.
            if time.monotonic() >= ends_s:
                raise
        else:
            return RestoredFlags(True, "The flags have their earlier values.")
        time.sleep(_PAUSE_S)
