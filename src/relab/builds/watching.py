"""Watch a project: run one pass (a build and its retries) per interval, with a budget of retries for all passes together."""

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
        retry_budget: the number of retries in all passes together; a pass that succeeds restores the full number.
        passes: the number of passes; None: the watch runs until it is stopped.
    """

    interval_s: float
    retry_budget: int
    passes: int | None = None


class RetryBudget:
    """The number of retries that the passes of a watch may still make together. A pass is a build and its retries.

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
        """Set `left` to the number at the start."""
        self.left = self._full


@dataclass(frozen=True, slots=True)
class WatchEvents:
    """Functions that are called after a pass (a build and its retries).

    Attributes:
        on_pass: is called with a pass that ended without an error.
        on_error: is called with the error that ended a pass, or that `on_pass` raised.
    """

    on_pass: Callable[[BuildPass], None] = lambda _done: None
    on_error: Callable[[RelabError], None] = lambda _error: None


def watch(build_once: Callable[[RetryBudget], BuildPass], plan: WatchPlan, *, stop: Event, events: WatchEvents) -> None:
    """Run passes (each a build and its retries) until the plan is completed or `stop` is set.

    An error in one pass does not end the others.

    Args:
        build_once: runs one pass within the given budget, and takes each retry from this budget.
        plan: when passes start, how many there are, and their budget of retries.
        stop: ends the watch when set.
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
