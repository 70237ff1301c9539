"""Set the flags of an arm, and notice changes by other clients."""

from __future__ import annotations

from relab.core.json import JsonValue, equal_json
from relab.rollouts.errors import FlagsChangedError
from relab.rollouts.targets.protocol import FlagState, FlagTarget, change_flags, shown_values
from relab.rollouts.targets.retries import RetryLog, repeated


class FlagSwitch:
    """Changes the flags of a target during a rollout, unless another client has changed them.

    Args:
        flags: the flags of the target.
        state: the current flags, as the rollout last read them.
        within_s: how long the target may take until a change is in force, in seconds.
        retries: records the repeated changes.
    """

    def __init__(
        self, flags: FlagTarget, state: FlagState, *, within_s: float, retries: RetryLog | None = None
    ) -> None:
        self._flags = flags
        self._state = state
        self._within_s = within_s
        self._retries = retries or RetryLog()

    def set(self, wanted: JsonValue) -> None:
        """Change the flags to `wanted` and read them back; do nothing if `wanted` is in force already.

        After a temporary failure of the target, read the flags again, and repeat the change if it was not made.

        Raises:
            FlagsChangedError: another client has changed the flags since this rollout last read or set them, or parts
                of the target report different ones.
            FlagsNotAppliedError: the flags are not in force within `within_s` seconds.
            FlagsRejectedError: the target rejects the change as invalid, or all changes (`ChangesForbiddenError`).
            TargetUnavailableError: the target does not answer.
        """
        is_sent = False

        def attempt() -> FlagState:
            nonlocal is_sent
            state = self._flags.read()
            # A target may make a change and then fail to answer.
            if not (is_sent and self._flags.holds(state, wanted)):
                self._require_own(state)
            if self._flags.holds(state, wanted) and state.is_applied:
                return state
            is_sent = True
            return change_flags(self._flags, wanted, expected=state.version, within_s=self._within_s)

        self._state = repeated(attempt, self._retries)

    def check(self) -> FlagState:
        """Check that the flags are still as this rollout last read or set them, and return them.

        Raises:
            FlagsChangedError: another client has changed the flags, or parts of the target report different ones.
            TargetUnavailableError: the target does not answer.
        """
        found = self._flags.read()
        self._require_own(found)
        return found

    def _require_own(self, found: FlagState) -> None:
        if found.others:
            raise FlagsChangedError(
                f"The flags of {self._flags.name} are not the same in all processes ({shown_values(found)}).",
                remedy="Repeat the rollout while nothing else changes the flags, on a service whose processes share them.",
            )
        if found.version != self._state.version or not equal_json(found.value, self._state.value):
            raise FlagsChangedError(
                f"Another client changed the flags of {self._flags.name} during the rollout.",
                remedy="Repeat the rollout while nothing else changes the flags.",
            )
