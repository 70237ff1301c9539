"""Watch a project: start a pass (a build and its retries) at each interval. All passes share one budget of retries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from relab.builds.models import BuildStatus
from relab.core.errors import RelabError

if TYPE_CHECKING:
    from relab.builds.controller import BuildPass


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """The plan of a watch: when its passes (each a build and its retries) start, and how many retries they may make.

    Attributes:
        interval_s: the seconds between the starts of two passes. After a longer pass, the next one starts at once.
        retry_budget: the number of retries that the passes share. A pass that succeeds restores the full number.
        passes: the number of passes; if None, the watch runs until it is stopped.
    """

    interval_s: float
    retry_budget: int
    passes: int | None = None


class RetryBudget:
    """Counts the retries that all passes of a watch may still make. A pass is a build and its retries.

    Args:
        full: the number of retries at the start.

    Attributes:
        left: the number of retries that are left.
    """

    def __init__(self, full: int) -> None:
        self._full = self.left = full

    def use(self) -> None:
        """Reduce `left` by one, for one retry."""
        self.left -= 1

    def restore(self) -> None:
        """Set `left` to the number of retries at the start of the watch."""
        self.left = self._full


@dataclass(frozen=True, slots=True)
class WatchEvents:
    """Functions that a watch calls after each pass (a build and its retries).

    Attributes:
        on_pass: called with the result of a pass that raised no error; its builds may have failed.
        on_error: called with the error if the pass or `on_pass` raised one.
    """

    on_pass: Callable[[BuildPass], None] = lambda _done: None
    on_error: Callable[[RelabError], None] = lambda _error: None


def watch(build_once: Callable[[RetryBudget], BuildPass], plan: WatchPlan, *, stop: Event, events: WatchEvents) -> None:
    """Run passes (each a build and its retries) until the plan is completed or `stop` is set.

    A `RelabError` in a pass does not end the watch; other exceptions are raised.

    Args:
        build_once: runs one pass, and takes each of its retries from the given budget.
        plan: when passes start, how many there are, and their budget of retries.
        stop: when set, no further pass starts.
        events: functions to call after each pass.
    """
    budget, ran = RetryBudget(plan.retry_budget), 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            done = build_once(budget)
            if done.builds[-1].result.status is BuildStatus.SUCCESS:
                budget.restore()
            events.on_pass(done)
        except RelabError as error:
            events.on_error(error)
        ran += 1
        if ran == plan.passes:
            return
        stop.wait(max(started + plan.interval_s - time.monotonic(), 0))
