"""One event for all reasons to stop measuring: a person, the time budget, a lost lease, a worker that stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from threading import Event
from typing import Final

_SLICE_S: Final = 0.1


class HaltReason(StrEnum):
    """The reason why a measurement stops before its end.

    `stopped`: a person or a signal stopped the rollout. `worker`: the worker that executes the rollout stops. `budget`:
    the rollout's time budget is used up. `lease`: this process lost the lease, which is the right to change the target's
    flags.
    """

    STOPPED = "stopped"
    WORKER = "worker"
    BUDGET = "budget"
    LEASE = "lease"

    @property
    def sentence(self) -> str:
        """Return one sentence that says how the rollout ended."""
        sentences = {
            HaltReason.STOPPED: "The rollout was stopped before its end.",
            HaltReason.WORKER: "The worker stops; another worker continues the rollout.",
            HaltReason.BUDGET: "The time budget of the rollout is over.",
            HaltReason.LEASE: "The rollout lost the lease of its target.",
        }
        return sentences[self]


class JobStop(Event):
    """An event that is set when a worker must stop a rollout: a person has requested it, or the worker itself stops.

    Args:
        worker: the event that is set when the worker stops.
    """

    def __init__(self, worker: Event) -> None:
        super().__init__()
        self._worker = worker

    @property
    def is_requested(self) -> bool:
        """Whether a person has requested to stop the rollout."""
        return super().is_set()

    def is_set(self) -> bool:
        """Return whether a person has requested to stop the rollout, or the worker stops."""
        return self.is_requested or self._worker.is_set()


class Halt(Event):
    """An event that is set when the measurement must stop.

    The reasons are a person, a worker that stops, a used-up time budget, or a lost lease.

    Args:
        stop: set by a person or a signal; a `JobStop` is also set by a worker that stops.
        budget_s: the time budget: seconds from now until the event is set; 0 for no limit.
        still_leased: returns whether this process holds the lease of the target. After the first False, the event stays
            set.
    """

    def __init__(self, stop: Event, *, budget_s: float, still_leased: Callable[[], bool]) -> None:
        super().__init__()
        self._stop = stop
        self._still_leased = still_leased
        self._ends_s = time.monotonic() + budget_s if budget_s else None
        self._is_unleased = False

    @property
    def reason(self) -> HaltReason | None:
        """The reason to stop the measurement; None while there is no reason."""
        if self._stop.is_set():
            is_of_worker = isinstance(self._stop, JobStop) and not self._stop.is_requested
            return HaltReason.WORKER if is_of_worker else HaltReason.STOPPED
        # A lease that had expired can be extended again, but the measurement has been stopped by then.
        self._is_unleased = self._is_unleased or not self._still_leased()
        if self._is_unleased:
            return HaltReason.LEASE
        if self._ends_s is not None and time.monotonic() >= self._ends_s:
            return HaltReason.BUDGET
        return None

    def is_set(self) -> bool:
        """Return whether the measurement must stop, because it has a `reason`."""
        return self.reason is not None

    def left_s(self) -> float | None:
        """Return how many seconds of the time budget are left, at least 0; None without a budget."""
        return None if self._ends_s is None else max(self._ends_s - time.monotonic(), 0.0)

    def sleep(self, seconds: float) -> bool:
        """Wait for `seconds`; return True after this time, or False as soon as there is a reason to stop."""
        ends_s = time.monotonic() + seconds
        while not self.is_set():
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                return True
            self._stop.wait(min(left_s, _SLICE_S))
        return False
