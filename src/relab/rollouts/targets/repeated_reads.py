"""Read a flag by several requests, to detect that the processes of a service have different values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relab.rollouts.targets.protocol import FlagState, distinct_values

_THOROUGH: Final = 8
"""The factor of `reads` for a thorough read: with 5 reads, a value in one of four processes is missed in 1 of 100,000
cases."""


class RepeatedReader:
    """Reads a flag by several requests, each over its own connection, and joins the answers.

    A service may have several processes at one address, and a common mistake is to keep the flag in the memory of each.
    The first read is thorough: it sends eight times as many requests, because an earlier change may have reached only
    some of the processes. A read that follows a read with different answers is thorough, too. A thorough read ends
    early if the first answers differ.

    Args:
        read_at_once: sends the given number of requests, and returns the state of the flag in each answer.
        reads: number of requests of a normal read. With 1, no read is thorough: each read is a single request.
    """

    def __init__(self, read_at_once: Callable[[int], list[FlagState]], reads: int) -> None:
        self._read_at_once = read_at_once
        self._reads = reads
        self._is_thorough = True

    def read(self) -> FlagState:
        """Read the flag by several requests, and return its state.

        If the answers report different values, `value` of the state is the first one, and `others` has the others.
        """
        states = self._read_at_once(self._reads)
        state = _joined(states)
        if self._is_thorough and self._reads > 1 and not state.others:
            state = _joined([*states, *self._read_at_once(self._reads * (_THOROUGH - 1))])
        self._is_thorough = bool(state.others)
        return state


def _joined(states: list[FlagState]) -> FlagState:
    """Join the states of the flag in several answers into one state.

    `value` is the first value, and `others` are all values that differ from it, without repetitions.
    """
    first, *others = distinct_values(value for state in states for value in state.values)
    version = states[0].version
    is_applied = not others and all(state.is_applied and state.version == version for state in states)
    return FlagState(first, version, is_applied, tuple(others))
