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
    """When the passes (each a build and its retries) of a watch start, and how many retries they may make.

    Attributes:
        interval_s: the seconds between the starts of two passes. After a longer pass, the next one starts at once.
        retry_budget: the number of retries in all passes together; a pass that succeeds restores the full number. The
            retries of a pass that ends with an error are not counted.
        passes: the number of passes; None for no end.
    """

    interval_s: float
    retry_budget: int
    passes: int | None = None


@dataclass(frozen=True, slots=True)
class WatchEvents:
    """Functions that are called after a pass (a build and its retries).

    Attributes:
        on_pass: is called with a pass that ended without an error.
        on_error: is called with the error that ended a pass.
    """

    on_pass: Callable[[BuildPass], None] = lambda _done: None
    on_error: Callable[[RelabError], None] = lambda _error: None


def watch(build_once: Callable[[int], BuildPass], plan: WatchPlan, *, stop: Event, events: WatchEvents) -> None:
    """Run passes (each a build and its retries) until the plan is completed or `stop` is set.

    An error in one pass does not end the others.

    Args:
        build_once: runs one pass with at most the given number of retries.
        plan: when passes start, how many there are, and their budget of retries.
        stop: ends the watch when set.
        events: functions to call after each pass; an error that one of them raises ends the watch.
    """
    left, ran = plan.retry_budget, 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            done = build_once(left)
        except RelabError as error:
            events.on_error(error)
        else:
            is_success = done.builds[-1].result.status is BuildStatus.SUCCESS
            left = plan.retry_budget if is_success else left - (len(done.builds) - 1)
            events.on_pass(done)
        ran += 1
        if ran == plan.passes:
            return
        stop.wait(max(started + plan.interval_s - time.monotonic(), 0))
