"""Running a coroutine from synchronous code, for at most so many seconds of wall-clock time.

An HTTP client's read timeout does not bound a call: a server that sends a byte now and
then resets it for ever. Cancelling a task does, since it closes the connection under it.
So a call gets an event loop of its own in a short-lived thread, and its task a deadline.
A loop per call needs no clean-up, and survives a fork; a call lasts seconds, so the price
of a new connection does not matter.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from relab.llm.errors import LlmUnavailableError

T = TypeVar("T")

_GRACE_S = 0.5
"""How much later than its deadline a task may report. Only a loop that is stuck takes longer."""


class DeadlineRunner:
    """Runs up to `max_concurrency` coroutines at once.

    What cancelling cannot stop is a thread inside the resolver of the C library. Such a
    thread outlives its call by the resolver's own timeout, and keeps its slot until then:
    so there are never more than `max_concurrency` of them.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._slots = threading.BoundedSemaphore(max_concurrency)

    def run(self, work: Callable[[float], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Return what `work(ends_at)` returns; `ends_at` is a time of `time.monotonic`.

        The coroutine runs in an empty context, so nothing that the caller's context carries
        (tracers, callbacks, spans) gets into it.

        Raises:
            LlmUnavailableError: the time was up, while waiting for a turn or while working.
            Exception: whatever the coroutine raised.
        """
        ends_at = time.monotonic() + timeout_s
        if not self._slots.acquire(timeout=timeout_s):
            raise LlmUnavailableError(
                f"No turn to ask the model came up within {timeout_s:g} s.", remedy="Raise max_concurrency."
            )
        result: Future[T] = Future()
        thread = threading.Thread(
            target=contextvars.Context().run,
            args=(self._work, work, ends_at, timeout_s, result),
            name="relab-llm",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            self._slots.release()
            raise
        try:
            return result.result(timeout=max(0.0, ends_at - time.monotonic()) + _GRACE_S)
        except TimeoutError:
            # A time-out of the work itself, or a result that came in the very last moment.
            if result.done():
                return result.result()
        raise _too_slow(timeout_s)

    def _work(
        self, work: Callable[[float], Coroutine[Any, Any, T]], ends_at: float, timeout_s: float, result: Future[T]
    ) -> None:
        try:
            asyncio.run(_deliver(work, ends_at, timeout_s, result))
        except BaseException as error:
            if result.done():
                raise
            result.set_exception(error)
        finally:
            self._slots.release()


async def _deliver(
    work: Callable[[float], Coroutine[Any, Any, T]], ends_at: float, timeout_s: float, result: Future[T]
) -> None:
    # Delivered from inside the loop: closing the loop can wait for the resolver, the caller must not.
    deadline = asyncio.timeout(ends_at - time.monotonic())
    failure: BaseException
    try:
        async with deadline:
            value = await work(ends_at)
    except BaseException as error:  # noqa: BLE001 raised in the caller's thread
        failure = error
    else:
        result.set_result(value)
        return
    result.set_exception(_too_slow(timeout_s) if deadline.expired() else failure)


def _too_slow(timeout_s: float) -> LlmUnavailableError:
    return LlmUnavailableError(f"The model did not answer within {timeout_s:g} s.")
